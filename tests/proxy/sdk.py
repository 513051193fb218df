"""Calls through the official SDKs, and what those tell of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import openai

SAY: Any = [{"role": "user", "content": "Say something naïve."}]
OUTPUT_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Told:
    """One call as its SDK tells it. `counts`: input, of which cached, and output tokens; None: it told no usage."""

    call_id: str
    model: str
    counts: tuple[int, int, int] | None
    events: list[Any]


Ask = Callable[..., Told]  # (client, model, stream=..., **more)


def chat(client: openai.OpenAI, model: str, *, stream: bool = False, **more: Any) -> Told:
    ask: Any = {"max_tokens": OUTPUT_TOKENS, "messages": SAY, **more}
    return _told(client.chat.completions.with_raw_response.create(model=model, stream=stream, **ask), stream)


def completion(client: openai.OpenAI, model: str, *, stream: bool = False, **more: Any) -> Told:
    ask: Any = {"max_tokens": OUTPUT_TOKENS, "prompt": "Once upon a time", **more}
    return _told(client.completions.with_raw_response.create(model=model, stream=stream, **ask), stream)


def response(client: openai.OpenAI, model: str, *, stream: bool = False, **more: Any) -> Told:
    ask: Any = {"max_output_tokens": OUTPUT_TOKENS, "input": "Say something naïve.", **more}
    return _told(client.responses.with_raw_response.create(model=model, stream=stream, **ask), stream)


def embedding(client: openai.OpenAI, model: str, **more: Any) -> Told:
    ask: Any = {"input": ["one text", "and another"], **more}
    return _told(client.embeddings.with_raw_response.create(model=model, **ask), False)


def message(client: anthropic.Anthropic, model: str, *, stream: bool = False, **more: Any) -> Told:
    ask: Any = {"max_tokens": OUTPUT_TOKENS, "messages": SAY, **more}
    return _told(client.messages.with_raw_response.create(model=model, stream=stream, **ask), stream)


def booked(row: dict[str, Any]) -> tuple[int, int, int]:
    """What `llmctl calls` says, as `Told.counts`."""
    return row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]


def cost_usd(counts: tuple[int, int, int], input_usd: int = 1, output_usd: int = 2) -> Decimal:
    """At prices per million tokens."""
    return Decimal(counts[0] * input_usd + counts[2] * output_usd) / 1_000_000


def _told(raw: Any, stream: bool) -> Told:
    answer = raw.parse()
    events = list(answer) if stream else [answer]
    holders = [_holder(event) for event in events]
    usages = [usage for holder in holders if (usage := getattr(holder, "usage", None)) is not None]
    return Told(
        raw.headers["x-llmctl-call-id"],
        next(holder.model for holder in holders if hasattr(holder, "model")),
        _counts(usages) if usages else None,
        events,
    )


def _holder(event: Any) -> Any:
    """Events of responses and the first one of messages wrap the object that has model and usage."""
    return getattr(event, "response", None) or getattr(event, "message", None) or event


def _counts(usages: list[Any]) -> tuple[int, int, int]:
    first, last = usages[0], usages[-1]
    if hasattr(last, "input_tokens_details"):
        return last.input_tokens, last.input_tokens_details.cached_tokens, last.output_tokens
    if hasattr(last, "output_tokens"):  # Anthropic: the cache is counted beside the input, which a stream tells first
        cached = first.cache_read_input_tokens or 0
        return first.input_tokens + cached + (first.cache_creation_input_tokens or 0), cached, last.output_tokens
    details = getattr(last, "prompt_tokens_details", None)
    return last.prompt_tokens, details.cached_tokens if details else 0, getattr(last, "completion_tokens", 0)
