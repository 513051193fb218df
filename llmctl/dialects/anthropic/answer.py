"""Answers in the Anthropic dialect, whole and streamed."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from ...domain.call import Reading
from ..base import InputText
from ..openai.answer import NOT_JSON, OVERSIZED
from ..reported_cost import reported_cost_nano_usd
from ..request import Request
from ..wire.lenient import USAGE_BYTES_MAX, is_present, members, name_of, plain
from ..wire.sse import Event, Splitter
from ..wire.stream import SseReader, begins_events, objects_in
from ..wire.texts import Walk, put_together, text_of
from .usage import merge_usage, read_usage, served_tier

_DELTA_TEXTS = ("text", "partial_json", "thinking")

# Refusals of these kinds are billed also where nothing was said before.
_BILLED_REFUSALS = frozenset({"bio", "frontier_llm", "reasoning_extraction"})


def read_answer(body: bytes) -> Reading:
    """What a whole answer says. A stream's text is read as one, whatever was asked for."""
    values = members(body)
    if not values:
        if begins_events(body):
            return AnthropicReader().read(body)
        return Reading(error=NOT_JSON if body.strip() else "")
    usage = values.get("usage")
    if not is_present(usage) or len(usage) > USAGE_BYTES_MAX:
        usage = None
    text = "" if usage is not None else _text(plain(b'{"content":%b}' % bytes(values.get("content", b"null"))))
    reading = _reading(bytes(usage or b""), name_of(values.get("model")), _error_in(values), True, text, 1.0)
    silent = bytes(values.get("content", b"")) == b"[]"
    return replace(reading, part_ids=container_ids(values), refused_unbilled=silent and _refuses_unbilled(values))


class AnthropicReader(SseReader):
    """message_start ... message_delta, message_stop. The first and the second-last carry usage; of a stream that
    broke between them, the reading has the usage so far and the text too."""

    end_words = (b'"message_stop"',)
    output_mark = re.compile(rb'"content_block_delta"')

    def __init__(self) -> None:
        super().__init__()
        self._usage: Raw | None = None
        self._usage_final = False  # message_start's output count is a placeholder
        self._model = ""
        self._error = ""
        self._finished = False
        self._containers: tuple[str, ...] = ()
        self._refuses_unbilled = False

    def take(self, event: Event) -> bool:
        whole_answer = event.raw.lstrip().startswith(b"{")  # asked for a stream, got none
        values = members(event.raw if whole_answer else event.data or event.error)
        holder = members(values["message"]) if "message" in values else values
        self._model = name_of(holder.get("model")) or self._model
        self._containers = container_ids(holder) or self._containers
        self._refuses_unbilled = self._refuses_unbilled or _refuses_unbilled(members(values.get("delta", b"")))
        usage = holder.get("usage")
        if is_present(usage) and len(usage) <= USAGE_BYTES_MAX and members(usage):
            self._usage = Raw(merge_usage(self._usage, usage))
            self._usage_final = "message" not in values
        self._error = _error_in(values) or ("error" if event.name == b"error" or event.error else "") or self._error
        self._finished = self._finished or whole_answer or bytes(values.get("type", b"")) == b'"message_stop"'
        return False

    def result(self, beginning: bytes, share: float) -> Reading:
        raw = bytes(self._usage or b"")
        error = self._error or (OVERSIZED if self.oversized and not raw else "")
        text = "" if self._usage_final else "".join(stream_texts(beginning))
        reading = _reading(raw, self._model, error, self._finished, text, share)
        unbilled = self._refuses_unbilled and not self.first_output
        return replace(reading, part_ids=self._containers, refused_unbilled=unbilled)


def _refuses_unbilled(holder: dict[str, Raw]) -> bool:
    """https://platform.claude.com/docs/en/release-notes/overview, 2 June and 24 September 2026."""
    if bytes(holder.get("stop_reason", b"")) != b'"refusal"':
        return False
    return name_of(members(holder.get("stop_details", b"")).get("category")) not in _BILLED_REFUSALS


def container_ids(holder: dict[str, Raw]) -> tuple[str, ...]:
    """Of the container that code ran in: it can be used again."""
    if "container" not in holder:
        holder = members(holder.get("delta", b""))
    container = name_of(members(holder.get("container", b"")).get("id"))
    return (container,) if container else ()


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    pieces = []
    for values in objects_in(stream, Splitter()):
        delta = values.get("delta")
        if isinstance(delta, dict):
            block = values.get("index")
            pieces += [((block, name), text) for name in _DELTA_TEXTS if isinstance(text := delta.get(name), str)]
    return put_together(pieces)


def input_text(request: Request) -> InputText:
    body = plain(request.body)
    messages = [("system", _text(body.get("system")))] if body.get("system") else []
    for message in body["messages"] if isinstance(body.get("messages"), list) else ():
        role = message.get("role") if isinstance(message, dict) else None
        messages.append((role if isinstance(role, str) else "user", _text(message)))
    tools = members(request.body).get("tools")
    return InputText(tuple(messages), bytes(tools).decode("utf-8", "replace") if tools is not None else "")


def _reading(raw: bytes, model: str, error: str, finished: bool, text: str, share: float) -> Reading:
    usage = read_usage(raw) if raw else None
    return Reading(
        usage=usage,
        raw_usage=raw if usage is not None else b"",
        response_model=model,
        service_tier=served_tier(raw) if raw else "",
        reported_cost_nano_usd=reported_cost_nano_usd(raw) if b'"cost' in raw else None,
        error=error,
        finished=finished,
        output_text=text,
        output_seen_share=share,
    )


def _error_in(values: dict[str, Raw]) -> str:
    error = values.get("error")
    if not is_present(error):
        return ""
    return name_of(members(error).get("type")) or "error"


def _text(value: Any) -> str:
    """The strings in blocks, in the order in which they stand; arguments and results of tools too."""
    return text_of(value, _of_object)


def _of_object(value: dict[str, Any], walk: Walk) -> str:
    if value.get("type") == "tool_use":
        return walk(value.get("name")) + msgspec.json.encode(value.get("input")).decode()
    return "".join(walk(value.get(name)) for name in ("text", "thinking", "content"))
