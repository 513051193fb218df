"""Prices as they are stored: one row per model and date, its terms as compact JSON of integers.

    {"input":1250000000,"output":{"base":10000000000,"steps":[[272000,15000000000]]},
     "tiers":{"flex":{"input":625000000}},
     "hours":[{"from":37800,"to":3600,"rates":{..}}],
     "unmetered":["audio_hours"]}

A tier has only the meters that differ. Hours are parts of the UTC day, in seconds, with all their rates.
Unmetered is what the provider bills too and we cannot count yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmctl.domain.access import is_pattern
from llmctl.domain.errors import BadInput
from llmctl.domain.price import DAY_S, METERS, PARENT, Hours, Rate, Tariff

from . import price_match

RATE_MAX = 10**15  # nano-USD per million tokens: a dollar a token is a mistake
UNIT_RATE_MAX = 10**18  # per million calls, images, minutes: a thousand dollars each
TOKENS_MAX = 10**9
STEPS_MAX = 16
TIERS_MAX = 32
HOURS_MAX = 48
NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What a source says of one model from one moment on. Its JSON texts are canonical: equal = unchanged."""

    provider: str
    model: str
    match: str
    effective_from_s: int
    terms: str
    context_tokens: int | None = None
    output_tokens_max: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of the table `prices`, in the order of its SELECT."""

    id: int
    provider: str
    model: str
    match: str
    source: str
    effective_from_s: int
    terms: str
    context_tokens: int | None
    output_tokens_max: int | None
    created_at_s: int
    superseded_at_s: int | None


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a price says of a model: its rates, those of its tiers and hours, and what has none."""

    tariff: Tariff
    tiers: Mapping[str, Tariff] = field(default_factory=dict)
    hours: tuple[Hours, ...] = ()
    unmetered: tuple[str, ...] = ()


def price_row(
    provider: str,
    model: str,
    rates: Mapping[str, int | Rate],
    *,
    effective_from_s: int = 0,
    context_tokens: int | None = None,
    output_tokens_max: int | None = None,
) -> PriceRow:
    """A row for the model of exactly that name, or for all that a pattern with `*` and `?` names.

    Rates are nano-USD per million units by meter, so that `parse_usd("0.25")` is a rate. Raises BadInput.
    """
    tariff = Tariff({meter: rate if isinstance(rate, Rate) else Rate(rate) for meter, rate in rates.items()})
    return terms_row(
        provider,
        model,
        Terms(tariff),
        effective_from_s=effective_from_s,
        context_tokens=context_tokens,
        output_tokens_max=output_tokens_max,
    )


def terms_row(
    provider: str,
    model: str,
    terms: Terms,
    *,
    effective_from_s: int = 0,
    context_tokens: int | None = None,
    output_tokens_max: int | None = None,
) -> PriceRow:
    """The same with tiers. Raises BadInput."""
    match = canonical({"glob" if is_pattern(model) else "equals": model})
    row = PriceRow(provider, model, match, effective_from_s, encode(terms), context_tokens, output_tokens_max)
    check(row)
    return row


def check(row: PriceRow) -> None:
    """Raises BadInput, naming what is wrong, for a row that must not be stored."""
    for name, text in (("provider", row.provider), ("model", row.model)):
        if not text or len(text) > NAME_CHARS_MAX or not text.isprintable():
            raise BadInput(
                f"{text[:NAME_CHARS_MAX]!r} is not a {name}", hint="write its name as the provider's API does"
            )
    try:
        decode(row.terms)
        why = price_match.problem(json.loads(row.match))
    except ValueError as error:
        why = str(error)
    for count in (row.context_tokens, row.output_tokens_max):
        if count is not None and (type(count) is not int or not 0 <= count <= TOKENS_MAX):
            why = f"{count!r} is not a number of tokens"
    if type(row.effective_from_s) is not int or not 0 <= row.effective_from_s < 1 << 40:
        why = f"{row.effective_from_s!r} is not a moment in unix seconds"
    if why:
        raise BadInput(f"the price of {row.provider}/{row.model} cannot be used: {why}")


def encode(terms: Terms) -> str:
    record: dict[str, Any] = _encode_rates(terms.tariff.rates)
    tiers = {name: _encode_rates(_changes(terms.tariff, tier)) for name, tier in sorted(terms.tiers.items())}
    if tiers := {name: rates for name, rates in tiers.items() if rates}:
        record["tiers"] = tiers
    if terms.hours:
        record["hours"] = [
            {"from": hours.from_s, "to": hours.to_s, "rates": _encode_rates(hours.tariff.rates)}
            for hours in terms.hours
        ]
    if terms.unmetered:
        record["unmetered"] = sorted(terms.unmetered)
    return canonical(record)


def decode(text: str) -> Terms:
    """Raises ValueError in words for anything but what `encode` writes."""
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("terms are an object")
    tiers = _dict(record.pop("tiers", {}), "tiers", TIERS_MAX)
    hours = _list(record.pop("hours", []), "hours", HOURS_MAX)
    unmetered = _list(record.pop("unmetered", []), "unmetered", len(METERS))
    base = _decode_rates(record)
    if not base:
        raise ValueError("there is no rate")
    if not all(isinstance(name, str) for name in unmetered):
        raise ValueError("unmetered takes names")
    return Terms(
        Tariff(base),
        {name: Tariff({**base, **_decode_rates(rates)}) for name, rates in tiers.items()},
        tuple(_decode_hours(item) for item in hours),
        tuple(unmetered),
    )


def canonical(value: object) -> str:
    """The one JSON text of a value, in ASCII: a lone surrogate would not go into SQLite."""
    return json.dumps(value, separators=(",", ":"))


def _changes(base: Tariff, tier: Tariff) -> dict[str, Rate]:
    return {meter: rate for meter, rate in tier.rates.items() if base.rates.get(meter) != rate}


def _encode_rates(rates: Mapping[str, Rate]) -> dict[str, Any]:
    return {meter: _encode_rate(rates[meter]) for meter in sorted(rates, key=_order)}


def _encode_rate(rate: Rate) -> Any:
    return {"base": rate.base, "steps": [list(step) for step in rate.steps]} if rate.steps else rate.base


def _order(meter: str) -> tuple[int, str]:
    return (METERS.index(meter) if meter in METERS else len(METERS), meter)


def _decode_rates(record: object) -> dict[str, Rate]:
    rates = _dict(record, "rates", len(METERS))
    if unknown := [meter for meter in rates if meter not in METERS]:
        raise ValueError(f"no meter is called {unknown[0]!r} (there are {', '.join(METERS)})")
    return {
        meter: _decode_rate(value, RATE_MAX if meter in PARENT else UNIT_RATE_MAX) for meter, value in rates.items()
    }


def _decode_rate(value: object, most: int) -> Rate:
    if not isinstance(value, dict):
        return Rate(_int(value, most))
    if set(value) != {"base", "steps"}:
        raise ValueError("a rate is an integer, or an object of base and steps")
    steps = []
    above_before = -1
    for step in _list(value["steps"], "steps", STEPS_MAX):
        if not isinstance(step, list) or len(step) != 2:
            raise ValueError("a step is a pair: above so many input tokens, rate")
        above = _int(step[0], TOKENS_MAX)
        if above <= above_before:
            raise ValueError("steps ascend")
        above_before = above
        steps.append((above, _int(step[1], most)))
    return Rate(_int(value["base"], most), tuple(steps))


def _decode_hours(value: object) -> Hours:
    if not isinstance(value, dict) or set(value) != {"from", "to", "rates"}:
        raise ValueError("hours are objects of from, to and rates")
    return Hours(_int(value["from"], DAY_S - 1), _int(value["to"], DAY_S - 1), Tariff(_decode_rates(value["rates"])))


def _int(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:  # `type`: True is an int too
        raise ValueError(f"{value!r} is not an integer from 0 to {most}")
    return value


def _dict(value: object, name: str, most: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"{name} is an object of at most {most} keys")
    return value


def _list(value: object, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{name} is a list of at most {most} items")
    return value
