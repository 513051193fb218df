"""Answers in Ollama's own dialect: one JSON object, or a line of JSON for each piece; the last one has the counts."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from ...domain.call import Reading
from ...domain.usage import Usage
from ..base import InputText
from ..openai.answer import NOT_JSON, OVERSIZED
from ..request import Request
from ..wire.lenient import count, inner, is_count, is_present, members, name_of, plain
from ..wire.sse import EVENT_BYTES_MAX
from ..wire.stream import RETAINED_BYTES
from ..wire.texts import Walk, put_together, text_of

# What an answer states of itself beside its text. They stand in the answer, not in an object of their own.
_STATED = (
    *("prompt_eval_count", "prompt_eval_cached_count", "eval_count", "done_reason"),
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
)
_COUNTS = ("prompt_eval_count", "eval_count")
_LOADS = ("load", "unload")  # the answer to a request without a prompt: a model was loaded or dropped
_TEXTS = ("response", "thinking", "content", "tool_calls", "function", "name", "arguments")
_LAST = re.compile(rb'"done"\s*+:\s*+true|"error"\s*+:')
_OUTPUT = re.compile(rb'"(?:response|content|thinking)"\s*+:\s*+"[^"]|"tool_calls"\s*+:\s*+\[\{')


def read_usage(raw: bytes | Raw) -> Usage | None:
    """What `_usage_in` kept, in our classes; None if it states no usable figure.

    prompt_eval_count includes what was read from the cache. Servers before 0.2 left it out where all of the prompt
    was: then nothing is known to have been evaluated (https://github.com/ollama/ollama/issues/2068).
    """
    values = plain(raw)
    if not any(is_count(values.get(name)) for name in _COUNTS):
        return Usage() if values.get("done_reason") in _LOADS else None
    input_tokens = count(values.get("prompt_eval_count"))
    return Usage(
        input_tokens=input_tokens,
        cache_read_tokens=min(count(values.get("prompt_eval_cached_count")), input_tokens),
        output_tokens=count(values.get("eval_count")),
    )


def read_answer(body: bytes) -> Reading:
    """What a whole answer says. A stream's text is read as one, whatever was asked for."""
    values = members(body)
    if not values:
        if b"\n" in body.strip() and body.lstrip().startswith(b"{"):
            reader = OllamaReader()
            reader.feed(body)
            reader.close()
            return reader.reading()
        return Reading(error=NOT_JSON if body.strip() else "")
    raw = _usage_in(values)
    text = "" if raw else _text(plain(body))
    return _reading(raw, name_of(values.get("model")), _error_in(values), True, text, 1.0)


class OllamaReader:
    """Lines; only the last one and errors are taken apart."""

    def __init__(self) -> None:
        self.first_output = False
        self._held = bytearray()
        self._skipping = False  # the rest of a line too long to be read
        self._beginning = bytearray()
        self._bytes = 0
        self._raw = b""
        self._model = ""
        self._error = ""
        self._finished = False

    def feed(self, chunk: bytes) -> bytes:
        self._bytes += len(chunk)
        if len(self._beginning) < RETAINED_BYTES:
            self._beginning += chunk[: RETAINED_BYTES - len(self._beginning)]
        if not self._held and not self._skipping and chunk.endswith(b"\n") and _LAST.search(chunk) is None:
            self.first_output = self.first_output or _OUTPUT.search(chunk) is not None
            return chunk
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._take(line)
        self._hold(rest)
        return chunk

    def close(self) -> bytes:
        self._take(b"")
        return b""

    def reading(self) -> Reading:
        beginning = bytes(self._beginning)
        share = len(beginning) / self._bytes if self._bytes else 1.0
        model = self._model or name_of(members(beginning.split(b"\n", 1)[0]).get("model"))
        text = "" if self._raw else "".join(stream_texts(beginning))
        return _reading(self._raw, model, self._error, self._finished, text, share)

    def _hold(self, rest: bytes) -> None:
        if self._skipping:
            return
        self._held += rest
        if len(self._held) > EVENT_BYTES_MAX:
            self._error = self._error or OVERSIZED
            self._held.clear()
            self._skipping = True

    def _take(self, rest: bytes) -> None:
        """A line that ends with `rest`."""
        if self._skipping:
            self._skipping = False
            return
        line = bytes(self._held) + rest
        self._held.clear()
        self.first_output = self.first_output or _OUTPUT.search(line) is not None
        if _LAST.search(line) is None:
            return
        values = members(line)
        self._model = name_of(values.get("model")) or self._model
        self._error = _error_in(values) or self._error
        if bytes(values.get("done", b"")) == b"true":
            self._finished = True
            self._raw = _usage_in(values) or self._raw


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    lines = map(plain, stream.split(b"\n"))
    return put_together(
        ((name,), _text({name: said[name]}))
        for line in lines
        for said in [inner(line, "message") or line]
        for name in _TEXTS
        if name in said
    )


def input_text(request: Request) -> InputText:
    body = plain(request.body)
    messages = [
        (message["role"] if isinstance(message.get("role"), str) else "user", _text(message))
        for message in _list(body.get("messages"))
        if isinstance(message, dict)
    ]
    texts = [body.get("system"), body.get("prompt"), body.get("suffix"), *_list(body.get("input")), body.get("input")]
    messages += [("user", text) for text in texts if isinstance(text, str) and text]
    tools = members(request.body).get("tools")
    return InputText(
        tuple(messages),
        bytes(tools).decode("utf-8", "replace") if tools is not None else "",
        framed=request.ask.generates,
        tokens=len(_list(body.get("context"))),
    )


def _usage_in(values: dict[str, Raw]) -> bytes:
    stated = {name: value for name in _STATED if is_present(value := values.get(name)) and len(value) <= 100}
    raw = msgspec.json.encode(stated)
    return raw if read_usage(raw) is not None else b""


def _reading(raw: bytes, model: str, error: str, finished: bool, text: str, share: float) -> Reading:
    return Reading(
        usage=read_usage(raw) if raw else None,
        raw_usage=raw,
        response_model=model,
        error=error,
        finished=finished,
        output_text=text,
        output_seen_share=share,
    )


def _error_in(values: dict[str, Raw]) -> str:
    return "error" if is_present(values.get("error")) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """The strings under names that carry text."""
    return text_of(value, _of_object)


def _of_object(value: dict[str, Any], walk: Walk) -> str:
    if "message" in value:
        return walk(value["message"])
    parts = []
    for name in _TEXTS:
        inner = value.get(name)
        arguments = name == "arguments" and isinstance(inner, dict)
        parts.append(msgspec.json.encode(inner).decode() if arguments else walk(inner))
    return "".join(parts)
