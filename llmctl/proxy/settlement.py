"""How the end of a call is booked. Pure but for the clock that is passed in."""

from __future__ import annotations

import math

from msgspec.structs import replace

from llmctl.domain.call import Reading
from llmctl.domain.price import STANDARD_TIERS, Price
from llmctl.domain.usage import NO_USAGE, Usage, UsageSource
from llmctl.store.booking import Closing
from llmctl.store.deferred import DeferredCall

from .call import Call

# As the catalogue of prices calls its own API: of others that serve its models, nothing is said.
ANTHROPIC = "anthropic"


def released(call: Call, *, status: int | None, error: str, now_s: float) -> Closing:
    """It never reached the provider: nothing is owed."""
    return Closing(call.id, "released", status, error, latency_ms=call.latency_ms(now_s))


def unanswered(call: Call, *, status: int | None, error: str, now_s: float) -> Closing:
    """Sent, and no answer came: the provider may bill all of it, so all that was held is booked, as an estimate."""
    price, free = call.plan.price, call.plan.free
    return Closing(
        call.id,
        "settled",
        status,
        error,
        usage=Usage(input_tokens=call.plan.demand.input_tokens, output_tokens=call.held_output_tokens),
        usage_source=None if free else "estimated",
        cost_nano_usd=call.held.held_nano_usd if free or price is not None else None,
        price_id=price.id if price else None,
        latency_ms=call.latency_ms(now_s),
    )


def superseded(closing: Closing) -> Closing:
    """Another attempt follows: this one was not answered, costs nothing unless it may have been billed, and is no
    request of its own."""
    if closing.usage_source is not None:
        return replace(closing, status=None)
    return replace(closing, status=None, state="released")


def failed(call: Call, *, status: int, error: str, now_s: float) -> Closing:
    """The provider answered with an error and reported no usage: it bills nothing."""
    return Closing(call.id, "settled", status, error, latency_ms=call.latency_ms(now_s), ttft_ms=call.ttft_ms)


def answered(
    call: Call, reading: Reading, *, status: int | None, error: str, estimate: Usage | None, now_s: float
) -> Closing:
    """An answer, whole or broken off. Its own usage counts; `estimate` stands in for what it did not report."""
    if reading.refused_unbilled and call.plan.provider.catalogue == ANTHROPIC:
        reading = replace(reading, reported_cost_nano_usd=0)
    stated = reading.usage
    source: UsageSource | None
    if stated is None:
        usage, source = estimate or NO_USAGE, "estimated" if estimate is not None else None
    elif estimate is None or (stated.input_tokens and estimate.output_tokens <= stated.output_tokens):
        usage, source = stated, "reported"
    else:
        input_tokens = stated.input_tokens or estimate.input_tokens
        output_tokens = max(stated.output_tokens, estimate.output_tokens)
        usage = stated._replace(input_tokens=input_tokens, output_tokens=output_tokens)
        source = "estimated"
    return _booked(
        call.id,
        call.started_at_ms,
        reading,
        usage,
        source,
        call.plan.price,
        free=call.plan.free,
        status=status,
        error=error or reading.error,
        latency_ms=call.latency_ms(now_s),
        ttft_ms=call.ttft_ms,
    )


def learned(call: DeferredCall, price: Price | None, reading: Reading, *, now_ms: int) -> Closing:
    """A call that went on at the provider, by what that says of it in the end. OpenAI reports no usage for one that was
    cancelled, though it bills what was generated (also in thought, which nobody saw): all that was held is booked."""
    error = reading.error or (reading.status if reading.status in ("failed", "cancelled") else "")
    if reading.usage is None and reading.status != "failed":
        return lost(call, error=error, now_ms=now_ms)
    return _booked(
        call.call_id,
        call.started_at_ms,
        reading,
        reading.usage or NO_USAGE,
        "reported" if reading.usage is not None else None,
        price,
        free=reading.usage is None,
        status=call.status,
        error=error,
        latency_ms=max(0, now_ms - call.started_at_ms),
        deferred=True,
    )


def _booked(
    call_id: int,
    started_at_ms: int,
    reading: Reading,
    usage: Usage,
    source: UsageSource | None,
    price: Price | None,
    *,
    free: bool,
    status: int | None,
    error: str,
    latency_ms: int,
    ttft_ms: int | None = None,
    deferred: bool = False,
) -> Closing:
    """The money of a usage: what the provider states, else by the price."""
    cost, price_id, own_cost, own_price_id = None, None, None, None
    if free:
        cost = 0
    elif price is not None:
        price_id = price.id
        cost = price.cost_nano_usd(usage, reading.service_tier, started_at_ms // 1000)
    if reading.reported_cost_nano_usd is not None:  # then that is the cost; ours stays beside it
        own_cost, own_price_id = cost, price_id
        cost, price_id = reading.reported_cost_nano_usd, None
    return Closing(
        call_id,
        "settled",
        status,
        error,
        usage=usage,
        usage_source=source,
        cost_nano_usd=cost,
        price_id=price_id,
        own_cost_nano_usd=own_cost,
        own_price_id=own_price_id,
        service_tier="" if reading.service_tier in STANDARD_TIERS else reading.service_tier,
        raw_usage=reading.raw_usage.decode("utf-8", "replace"),
        response_model=reading.response_model,
        latency_ms=latency_ms,
        ttft_ms=ttft_ms,
        deferred=deferred,
        part_ids=reading.part_ids,
    )


def lost(call: DeferredCall, *, error: str, now_ms: int) -> Closing:
    """What became of it will never be known: all that was held is booked, as an estimate."""
    return Closing(
        call.call_id,
        "settled",
        call.status,
        error,
        usage=Usage(input_tokens=call.held_input_tokens, output_tokens=call.held_output_tokens),
        usage_source="estimated",
        cost_nano_usd=call.held_nano if call.price_id is not None else None,
        price_id=call.price_id,
        latency_ms=max(0, now_ms - call.started_at_ms),
        deferred=True,
    )


def estimated(call: Call, reading: Reading, *, input_tokens: int, seen_tokens: int) -> Usage:
    """Usage of an answer that reported none, from offline counts: never above what was held, never nothing."""
    output_tokens = 0
    if call.asked.ask.generates:
        held_tokens = max(1, call.held_output_tokens)
        share = min(1.0, max(reading.output_seen_share, 0.001))
        output_tokens = min(max(1, math.ceil(seen_tokens / share)), held_tokens)
        if not seen_tokens and share < 1.0:  # more came than was kept, and what was kept holds no text
            output_tokens = held_tokens
    input_tokens = max(1, min(input_tokens, call.plan.demand.input_tokens))
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **dict(call.asked.ask.units))
