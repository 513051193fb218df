"""The money that a provider states itself: then that is what the call cost."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Raw

from .wire.lenient import inner, nano_usd, plain

_XAI_TICKS_PER_USD = 10**10


def reported_cost_nano_usd(raw: bytes | Raw) -> int | None:
    """What the provider says that the call cost; None if it does not."""
    usage = plain(raw)
    ticks = usage.get("cost_in_usd_ticks")  # xAI; Azure, which sells its models too, always says 0, and bills them
    if isinstance(ticks, int) and not isinstance(ticks, bool) and ticks != 0:
        return nano_usd(Decimal(ticks) / _XAI_TICKS_PER_USD)
    cost = usage.get("cost")
    if isinstance(cost, dict):  # Perplexity
        return nano_usd(cost.get("total_cost"))
    stated = nano_usd(cost)  # OpenRouter
    if stated is not None and usage.get("is_byok") is True:
        # With a key of one's own, OpenRouter states its fee; the provider bills the rest to the same organisation.
        stated += nano_usd(inner(usage, "cost_details").get("upstream_inference_cost")) or 0
    return stated
