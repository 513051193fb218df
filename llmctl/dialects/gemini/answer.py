"""Answers in the Gemini dialect: whole, streamed as events (`alt=sse`) or as one JSON list."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from ...domain.call import Reading
from ..base import InputText
from ..openai.answer import NOT_JSON, OVERSIZED
from ..request import Request
from ..wire.json_items import ItemSplitter
from ..wire.lenient import USAGE_BYTES_MAX, inner, is_present, items, members, name_of, plain
from ..wire.sse import Event, Splitter
from ..wire.stream import SseReader, begins_events, objects_in
from ..wire.texts import put_together
from .usage import PREDICTED, billed_searches, encoded, merge_usage, read_usage, served_tier

EMBEDDINGS = frozenset({"embedContent", "batchEmbedContents", "predict"})
NOTHING = Raw(b"{}")
_CHARACTERS = "billableCharacterCount"
_QUERIES = ("webSearchQueries", "imageSearchQueries")
_WEB_SOURCES = {"web", "image"}
_TEXTS = ("text", "output", "code", "content", "title")  # the second and third of code, the last two of Vertex AI
_JSON_STARTS = (b"[", b"{")


def read_answer(endpoint: str, body: bytes) -> Reading:
    """What a whole answer says. A stream's text is read as one, whatever was asked for."""
    values = members(body)
    if not values:
        if begins_events(body) or body.lstrip().startswith(b"["):
            return GeminiReader(endpoint).read(body)
        return Reading(error=NOT_JSON if body.strip() else "")
    facts = Facts(endpoint)
    facts.read(values)
    if "predictions" in values:
        facts.usage = _predicted(values)
    facts.finished = True
    return facts.reading("" if facts.usage else _text(plain(body).get("candidates")), 1.0)


class GeminiReader(SseReader):
    """A stream of answers, each with a part of the text and the usage up to there."""

    end_words = (b"",)  # each says what it used
    output_mark = re.compile(rb'"(?:text|functionCall|inlineData|executableCode)"\s*+:')

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._facts = Facts(endpoint)
        self._started = False

    def feed(self, chunk: bytes) -> bytes:
        if not self._started and (start := chunk.lstrip()[:1]):
            self._started = True
            if start in _JSON_STARTS:
                self._splitter = ItemSplitter()
        return super().feed(chunk)

    def take(self, event: Event) -> bool:
        self._facts.read(members(event.data or event.error))
        if b"error" in event.raw and (event.name == b"error" or event.error):
            self._facts.error = self._facts.error or "error"
        return False

    def result(self, beginning: bytes, share: float) -> Reading:
        facts = self._facts
        if self.oversized and not facts.usage:
            facts.error = facts.error or OVERSIZED
        if facts.finished and facts.usage:
            return facts.reading("", share)
        return facts.reading("".join(stream_texts(beginning)), share)


class Facts:
    """What was read so far. `finished`: the answer gave the reason why it ended."""

    def __init__(self, endpoint: str) -> None:
        self._generates = endpoint not in EMBEDDINGS
        self._queries: set[str] = set()
        self._from_web = self._from_maps = False
        self._model = ""
        self.usage: dict[str, Raw] = {}
        self.error = ""
        self.finished = False

    def read(self, values: dict[str, Raw]) -> None:
        self._model = name_of(values.get("modelVersion")) or self._model
        usage = values.get("usageMetadata")
        if is_present(usage) and len(usage) <= USAGE_BYTES_MAX:
            merge_usage(self.usage, members(usage))
        candidates = values.get("candidates")
        if candidates is not None:
            text = bytes(candidates)
            self.finished = self.finished or b'"finishReason"' in text
            if b'"groundingMetadata"' in text:
                self._read_grounding(candidates)
        elif "promptFeedback" in values:  # blocked: there is nothing to answer
            self.finished = True
        error = values.get("error")
        if is_present(error):
            inner = members(error)
            self.error = name_of(inner.get("status")) or "error"

    def reading(self, output_text: str, share: float) -> Reading:
        raw = encoded(self.usage)
        searches = billed_searches(self._queries, self._model, web=self._from_web, maps=self._from_maps)
        usage = read_usage(raw, generates=self._generates, searches=searches) if raw else None
        return Reading(
            usage=usage,
            raw_usage=raw if usage is not None else b"",
            response_model=self._model,
            service_tier=served_tier(raw) if raw else "",
            error=self.error,
            finished=self.finished,
            output_text=output_text,
            output_seen_share=share,
        )

    def _read_grounding(self, candidates: Raw) -> None:
        for candidate in items(candidates):
            grounding = plain(members(candidate).get("groundingMetadata", b"{}"))
            for name in _QUERIES:
                found = grounding.get(name)
                if isinstance(found, list):
                    self._queries.update(query for query in found if isinstance(query, str) and query.strip())
            sources = _sources(grounding.get("groundingChunks"))
            self._from_maps = self._from_maps or "maps" in sources
            # Google wants its suggestions shown with what a search found: an answer from Maps alone has none.
            self._from_web = self._from_web or bool(sources & _WEB_SOURCES or grounding.get("searchEntryPoint"))


def _sources(chunks: object) -> set[str]:
    """The kinds of what an answer refers to: "web", "maps", ..."""
    found = chunks if isinstance(chunks, list) else []
    return {name for chunk in found if isinstance(chunk, dict) for name, source in chunk.items() if source}


def _predicted(values: dict[str, Raw]) -> dict[str, Raw]:
    """Vertex AI states usage beside each vector, and the characters that its older models bill in the metadata."""
    tokens = []
    for prediction in items(values["predictions"]):
        vector = members(members(prediction).get("embeddings", NOTHING))
        stated = members(vector.get("statistics", NOTHING)).get(PREDICTED)
        if is_present(stated):
            tokens.append(stated)
    if not tokens:
        return {}
    characters = members(values.get("metadata", NOTHING)).get(_CHARACTERS)
    usage = {PREDICTED: Raw(b"[%b]" % b",".join(map(bytes, tokens)))}
    return usage if characters is None else {**usage, _CHARACTERS: characters}


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    answers = objects_in(stream, ItemSplitter() if stream.lstrip()[:1] in _JSON_STARTS else Splitter())
    lists = (found for answer in answers if isinstance(found := answer.get("candidates"), list))
    return put_together(
        ((candidate.get("index"), _is_thought(candidate)), _text(candidate))
        for candidates in lists
        for candidate in candidates
        if isinstance(candidate, dict)
    )


def _is_thought(candidate: dict[str, Any]) -> bool:
    parts = inner(candidate, "content").get("parts")
    return isinstance(parts, list) and any(isinstance(part, dict) and part.get("thought") is True for part in parts)


def input_text(request: Request) -> InputText:
    """The text of a request. Costs a full parse."""
    body = plain(request.body)
    messages = []
    instruction = body.get("systemInstruction") or body.get("system_instruction")
    if instruction:
        messages.append(("system", _text(instruction)))
    contents = body.get("contents") or body.get("content") or body.get("requests") or body.get("instances")
    for content in contents if isinstance(contents, list) else [contents]:
        role = content.get("role") if isinstance(content, dict) else None
        messages.append((role if isinstance(role, str) else "user", _text(content)))
    tools = members(request.body).get("tools")
    schema = bytes(tools).decode("utf-8", "replace") if tools is not None else ""
    return InputText(tuple(messages), schema, framed=request.ask.generates)


def _text(value: Any, depth: int = 0) -> str:
    """The strings of parts, in the order in which they stand; arguments and results of functions too."""
    if depth > 12:
        return ""
    if isinstance(value, list):
        return "".join(_text(item, depth + 1) for item in value)
    if not isinstance(value, dict):
        return ""
    parts = []
    for name, inside in value.items():
        if name in _TEXTS and isinstance(inside, str):
            parts.append(inside)
        elif name in ("functionCall", "function_call", "functionResponse", "function_response"):
            parts.append(msgspec.json.encode(inside, enc_hook=str).decode())
        elif isinstance(inside, dict | list):
            parts.append(_text(inside, depth + 1))
    return "".join(parts)
