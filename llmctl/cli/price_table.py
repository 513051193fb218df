"""How prices look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl.domain.money import usd_exact, usd_plain
from llmctl.domain.price import Price, Rate, Tariff

from . import times
from .render import Column

if TYPE_CHECKING:
    from .context import App

COLUMN_METERS = ("input", "cache_read", "cache_write", "output")


def columns(run: App) -> tuple[Column[Price], ...]:
    return (
        Column("provider", lambda p: p.provider, "PROVIDER", lambda p: "any" if p.provider == "*" else p.provider),
        Column("model", lambda p: p.model, "MODEL"),
        *(_rate_column(meter, drop) for meter, drop in zip(COLUMN_METERS, (0, 3, 4, 0), strict=True)),
        Column("source", lambda p: p.source, "SOURCE", fixed=True, drop=2),
        Column(
            "effective_from",
            lambda p: times.rfc3339(p.effective_from_s) if p.effective_from_s else None,
            "FROM",
            lambda p: times.day_short(p.effective_from_s, run.zone, run.now_s) if p.effective_from_s else "-",
            drop=1,
        ),
        Column("context_tokens", lambda p: p.context_tokens),
        Column("output_tokens_max", lambda p: p.output_tokens_max),
    )


def values(provider: str, model: str, price: Price) -> dict[str, object]:
    return {
        "provider": provider,
        "model": model,
        "source": price.source,
        "price_of": f"{price.provider}/{price.model}",
        "effective_from": times.rfc3339(price.effective_from_s) if price.effective_from_s else None,
        "usd_per_million": rates_exact(price),
        "tiers": {name: _tariff_values(tariff) for name, tariff in price.tiers.items()},
        "context_tokens": price.context_tokens,
        "output_tokens_max": price.output_tokens_max,
    }


def fields(run: App, provider: str, model: str, price: Price) -> list[tuple[str, str]]:
    found = [
        ("Model", f"{provider}/{model}"),
        ("Price of", f"{'any provider' if price.provider == '*' else price.provider}, {price.model} ({price.source})"),
    ]
    if price.effective_from_s:
        found.append(("Since", times.day_short(price.effective_from_s, run.zone, run.now_s)))
    found += [(_title(meter), _rate_text(rate)) for meter, rate in price.tariff.rates.items()]
    found += [(f"Tier {name}", _tariff_text(tariff)) for name, tariff in price.tiers.items()]
    if price.unmetered:
        found.append(("Not metered", ", ".join(price.unmetered)))
    for title, number in (("Context", price.context_tokens), ("Output maximum", price.output_tokens_max)):
        if number is not None:
            found.append((title, f"{number:,} tokens"))
    return found


def rates_exact(price: Price) -> dict[str, object]:
    return _tariff_values(price.tariff)


def rates_text(price: Price) -> str:
    """`input $1.25, output $10.00`."""
    return _tariff_text(price.tariff)


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


def _tariff_values(tariff: Tariff) -> dict[str, object]:
    return {meter: _rate_values(rate) for meter, rate in tariff.rates.items()}


def _rate_values(rate: Rate) -> object:
    if not rate.steps:
        return usd_exact(rate.base)
    return {"base": usd_exact(rate.base), "above_input_tokens": {str(n): usd_exact(usd) for n, usd in rate.steps}}


def _tariff_text(tariff: Tariff) -> str:
    return ", ".join(f"{_title(meter).lower()} {_rate_text(rate)}" for meter, rate in tariff.rates.items())


def _rate_text(rate: Rate) -> str:
    steps = "".join(f", ${usd_plain(usd)} above {above:,} input tokens" for above, usd in rate.steps)
    return f"${usd_plain(rate.base)}{steps}"


def _title(meter: str) -> str:
    return meter.replace("_", " ").capitalize()
