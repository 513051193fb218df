"""Anthropic's `usage`, normalised into our classes."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from ...domain.price import STANDARD_TIERS, US
from ...domain.usage import Usage
from ..wire.lenient import count, encoded_members, inner, is_count, is_present, members, plain

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_ZERO = b"0"


def read_usage(raw: bytes | Raw) -> Usage | None:
    """The usage object `raw` in our classes; None if it states no usable figure.

    https://platform.claude.com/docs/en/build-with-claude/compaction: a compaction's tokens, and an advisor's, are not
    in the top level; the sum of `iterations` is what is billed.
    """
    usage = plain(raw)
    if not any(is_count(usage.get(name)) for name in _COUNTS):
        return None
    parts = usage.get("iterations")
    counted = _sum([part for part in parts if isinstance(part, dict)]) if isinstance(parts, list) else [0] * 6
    input_, read, written, written_1h, output, thinking = map(max, zip(_counts(usage), counted, strict=True))
    return Usage(
        input_tokens=input_ + read + written,  # Anthropic reports cached tokens outside input_tokens
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(written_1h, written),
        output_tokens=max(output, thinking),
        reasoning_tokens=thinking,
        web_search_calls=count(inner(usage, "server_tool_use").get("web_search_requests")),
    )


def merge_usage(first: Raw | None, later: Raw) -> bytes:
    """`usage` of message_start with that of message_delta over it, as one object.

    The later one wins: with server tools its counts are larger. What it leaves out (old streams: all but
    output_tokens) stays; so does a count that it shows as 0, for these counts never fall.
    """
    if first is None:
        return bytes(later)
    merged = members(first)
    for name, value in members(later).items():
        keeps = name in _COUNTS and bytes(value) == _ZERO and name in merged
        if is_present(value) and not keeps:
            merged[name] = value
    return encoded_members(merged)


def served_tier(raw: bytes | Raw) -> str:
    """The tier that served the call; Anthropic's fast mode counts as one, since it has prices of its own, and so does
    the place that inference was bound to."""
    usage = plain(raw)
    tier = "fast" if usage.get("speed") == "fast" else usage.get("service_tier")
    tier = tier if isinstance(tier, str) and len(tier) <= 64 and tier.isprintable() else ""
    return placed(tier, usage.get("inference_geo"))


def placed(tier: str, geo: object) -> str:
    """As prices name it: https://platform.claude.com/docs/en/manage-claude/data-residency"""
    if geo != US:
        return tier
    return US if tier in STANDARD_TIERS else f"{tier} {US}"


def _sum(parts: list[dict[str, Any]]) -> list[int]:
    return [sum(column) for column in zip(*map(_counts, parts), strict=True)] or [0] * 6


def _counts(usage: dict[str, Any]) -> tuple[int, int, int, int, int, int]:
    """Input beside the cache, cache read, cache written, of that for an hour, output, thinking."""
    split = inner(usage, "cache_creation")
    for_5m, for_1h = count(split.get("ephemeral_5m_input_tokens")), count(split.get("ephemeral_1h_input_tokens"))
    written = max(count(usage.get("cache_creation_input_tokens")), for_5m + for_1h)
    if for_1h and not for_5m:
        for_1h = written  # a stream's last event has no split: what came later was written like the first
    return (
        count(usage.get("input_tokens")),
        count(usage.get("cache_read_input_tokens")),
        written,
        for_1h,
        count(usage.get("output_tokens")),
        count(inner(usage, "output_tokens_details").get("thinking_tokens")),
    )
