"""What a call cost and why: the usage, the price that made a cost of it, and what became of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmctl.domain.money import PRICE_UNITS, usd_exact, usd_fine, usd_plain

from . import meters
from .times import moment_short, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.domain.price import Part, Price
    from llmctl.store.repricing import Repriced
    from llmctl.store.why import Why

    from .context import App


def values(found: Why) -> dict[str, object]:
    """For JSON: everything that is needed to work it out again."""
    one, price = found.call, found.price
    return {
        "cost_usd": _exact(one.cost_nano_usd) if one.state == "settled" else None,
        "price_source": one.price_source,
        "own_cost_usd": _exact(one.own_cost_nano_usd),
        "own_price_source": one.own_price_source,
        "service_tier": one.service_tier,
        "usage_source": one.usage_source,
        "usage": {name: count for name, count in one.usage._asdict().items() if count},
        "raw_usage": _raw(found.raw_usage),
        "price": None if price is None else _price_values(price),
        "parts": [_part_values(part) for part in _parts(found)],
        "repriced": [_repriced_values(change) for change in found.repriced],
    }


def fields(run: App, found: Why) -> list[tuple[str, str | Sequence[str]]]:
    """For people. Nothing for a call that has not been booked."""
    one = found.call
    if one.state != "settled":
        return []
    used = f"{one.usage.input_tokens:,} input and {one.usage.output_tokens:,} output tokens"
    if one.usage_source == "estimated":
        used += ", estimated"
    if one.cost_nano_usd is None:
        booked = f"unpriced: {used}"
    else:
        booked = f"{usd_fine(one.cost_nano_usd)}: {used}{_stated(found)}"
    shown: list[tuple[str, str | Sequence[str]]] = [("Booked", booked)]
    if one.service_tier:
        shown.append(("Served", one.service_tier))
    if found.price is not None:
        shown.append(("Price", [_price_text(found.price), *map(_part_text, _parts(found))]))
    if found.repriced:
        shown.append(("Repriced", [_repriced_text(run, change) for change in found.repriced]))
    return shown


def _stated(found: Why) -> str:
    one = found.call
    if one.price_source != "provider":
        return ""
    if one.own_cost_nano_usd is None:
        return ", as the provider states; we have no price"
    return f", as the provider states; by our price {usd_fine(one.own_cost_nano_usd)}"


def _parts(found: Why) -> list[Part]:
    """Line by line, where the lines make the figure: what is booked at all that was held is more than its usage."""
    one, price = found.call, found.price
    if price is None or one.state != "settled":
        return []
    figure = one.own_cost_nano_usd if one.own_price_source else one.cost_nano_usd
    parts = price.parts(one.usage, one.service_tier or "", one.started_at_ms // 1000)
    return parts if -(-sum(part.nano_e6 for part in parts) // PRICE_UNITS) == figure else []


def _price_values(price: Price) -> dict[str, object]:
    return {
        "price_of": f"{price.provider}/{price.model}",
        "source": price.source,
        "effective_from": rfc3339(price.effective_from_s) if price.effective_from_s else None,
    }


def _price_text(price: Price) -> str:
    owner = "any provider" if price.provider == "*" else price.provider
    return f"{owner}, {price.model} ({price.source})"


def _part_values(part: Part) -> dict[str, object]:
    rate = None if part.rate is None else usd_exact(part.rate)
    cost = usd_exact(-(-part.nano_e6 // PRICE_UNITS))
    return {"meter": part.meter, "units": part.units, "usd_per_million": rate, "cost_usd": cost}


def _part_text(part: Part) -> str:
    if part.rate is None:
        return f"{part.units:,} {meters.title(part.meter).lower()}: the price does not say"
    cost = usd_plain(-(-part.nano_e6 // PRICE_UNITS))
    return f"{part.units:,} {meters.title(part.meter).lower()} at {meters.rate_text(part.meter, part.rate)} = ${cost}"


def _repriced_values(change: Repriced) -> dict[str, object]:
    return {
        "at": rfc3339(change.at_s),
        "old_cost_usd": _exact(change.old_cost_nano_usd),
        "old_price_source": change.old_source,
        "new_cost_usd": _exact(change.new_cost_nano_usd),
        "new_price_source": change.new_source,
        "own_figure_only": change.stated,
    }


def _repriced_text(run: App, change: Repriced) -> str:
    old = "unpriced" if change.old_cost_nano_usd is None else f"{usd_fine(change.old_cost_nano_usd)}"
    new = usd_fine(change.new_cost_nano_usd or 0)
    whose = " (our own figure)" if change.stated else ""
    return f"{old} -> {new}{whose} on {moment_short(change.at_s, run.zone, run.now_s)}"


def _exact(nano: int | None) -> str | None:
    return None if nano is None else usd_exact(nano)


def _raw(text: str) -> object:
    """The provider's own object; as text where it is none."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
