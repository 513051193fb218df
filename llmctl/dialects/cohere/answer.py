"""Answers in Cohere's own dialect, whole and streamed."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from ...domain.call import Reading
from ..base import InputText
from ..openai.answer import NOT_JSON, OVERSIZED
from ..request import Request
from ..wire.lenient import USAGE_BYTES_MAX, is_present, members, plain
from ..wire.sse import Event, Splitter
from ..wire.stream import SseReader, begins_events, objects_in
from ..wire.texts import Walk, put_together, text_of
from .usage import read_usage

_TEXTS = ("tool_plan", "thinking", "text", "content", "tool_calls", "function", "name", "arguments")
_DONE = b"[DONE]"


def read_answer(body: bytes) -> Reading:
    """What a whole answer says. A stream's text is read as one, whatever was asked for."""
    values = members(body)
    if not values:
        if begins_events(body):
            return CohereReader().read(body)
        return Reading(error=NOT_JSON if body.strip() else "")
    raw = _usage_in(values)
    text = "" if raw else _text(plain(values["message"]) if "message" in values else {})
    return _reading(raw, "", True, text, 1.0)


class CohereReader(SseReader):
    """message-start, deltas, message-end with the usage, [DONE]."""

    end_words = (b'"message-end"', _DONE)
    output_mark = re.compile(rb'"(?:content-delta|tool-plan-delta|tool-call-start|tool-call-delta)"')

    def __init__(self) -> None:
        super().__init__()
        self._raw = b""
        self._error = ""
        self._finished = False

    def take(self, event: Event) -> bool:
        whole_answer = event.raw.lstrip().startswith(b"{")  # asked for a stream, got none
        data = event.raw if whole_answer else event.data or event.error
        values = members(data)
        ended = bytes(values.get("type", b"")) == b'"message-end"'
        delta = members(values["delta"]) if "delta" in values else {}
        holder = delta if ended else values if whole_answer else {}
        self._raw = _usage_in(holder) or self._raw
        self._finished = self._finished or ended or whole_answer or data == _DONE
        # An answer that fails on its way ends with finish_reason ERROR: https://docs.cohere.com/docs/streaming
        failed = bytes(holder.get("finish_reason", b"")) == b'"ERROR"' or is_present(holder.get("error"))
        if failed or is_present(values.get("error")) or event.name == b"error" or event.error:
            self._error = self._error or "error"
        return False

    def result(self, beginning: bytes, share: float) -> Reading:
        error = self._error or (OVERSIZED if self.oversized and not self._raw else "")
        text = "" if self._raw else "".join(stream_texts(beginning))
        return _reading(self._raw, error, self._finished, text, share)


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    pieces = []
    for values in objects_in(stream, Splitter()):
        delta = values.get("delta")
        if isinstance(delta, dict):
            pieces.append(((values.get("type"), values.get("index")), _text(delta.get("message"))))
    return put_together(pieces)


def input_text(request: Request) -> InputText:
    body = plain(request.body)
    if request.ask.endpoint != "cohere.chat":
        texts = [*_list(body.get("texts")), *_list(body.get("inputs"))]
        return InputText(tuple(("user", _text(text)) for text in texts), framed=False)
    messages = [
        (message["role"] if isinstance(message.get("role"), str) else "user", _text(message))
        for message in _list(body.get("messages"))
        if isinstance(message, dict)
    ]
    values = members(request.body)
    more = [bytes(values[name]) for name in ("tools", "documents", "response_format") if name in values]
    return InputText(tuple(messages), b"\n".join(more).decode("utf-8", "replace"))


def _usage_in(values: dict[str, Raw]) -> bytes:
    """The object that states what is billed: `usage` of a chat, `meta` of the others."""
    for name in ("usage", "meta"):
        raw = values.get(name)
        if is_present(raw) and len(raw) <= USAGE_BYTES_MAX and members(raw):
            return bytes(raw)
    return b""


def _reading(raw: bytes, error: str, finished: bool, text: str, share: float) -> Reading:
    usage = read_usage(raw) if raw else None
    return Reading(
        usage=usage,
        raw_usage=raw if usage is not None else b"",
        error=error,
        finished=finished,
        output_text=text,
        output_seen_share=share,
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """The strings under names that carry text."""
    return text_of(value, _of_object)


def _of_object(value: dict[str, Any], walk: Walk) -> str:
    if value.get("type") == "document":
        return msgspec.json.encode(value.get("document")).decode()
    return "".join(walk(value[name]) for name in _TEXTS if name in value)
