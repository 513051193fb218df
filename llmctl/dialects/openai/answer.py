"""Answers in the OpenAI dialect, whole and streamed."""

from __future__ import annotations

import re

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from ...domain.call import Reading
from ...domain.price import STANDARD_TIERS, VIA
from ...domain.usage import Usage
from ..reported_cost import reported_cost_nano_usd
from ..stored import CONTAINERS, ID, first_id, part_ids
from ..wire.lenient import USAGE_BYTES_MAX, is_present, items, members, name_of, plain, short_name
from ..wire.sse import Event, Splitter
from ..wire.stream import SseReader, begins_events
from .media_answer import FINAL_TYPES as MEDIA_TYPES
from .media_answer import TEXT_ANSWERS, media_usage
from .media_request import MEDIA
from .text import answer_text, stream_texts
from .usage import INPUT_NAMES, OUTPUT_NAMES, count_tool_calls, read_usage, read_usual, states

NOT_JSON = "not_json"
OVERSIZED = "event_too_large"

_FINAL_TYPES = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"response.cancelled"')
# Whose answers can be asked for again; the others of a response's endpoints tell of no response.
_RESPONSES = frozenset({"responses", "responses.retrieve", "responses.cancel"})
CHAT = "chat.completions"
_SPOKEN = re.compile(rb'"audio"\s*+:\s*+\{[^{}]*?"id"\s*+:\s*+"([A-Za-z0-9_-]{1,200})"')
_DONE = b"[DONE]"
_FINISH_REASON = re.compile(rb'"finish_reason"\s*+:\s*+"')


class _UsualAnswer(Struct, gc=False):
    """A chat's answer, as most are: what else decides money or attribution is not there."""

    model: str
    usage: Raw
    choices: Raw
    service_tier: str | None = None
    error: None = None
    # Of these, any says something more.
    type: UnsetType = UNSET
    response: UnsetType = UNSET
    provider: UnsetType = UNSET
    output: UnsetType = UNSET
    tool_usage: UnsetType = UNSET


_usual_answer = Decoder(_UsualAnswer).decode


def read_answer(endpoint: str, body: bytes) -> Reading:
    """What a whole answer says. A stream's text is read as one, whatever was asked for."""
    if endpoint == CHAT and (usual := _read_usual_answer(body)) is not None:
        return usual
    values = members(body)
    if not values:
        if begins_events(body):
            return OpenAiReader(endpoint).read(body)
        is_text = endpoint in TEXT_ANSWERS and bool(body.strip())
        return Reading(error="" if is_text or not body.strip() else NOT_JSON, finished=is_text)
    facts = Facts(endpoint)
    facts.read(values)
    facts.finished = True
    return facts.reading("" if facts.is_told else answer_text(values), 1.0)


def _read_usual_answer(body: bytes) -> Reading | None:
    """None: it has to be read as any may be."""
    try:
        answer = _usual_answer(body)
    except (ValueError, RecursionError):
        return None
    if len(answer.usage) > USAGE_BYTES_MAX or b'"audio"' in body:
        return None
    usage = read_usual(answer.usage)
    if usage is None or not (usage.input_tokens and usage.output_tokens):
        return None
    tier = answer.service_tier or ""
    return Reading(usage, bytes(answer.usage), short_name(answer.model), short_name(tier), finished=True)


class OpenAiReader(SseReader):
    """A stream of chunks (chat, completions) or of events with a type (responses)."""

    output_mark = re.compile(
        rb'"(?:content|text|reasoning|reasoning_content|arguments|refusal|delta|transcript)"\s*+:\s*+"[^"]'
        rb'|"tool_calls"\s*+:\s*+\[\{'
    )

    def __init__(self, endpoint: str, *, strip: bool = False) -> None:
        super().__init__(strip=strip)
        self.end_words = MEDIA_TYPES if endpoint in MEDIA else _FINAL_TYPES if endpoint in _RESPONSES else (_DONE,)
        self._endpoint = endpoint
        self._facts = Facts(endpoint)

    def take(self, event: Event) -> bool:
        data = event.data
        if data == _DONE:
            self._facts.finished = True
            return False
        whole_answer = event.raw.lstrip().startswith(b"{")  # asked for a stream, got none
        values = members(event.raw if whole_answer else data or event.error)
        if not values:
            return False
        self._facts.read(values)
        # Some servers send no [DONE]; then usage comes with, or after, the reason why the answer ended.
        choices = values.get("choices")
        last = choices is not None and not items(choices)
        usage = is_present(values.get("usage"))
        if whole_answer or (usage and (last or _FINISH_REASON.search(event.raw) is not None)):
            self._facts.finished = True
        if event.name == b"error" or event.error:
            self._facts.error = self._facts.error or "error"
        # The event that include_usage adds. Azure's without choices is a filter's result and stays.
        return self._strip and last and usage and not whole_answer

    def result(self, beginning: bytes, share: float) -> Reading:
        facts = self._facts
        if facts.usage is None and beginning.lstrip().startswith(b"{") and share == 1.0:
            return read_answer(self._endpoint, beginning)
        if not facts.model or (facts.keeps and not facts.object_id):
            facts.read_beginning(beginning)
        if self._endpoint == CHAT:
            facts.read_spoken(beginning)
        if facts.usage is None and self.oversized:
            facts.error = facts.error or OVERSIZED
        return facts.reading("" if facts.is_told else "".join(stream_texts(beginning)), share)


class Facts:
    """What was read so far; of two usage objects the later one counts."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._generates = endpoint != "embeddings"
        self.keeps = endpoint in _RESPONSES
        self.object_id = ""
        self.status = ""
        self.part_ids: tuple[str, ...] = ()
        self._raw = b""
        self.usage: Usage | None = None
        self.model = ""
        self.tier = ""
        self._behind = ""  # OpenRouter: who served it, each at prices of its own
        self.error = ""
        self.finished = False

    def read(self, values: dict[str, Raw]) -> None:
        """Takes in a whole answer, a chunk, or an event around a response."""
        kind = bytes(values.get("type", b""))
        holder = members(values["response"]) if "response" in values else values
        self.model = name_of(holder.get("model")) or self.model
        self.tier = name_of(holder.get("service_tier")) or self.tier
        if "provider" in holder:
            self._behind = name_of(holder["provider"])
        self._read_usage(holder)
        self._read_error(values if is_present(values.get("error")) or kind == b'"error"' else holder, kind)
        if kind in _FINAL_TYPES or kind in MEDIA_TYPES:
            self.finished = True
        if self.keeps:
            self._read_object(holder)
        elif self._endpoint == CHAT and "choices" in holder:
            self.read_spoken(bytes(holder["choices"]))

    @property
    def is_told(self) -> bool:
        """Usage was stated, and for all of it: the text counts for nothing."""
        if self.usage is None or not self.finished:
            return False
        if not self._generates or self._endpoint in MEDIA:
            return True
        if self.usage.input_tokens > 0 and self.usage.output_tokens > 0:
            return True
        # Zeros that are stated count: OpenAI itself answers so at times.
        values = plain(self._raw)
        states_input = self.usage.input_tokens > 0 or states(values, INPUT_NAMES)
        return states_input and (self.usage.output_tokens > 0 or states(values, OUTPUT_NAMES))

    def read_beginning(self, beginning: bytes) -> None:
        """What the first event tells, of a stream whose end did not."""
        for event in Splitter().feed(beginning):
            values = members(event.data)
            holder = members(values["response"]) if "response" in values else values
            self.tier = self.tier or name_of(holder.get("service_tier"))
            self.model = self.model or name_of(holder.get("model"))
            if self.keeps and not self.object_id:
                self._read_object(holder)
            if self.model:
                break
        if self.keeps and not self.object_id:
            self.object_id = first_id(beginning)  # of an event longer than what was kept

    def reading(self, output_text: str, share: float) -> Reading:
        return Reading(
            usage=self.usage,
            raw_usage=self._raw,
            response_model=self.model,
            service_tier=self._served(),
            reported_cost_nano_usd=reported_cost_nano_usd(self._raw) if b'"cost' in self._raw else None,
            error=self.error,
            finished=self.finished,
            output_text=output_text,
            output_seen_share=share,
            object_id=self.object_id,
            status=self.status,
            part_ids=self.part_ids,
        )

    def _served(self) -> str:
        """Which of several services at different prices it was."""
        if b'"search_context_size"' in self._raw:  # Perplexity's fee depends on it
            size = plain(self._raw).get("search_context_size")
            return size if isinstance(size, str) else self.tier
        if self._behind and b'"cost"' in self._raw and self.tier in STANDARD_TIERS:
            return f"{VIA}{self._behind}"
        return self.tier

    def _read_object(self, holder: dict[str, Raw]) -> None:
        """Which response it is, and how far. One that the provider does not keep has no id for others."""
        object_id = name_of(holder.get("id"))
        keeps = bytes(holder.get("store", b"")) != b"false"
        if ID.fullmatch(object_id) and keeps:
            self.object_id = object_id
        self.status = name_of(holder.get("status")) or self.status
        if "output" in holder:
            found = part_ids(holder["output"])
            self.part_ids = found if keeps else tuple(one for one in found if one.startswith(CONTAINERS))

    def read_spoken(self, text: bytes) -> None:
        """The id of an answer that is heard: https://developers.openai.com/api/docs/guides/audio"""
        if b'"audio"' in text and (found := _SPOKEN.findall(text)):
            self.part_ids = tuple(dict.fromkeys(one.decode() for one in found))

    def _read_usage(self, holder: dict[str, Raw]) -> None:
        if self._endpoint in MEDIA:
            stated, of_media = media_usage(self._endpoint, holder)
            if stated is not None:
                self.usage, self._raw = stated, of_media
            return
        raw = _usage_in(holder)
        if raw is None or len(raw) > USAGE_BYTES_MAX:
            return
        calls = count_tool_calls(holder)
        usage = read_usage(raw, generates=self._generates, tool_calls=calls)
        if usage is not None:
            self.usage, self._raw = usage, bytes(raw)

    def _read_error(self, values: dict[str, Raw], kind: bytes) -> None:
        error = values.get("error")
        if kind == b'"error"':  # of a response: the fields stand in the event itself, or in `error`
            inner = members(error) if is_present(error) else values
            self.error = name_of(inner.get("code")) or "error"
        elif is_present(error):
            inner = members(error)
            self.error = name_of(inner.get("code")) or name_of(inner.get("type")) or "error"


def _usage_in(holder: dict[str, Raw]) -> Raw | None:
    """The usage object, where the provider puts it."""
    usage = holder.get("usage")
    if is_present(usage):
        return usage
    if "x_groq" in holder:  # Groq, when the stream was not asked for usage
        return members(holder["x_groq"]).get("usage")
    choices = holder.get("choices")
    if choices is not None and b'"usage"' in bytes(choices):  # Moonshot: in the last chunk's choice
        return next((found for choice in items(choices) if (found := members(choice).get("usage"))), None)
    return None
