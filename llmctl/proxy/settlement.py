"""How the end of a call is booked (DESIGN section 10, "Booking of failures")."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmctl.dialects.table import Endpoint
from llmctl.domain.call import Ask, Reading
from llmctl.domain.principal import Caller
from llmctl.domain.usage import NO_USAGE, Usage
from llmctl.store.booking import Closing, Granted

from .plan import Plan


@dataclass(slots=True)
class Call:
    """One admitted call, from its hold to its booking."""

    id: int
    started_at_ms: int
    began_s: float  # monotonic
    caller: Caller
    endpoint: Endpoint
    ask: Ask
    plan: Plan
    granted: Granted
    first_byte_s: float | None = field(default=None)

    def latency_ms(self, now_s: float) -> int:
        return round((now_s - self.began_s) * 1000)

    def ttft_ms(self) -> int | None:
        return None if self.first_byte_s is None else round((self.first_byte_s - self.began_s) * 1000)


def released(call: Call, *, status: int, error: str, now_s: float) -> Closing:
    """It never reached the provider: nothing is owed."""
    return Closing(call.id, "released", status, error, latency_ms=call.latency_ms(now_s))


def unanswered(call: Call, *, status: int | None, error: str, now_s: float) -> Closing:
    """Sent, and no answer came: the provider may bill all of it, so all that was held is booked, as an estimate."""
    demand = call.plan.demand
    output_tokens = call.granted.output_tokens * demand.output_multiplier
    return Closing(
        call.id,
        "settled",
        status,
        error,
        usage=Usage(input_tokens=demand.input_tokens, output_tokens=output_tokens),
        usage_source=None if call.ask.free else "estimated",
        cost_nano_usd=_held_cost(call),
        price_id=call.plan.price.id if call.plan.price else None,
        latency_ms=call.latency_ms(now_s),
    )


def failed(call: Call, *, status: int, error: str, now_s: float) -> Closing:
    """The provider answered with an error and reported no usage: it bills nothing."""
    return Closing(call.id, "settled", status, error, latency_ms=call.latency_ms(now_s), ttft_ms=call.ttft_ms())


def answered(
    call: Call, reading: Reading, *, status: int | None, error: str, estimate: Usage | None, now_s: float
) -> Closing:
    """An answer, whole or broken off. Its own usage counts; `estimate` stands in where it reported none."""
    usage = reading.usage or estimate or NO_USAGE
    price = call.plan.price
    cost: int | None
    if reading.reported_cost_nano_usd is not None:
        cost, price_id = reading.reported_cost_nano_usd, None
    elif call.ask.free:
        cost, price_id = 0, None
    elif price is not None:
        cost, price_id = price.cost_nano_usd(usage, reading.service_tier, call.started_at_ms // 1000), price.id
    else:
        cost, price_id = None, None
    return Closing(
        call.id,
        "settled",
        status,
        error or reading.error,
        usage=usage,
        usage_source="reported" if reading.usage is not None else "estimated" if estimate is not None else None,
        cost_nano_usd=cost,
        price_id=price_id,
        raw_usage=reading.raw_usage.decode("utf-8", "replace"),
        response_model=reading.response_model,
        latency_ms=call.latency_ms(now_s),
        ttft_ms=call.ttft_ms(),
    )


def estimate_of(call: Call, reading: Reading, input_tokens: int, seen_tokens: int) -> Usage:
    """Usage of an answer that reported none: counted offline, never above what was held, never nothing."""
    output_tokens = 0
    if call.ask.generates:
        share = min(1.0, max(reading.output_seen_share, 0.001))
        output_tokens = max(1, math.ceil(seen_tokens / share))
        output_tokens = min(output_tokens, max(1, call.granted.output_tokens * call.plan.demand.output_multiplier))
    return Usage(input_tokens=max(1, min(input_tokens, call.plan.demand.input_tokens)), output_tokens=output_tokens)


def _held_cost(call: Call) -> int | None:
    if call.ask.free:
        return 0
    return None if call.plan.price is None else call.granted.held_nano_usd
