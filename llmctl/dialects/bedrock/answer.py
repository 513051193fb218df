"""Answers of Bedrock, whole and as a stream of binary frames."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from ...domain.call import Reading
from ..anthropic.usage import merge_usage
from ..base import InputText
from ..openai.answer import NOT_JSON
from ..request import Request
from ..wire.event_stream import Damaged, Frame, FrameSplitter
from ..wire.lenient import USAGE_BYTES_MAX, inner, is_present, members, name_of, plain
from ..wire.stream import RETAINED_BYTES
from ..wire.texts import Walk, put_together, text_of
from .usage import counts_in, read_usage, tier_of

DAMAGED = "event_stream_damaged"
METRICS = "amazon-bedrock-invocationMetrics"

# Generated text, by the names that the models' vendors give it.
_TEXTS = (
    "text",
    "completion",
    "outputText",
    "generation",
    "thinking",
    "partial_json",
    "reasoningText",
    "name",
    "input",
)
_CONTAINERS = (
    *("output", "message", "content", "delta", "contentBlockDelta", "toolUse", "reasoningContent"),
    *("results", "outputs", "generations", "choices", "completions", "data", "tool_calls", "function", "arguments"),
)
_OUTPUT = re.compile(rb'"(?:text|completion|outputText|generation|thinking|partial_json|input)"\s*+:\s*+"[^"]')
_STATED = (METRICS.encode(), b'"usage"', b'"error"')


def read_answer(body: bytes) -> Reading:
    """What a whole answer says in its body."""
    values = members(body)
    if not values:
        return Reading(error=NOT_JSON if body.strip() else "")
    usage = _usage_in(values) or counts_in(values)
    text = "" if usage else _text(plain(body))
    return _reading(usage, name_of(values.get("model")), _tier_in(values), "", True, text, 1.0)


class BedrockReader:
    """Frames: what Converse streams, or the events of a vendor's own stream, each wrapped in one."""

    def __init__(self) -> None:
        self.first_output = False
        self._splitter = FrameSplitter()
        self._damaged = False
        self._usage = b""
        self._vendors: Raw | None = None  # Anthropic's own usage, put together as in its own streams
        self._vendors_final = False
        self._model = ""
        self._tier = ""
        self._error = ""
        self._finished = False
        self._beginning: list[bytes] = []
        self._beginning_bytes = 0
        self._bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        if not self._damaged:
            try:
                for frame in self._splitter.feed(chunk):
                    self._take(frame)
            except Damaged:
                self._damaged = True
                self._error = self._error or DAMAGED
        return chunk

    def close(self) -> bytes:
        return b""

    def reading(self) -> Reading:
        usage = bytes(self._vendors) if self._vendors is not None and self._vendors_final else self._usage
        final = bool(usage)
        usage = usage or bytes(self._vendors or b"")
        share = self._beginning_bytes / self._bytes if self._bytes else 1.0
        text = "" if final else "".join(_texts(self._beginning))
        return _reading(usage, self._model, self._tier, self._error, self._finished, text, share)

    def _take(self, frame: Frame) -> None:
        if frame.kind != "event":
            self._error = self._error or (frame.name if frame.name.isprintable() and frame.name else "error")
            return
        event = _event(frame)
        self._retain(event)
        self.first_output = self.first_output or _OUTPUT.search(event) is not None
        if frame.name == "metadata":
            self._take_metadata(members(event))
        elif frame.name == "chunk" and any(word in event for word in _STATED):
            self._take_vendors(members(event))

    def _take_metadata(self, values: dict[str, Raw]) -> None:
        """The last event of Converse."""
        self._usage = _usage_in(values) or self._usage
        self._tier = _tier_in(values) or self._tier
        self._finished = True

    def _take_vendors(self, values: dict[str, Raw]) -> None:
        holder = members(values["message"]) if "message" in values else values
        self._model = name_of(holder.get("model")) or self._model
        if "metadata" in values:  # Nova, as Converse
            self._usage = _usage_in(members(values["metadata"])) or self._usage
        elif raw := _usage_in(holder):
            if b'"output_tokens"' in raw:
                self._vendors = Raw(merge_usage(self._vendors, Raw(raw)))
                self._vendors_final = "message" not in values
            else:
                self._usage = raw
        if METRICS in values:
            metrics = values[METRICS]
            if is_present(metrics) and len(metrics) <= USAGE_BYTES_MAX and read_usage(metrics) is not None:
                self._usage = bytes(metrics)
            self._finished = True
        if is_present(values.get("error")):
            self._error = self._error or name_of(members(values["error"]).get("type")) or "error"

    def _retain(self, event: bytes) -> None:
        self._bytes += len(event)
        if self._beginning_bytes < RETAINED_BYTES:
            self._beginning.append(event)
            self._beginning_bytes += len(event)


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    events = list[bytes]()
    with suppress(Damaged):
        events.extend(map(_event, FrameSplitter().feed(stream)))  # those before the damage stay
    return _texts(events)


def _texts(events: Iterable[bytes]) -> list[str]:
    """Converse and Anthropic number their blocks."""
    return put_together(
        ((values.get("contentBlockIndex"), values.get("index")), _text(values)) for values in map(plain, events)
    )


def input_text(request: Request) -> InputText:
    body = plain(request.body)
    messages = [("system", _text(body["system"]))] if body.get("system") else []
    for message in _list(body.get("messages")):
        role = message.get("role") if isinstance(message, dict) else None
        messages.append((role if isinstance(role, str) else "user", _text(message)))
    texts = [body.get(name) for name in ("prompt", "inputText", "message", "query")]
    texts += [*_list(body.get("texts")), *_list(body.get("documents"))]
    messages += [("user", text) for text in texts if isinstance(text, str)]
    values = members(request.body)
    tools = [bytes(values[name]) for name in ("toolConfig", "tools") if name in values]
    return InputText(tuple(messages), b"\n".join(tools).decode("utf-8", "replace"), framed=bool(body.get("messages")))


def _event(frame: Frame) -> bytes:
    return _unwrapped(frame.payload) if frame.name == "chunk" else frame.payload


def _unwrapped(payload: bytes) -> bytes:
    """A vendor's event, from the base64 that it comes in."""
    encoded = members(payload).get("bytes")
    try:
        return binascii.a2b_base64(bytes(encoded)[1:-1]) if encoded is not None else b""
    except binascii.Error:
        return b""


def _usage_in(values: dict[str, Raw]) -> bytes:
    raw = values.get("usage")
    if not is_present(raw) or len(raw) > USAGE_BYTES_MAX or read_usage(raw) is None:
        return b""
    return bytes(raw)


def _tier_in(values: dict[str, Raw]) -> str:
    if "serviceTier" not in values and "performanceConfig" not in values:
        return ""
    said = plain(b"{%b}" % b",".join(_members_named(values, ("serviceTier", "performanceConfig"))))
    return tier_of(inner(said, "serviceTier").get("type"), inner(said, "performanceConfig").get("latency"))


def _members_named(values: dict[str, Raw], names: Iterable[str]) -> Iterable[bytes]:
    return (b'"%b":%b' % (name.encode(), bytes(values[name])) for name in names if name in values)


def _reading(raw: bytes, model: str, tier: str, error: str, finished: bool, text: str, share: float) -> Reading:
    return Reading(
        usage=read_usage(raw) if raw else None,
        raw_usage=raw,
        response_model=model,
        service_tier=tier,
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
    parts = []
    for name, inside in value.items():
        if name == "input" and isinstance(inside, dict):
            parts.append(msgspec.json.encode(inside).decode())
        elif (
            name in _TEXTS or (name in _CONTAINERS and not isinstance(inside, str)) or name in ("arguments", "content")
        ):
            parts.append(walk(inside))
    return "".join(parts)
