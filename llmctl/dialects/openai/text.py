"""The text of requests and answers in the OpenAI dialect, for estimates and for what is kept. Off the hot path: parses
everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from ..base import InputText
from ..request import Request
from ..wire.lenient import members, plain
from ..wire.sse import Splitter
from ..wire.stream import objects_in
from ..wire.texts import Walk, put_together, text_of

_TEXTS = frozenset(
    {"content", "text", "refusal", "arguments", "output", "reasoning", "reasoning_content", "thinking", "summary"}
)
_CONTAINERS = frozenset({"message", "delta", "tool_calls", "function", "function_call"})


def input_text(request: Request) -> InputText:
    body = plain(request.body)
    messages = [("system", _text(body["instructions"]))] if body.get("instructions") else []
    tokens = 0
    for name in ("messages", "input", "prompt"):
        value = body.get(name)
        if isinstance(value, str):
            messages.append(("user", value))
        elif isinstance(value, list):
            # Reasoning comes back encrypted: nothing of it can be counted.
            messages.extend((_role(item), _text(item)) for item in value if _is_message(item))
            tokens += _numbers(value)
    values = members(request.body)
    schemas = [bytes(values[name]) for name in ("tools", "functions", "response_format", "text") if name in values]
    framed = request.ask.endpoint in ("chat.completions", "responses", "responses.compact")
    return InputText(tuple(messages), b"\n".join(schemas).decode("utf-8", "replace"), framed, tokens)


def answer_text(values: dict[str, Raw]) -> str:
    """The generated text of a whole answer."""
    parts = [_text(plain_list(values[name])) for name in ("choices", "output") if name in values]
    return "".join(parts)


def stream_texts(stream: bytes) -> list[str]:
    """As Dialect.stream_texts."""
    return put_together(piece for chunk in objects_in(stream, Splitter()) for piece in _pieces(chunk))


def _pieces(chunk: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    delta, choices = chunk.get("delta"), chunk.get("choices")
    if isinstance(delta, str):  # responses: response.output_text.delta and its like
        yield (chunk.get("type"), chunk.get("output_index")), delta
    elif isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                said = choice["delta"] if isinstance(choice.get("delta"), dict) else choice
                for name, value in said.items():
                    yield (choice.get("index"), name), _text({name: value})


def plain_list(raw: Raw) -> Any:
    return plain(b'{"content":%b}' % bytes(raw)).get("content")


def _is_message(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and item.get("type") != "reasoning")


def _numbers(value: list[Any]) -> int:
    """How many token numbers stand in it: they come in a list, or in a list of lists."""
    return sum(
        sum(isinstance(one, int) for one in item) if isinstance(item, list) else isinstance(item, int) for item in value
    )


def _role(item: Any) -> str:
    role = item.get("role") if isinstance(item, dict) else None
    return role if isinstance(role, str) else "user"


def _text(value: Any) -> str:
    """The strings under names that carry text, in the order in which they stand."""
    return text_of(value, _of_object)


def _of_object(value: dict[str, Any], walk: Walk) -> str:
    parts = []
    for name, inner in value.items():
        if name == "content" and isinstance(inner, dict):
            parts.append(walk(inner) or msgspec.json.encode(inner).decode())  # Cloudflare's JSON mode
        elif name in _TEXTS or (not isinstance(inner, str) and name in _CONTAINERS):
            parts.append(walk(inner))
        elif name == "name" and "arguments" in value and isinstance(inner, str):
            parts.append(inner)
    return "".join(parts)
