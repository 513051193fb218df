"""Cohere's `usage` (chat) and `meta` (embed, rerank), normalised into our classes."""

from __future__ import annotations

from msgspec import Raw

from ...domain.usage import Usage
from ..wire.lenient import count, inner, is_count, plain

_BILLED = ("input_tokens", "output_tokens", "text_tokens", "image_tokens", "images", "pages", "search_units")


def read_usage(raw: bytes | Raw) -> Usage | None:
    """The object `raw` in our classes; None if it states no usable figure.

    https://docs.cohere.com/docs/how-does-cohere-pricing-work: what `billed_units` says is billed. `tokens` counts the
    prompts and marks that Cohere adds too, which are not; so does `cached_tokens`, of which what exceeds the billed
    input is not counted.
    """
    usage = plain(raw)
    all_tokens = inner(usage, "tokens")
    billed = inner(usage, "billed_units")
    if not any(is_count(billed.get(name)) for name in _BILLED):
        billed = all_tokens
    if not any(is_count(billed.get(name)) for name in _BILLED):
        return None
    text, image = count(billed.get("text_tokens")), count(billed.get("image_tokens"))
    input_ = count(billed.get("input_tokens"))
    # Embeddings: images are outside input_tokens. Chat: they are in it, and `tokens` alone says how many.
    input_ = max(input_, text + image) if text else input_ + image
    output = count(billed.get("output_tokens"))
    return Usage(
        input_tokens=input_,
        cache_read_tokens=min(count(usage.get("cached_tokens")), input_),
        input_image_tokens=min(image or count(all_tokens.get("image_tokens")), input_),
        output_tokens=output,
        reasoning_tokens=min(count(all_tokens.get("reasoning_tokens")), output),
        images=count(billed.get("images")),
        pages=count(billed.get("pages")),
        search_units=count(billed.get("search_units")),
    )
