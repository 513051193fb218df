"""Reading what clients send as content: text is taken, tools are counted, media is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from llmctl import tokenizer

from .errors import SandboxError
from .wire import parse

Content = str | list[msgspec.Raw] | None
# `prompt` of completions and `input` of embeddings: a text, texts, tokens, or lists of tokens.
TextsOrTokens = str | list[str | int | list[int]]

PROMPTS_MAX: Final = 2048  # as OpenAI's embeddings

TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
# tiktoken cannot count these, and a wrong count would be worse than none.
MEDIA_PARTS: Final = frozenset({"image", "image_url", "input_image", "input_audio", "file", "input_file", "document"})


class Part(msgspec.Struct):
    type: str
    text: str = ""


_PART: Final = msgspec.json.Decoder(Part)


def read_texts(content: Content) -> list[str]:
    """The texts of one message. What is neither text nor media (a tool's call, its result) is its JSON."""
    if content is None or isinstance(content, str):
        return [content or ""]
    return [_read_part(raw) for raw in content]


def as_text(raw: msgspec.Raw) -> str:
    """JSON as it came. msgspec does not look into it, so it may hold bytes that are no UTF-8."""
    return bytes(raw).decode("utf-8", errors="replace")


def read_prompts(value: TextsOrTokens, model: str) -> list[tuple[str, int]]:
    """Each prompt as its text and its number of tokens."""
    if isinstance(value, str):
        value = [value]
    texts = [item for item in value if isinstance(item, str)]
    tokens = [item for item in value if isinstance(item, int)]
    lists = [item for item in value if isinstance(item, list)]
    if max(len(texts), len(tokens), len(lists)) != len(value):
        raise SandboxError("invalid", "A list of prompts holds either texts, or tokens, or lists of tokens.")
    if len(texts) + len(lists) > PROMPTS_MAX:
        raise SandboxError("invalid", f"One request takes at most {PROMPTS_MAX} prompts.")
    if texts:
        prompts = [(text, tokenizer.count(text, model)) for text in texts]
    else:
        prompts = [(_text_of(item, model), len(item)) for item in (lists or [tokens])]
    if not all(count for _, count in prompts):
        raise SandboxError("invalid", "A prompt must not be empty.")
    return prompts


def _read_part(raw: msgspec.Raw) -> str:
    part = parse(bytes(raw), _PART)
    if part.type in TEXT_PARTS:
        return part.text
    if part.type in MEDIA_PARTS:
        raise SandboxError("invalid", f"The sandbox reads text only, no content of type {part.type!r}.")
    return as_text(raw)


def _text_of(tokens: Sequence[int], model: str) -> str:
    try:
        return tokenizer.decode(tokens, model)
    except ValueError as error:
        raise SandboxError("invalid", f"The prompt holds a number that is {error}.") from None
