"""How prices look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmctl.domain.money import usd_exact, usd_plain
from llmctl.domain.price import Hours, Price, Rate, Tariff, pick

from . import meters, times
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.prices import Entry

    from .context import App

COLUMN_METERS = ("input", "cache_read", "cache_write", "output")


def columns(run: App) -> tuple[Column[Price], ...]:
    return (
        Column("provider", lambda p: p.provider, "PROVIDER", lambda p: _owner(p.provider)),
        Column("model", lambda p: p.model, "MODEL"),
        *(_rate_column(meter, drop) for meter, drop in zip(COLUMN_METERS, (0, 3, 4, 0), strict=True)),
        Column("other_rates", _other_text, "OTHER", lambda p: _other_text(p) or "-", drop=5),
        Column("tiers", lambda p: sorted(p.tiers)),
        Column("source", lambda p: p.source, "SOURCE", fixed=True, drop=2),
        Column(
            "effective_from",
            lambda p: times.rfc3339(p.effective_from_s) if p.effective_from_s else None,
            "FROM",
            lambda p: from_text(run, p),
            drop=1,
        ),
        Column("context_tokens", lambda p: p.context_tokens),
        Column("output_tokens_max", lambda p: p.output_tokens_max),
    )


def history_columns(run: App, dated: Sequence[Sequence[Price]] = ()) -> tuple[Column[Entry], ...]:
    """`dated`: what counts today, of each provider, one price per date."""
    return (
        times.moment_column("set_at", "SET", lambda e: e.created_at_s, run.zone, run.now_s),
        Column("source", lambda e: e.price.source, "SOURCE", fixed=True),
        Column("provider", lambda e: e.price.provider, "PROVIDER", lambda e: _owner(e.price.provider), drop=2),
        Column("model", lambda e: e.price.model, "MODEL", drop=1),
        Column(
            "effective_from",
            lambda e: times.rfc3339(e.price.effective_from_s) if e.price.effective_from_s else None,
            "FROM",
            lambda e: from_text(run, e.price),
        ),
        Column("rates", None, "RATES", lambda e: rates_text(e.price, unit=False)),
        *(_exact_column(name) for name in ("usd_per_million", "tiers", "hours_utc")),
        Column(
            "superseded_at",
            lambda e: times.rfc3339(e.superseded_at_s),
            "UNTIL",
            lambda e: _until(run, e, dated),
        ),
        Column("in_force", lambda e: _in_force(run, e, dated)),
        Column("price_id", lambda e: e.price.id),
    )


def values(provider: str, model: str, price: Price) -> dict[str, object]:
    return {
        "provider": provider,
        "model": model,
        "source": price.source,
        "price_of": f"{price.provider}/{price.model}",
        "effective_from": times.rfc3339(price.effective_from_s) if price.effective_from_s else None,
        **rates_exact(price),
        "context_tokens": price.context_tokens,
        "output_tokens_max": price.output_tokens_max,
    }


def fields(run: App, provider: str, model: str, price: Price) -> list[tuple[str, str]]:
    found = [
        ("Model", f"{provider}/{model}"),
        ("Price of", f"{'any provider' if price.provider == '*' else price.provider}, {price.model} ({price.source})"),
    ]
    if price.source == "ceiling":
        found.append(("Ceiling", "nobody knows its price: it is held and booked at this"))
    if price.effective_from_s:
        found.append(("Since", times.day_short(price.effective_from_s, run.zone, run.now_s)))
    found += [(meters.title(meter), meters.steps_text(meter, rate)) for meter, rate in price.tariff.rates.items()]
    found += [(f"Tier {name}", _changes_text(price, tariff)) for name, tariff in price.tiers.items()]
    found += [(f"{_hours_name(hours)} UTC", _changes_text(price, hours.tariff)) for hours in price.hours]
    if price.unmetered:
        found.append(("Not metered", ", ".join(price.unmetered)))
    for title, number in (("Context", price.context_tokens), ("Output maximum", price.output_tokens_max)):
        if number is not None:
            found.append((title, f"{number:,} tokens"))
    return found


def rates_exact(price: Price) -> dict[str, dict[str, object]]:
    """All rates as decimals: the usual ones, those of other tiers, those of other hours."""
    return {
        "usd_per_million": _tariff_values(price.tariff),
        "tiers": {name: _tariff_values(tariff) for name, tariff in price.tiers.items()},
        "hours_utc": {_hours_name(hours): _tariff_values(hours.tariff) for hours in price.hours},
    }


def terms_exact(price: Price) -> dict[str, object]:
    """For the audit: the rates, the tiers where there are some, and from when on."""
    found: dict[str, object] = {
        meter: meters.steps_text(meter, rate) if rate.steps or meters.unit(meter).text else usd_exact(rate.base)
        for meter, rate in price.tariff.rates.items()
    }
    found |= {f"tier {name}": _changes_text(price, tariff) for name, tariff in price.tiers.items()}
    if price.effective_from_s:
        found["from"] = times.rfc3339(price.effective_from_s)
    return found


def rates_text(price: Price, *, tier: str = "", unit: bool = True) -> str:
    """`input $1.25, output $10.00 per million tokens`; what has another unit names it, and comes first. Of a tier that
    the price has no rates for: those that it is billed at."""
    rates = price.tiers.get(tier, price.tariff).rates
    others = {meter: rate for meter, rate in rates.items() if meters.unit(meter).text}
    tokens = {meter: rate for meter, rate in rates.items() if meter not in others}
    text = _tariff_text({**others, **tokens})
    tiers = f"; other rates for {', '.join(sorted(price.tiers))}" if price.tiers and not tier else ""
    return f"{text}{' per million tokens' if tokens and unit else ''}{tiers}"


def changes_text(before: Price, after: Price, *, tier: str = "") -> str:
    """`input $1.25 -> $4.00, output $10.00 -> $12.00 per million tokens`; all rates where none of these changed."""
    old, new = before.tiers.get(tier, before.tariff).rates, after.tiers.get(tier, after.tariff).rates
    changed = [meter for meter in new if old.get(meter) != new[meter]]
    if not changed:
        return rates_text(after, tier=tier)
    changed.sort(key=lambda meter: not meters.unit(meter).text)  # as `rates_text` does
    parts = [
        f"{meters.title(meter).lower()} {meters.steps_text(meter, old[meter]) if meter in old else 'none'}"
        f" -> {meters.steps_text(meter, new[meter])}"
        for meter in changed
    ]
    return f"{', '.join(parts)}{'' if meters.unit(changed[-1]).text else ' per million tokens'}"


def from_text(run: App, price: Price) -> str:
    return times.day_short(price.effective_from_s, run.zone, run.now_s) if price.effective_from_s else "-"


def _in_force(run: App, entry: Entry, dated: Sequence[Sequence[Price]]) -> bool:
    return any(price.id == entry.price.id for price in (pick(prices, run.now_s) for prices in dated) if price)


def _until(run: App, entry: Entry, dated: Sequence[Sequence[Price]]) -> str:
    """Until when calls are billed at it: a price that nobody replaced may be one of another time, or have one of an
    admin before it."""
    if entry.superseded_at_s is not None:
        return times.moment_short(entry.superseded_at_s, run.zone, run.now_s)
    if _in_force(run, entry, dated):
        return "in force"
    from_s = entry.price.effective_from_s
    counting = [prices for prices in dated if any(price.id == entry.price.id for price in prices)]
    if not counting:
        return "overridden"
    if from_s > run.now_s:
        return "to come"
    ends_s = min(price.effective_from_s for prices in counting for price in prices if price.effective_from_s > from_s)
    return times.end_short(ends_s, run.zone, run.now_s)


def _owner(provider: str) -> str:
    return "any" if provider == "*" else provider


def _exact_column(name: str) -> Column[Entry]:
    return Column(name, lambda entry: rates_exact(entry.price)[name])


def _rate_column(meter: str, drop: int) -> Column[Price]:
    def exact(price: Price) -> object:
        rate = price.tariff.rates.get(meter)
        return None if rate is None else usd_exact(rate.base)

    def shown(price: Price) -> str:
        rate = price.tariff.rates.get(meter)
        if rate is None:
            return "-"
        return f"{'from ' if rate.steps else ''}${usd_plain(rate.base)}"

    return Column(f"{meter}_usd_per_million", exact, meter.replace("_", " ").upper(), shown, right=True, drop=drop)


def _other_text(price: Price) -> str:
    """What has another unit than tokens."""
    return _tariff_text({meter: rate for meter, rate in price.tariff.rates.items() if meters.unit(meter).text})


def _tariff_values(tariff: Tariff) -> dict[str, object]:
    return {meter: _rate_values(rate) for meter, rate in tariff.rates.items()}


def _rate_values(rate: Rate) -> object:
    if not rate.steps:
        return usd_exact(rate.base)
    return {"base": usd_exact(rate.base), "above_input_tokens": {str(n): usd_exact(usd) for n, usd in rate.steps}}


def _changes_text(price: Price, tariff: Tariff) -> str:
    """What is another rate than the price's own."""
    changed = {meter: rate for meter, rate in tariff.rates.items() if price.tariff.rates.get(meter) != rate}
    return _tariff_text(changed) or "as else"


def _tariff_text(rates: Mapping[str, Rate]) -> str:
    return ", ".join(f"{meters.title(meter).lower()} {meters.steps_text(meter, rate)}" for meter, rate in rates.items())


def _hours_name(hours: Hours) -> str:
    return f"{_clock(hours.from_s)}-{_clock(hours.to_s)}"


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}"
