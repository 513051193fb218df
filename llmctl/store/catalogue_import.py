"""genai-prices' models as rows of ours. Its types are only named here: importing them takes 0.25 s."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Context, Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from importlib import resources
from math import ceil
from typing import TYPE_CHECKING, Any

from llmctl.domain.money import NANO_PER_USD, parse_usd
from llmctl.domain.price import DAY_S, UNIT_METERS, Hours, Rate, Tariff

from . import price_match
from .price_rows import PriceRow, Terms, canonical, encode, price_row

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

Additions = Mapping[str, list[dict[str, Any]]]  # as `catalogue_additions.toml` has them

# Our meter for each of genai-prices' price keys, and what turns its unit into ours (a million).
METER_OF: Mapping[str, tuple[str, int | Fraction]] = {
    "input_mtok": ("input", 1),
    "cache_read_mtok": ("cache_read", 1),
    "cache_write_mtok": ("cache_write", 1),
    "cache_write_5m_mtok": ("cache_write", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "input_audio_mtok": ("input_audio", 1),
    "input_image_mtok": ("input_image", 1),
    "input_video_mtok": ("input_video", 1),
    "cache_audio_read_mtok": ("cache_audio_read", 1),
    "cache_image_read_mtok": ("cache_image_read", 1),
    "output_mtok": ("output", 1),
    "output_reasoning_mtok": ("reasoning", 1),
    "output_audio_mtok": ("output_audio", 1),
    "output_image_mtok": ("output_image", 1),
    "output_video_mtok": ("output_video", 1),
    "requests_kcount": ("request", 1000),
    "web_searches_kcount": ("web_search", 1000),
    # OpenAI's file search calls, xAI's collections search: a search in what the customer has stored there.
    "storage_searches_kcount": ("file_search", 1000),
    "code_executions_kcount": ("code_interpreter", 1000),
    # Of speech that is read, or read and written: the same hours.
    "audio_hours": ("audio_seconds", Fraction(1_000_000, 3_600)),
    "input_audio_hours": ("audio_seconds", Fraction(1_000_000, 3_600)),
    "input_mchars": ("characters", 1),
    "input_document_kpages": ("pages", 1000),
    "rerank_searches_kcount": ("search_units", 1000),
}
# One of these makes a price; a fee for searches alone does not.
METERED_ALONE = {"input", "output", "request", *UNIT_METERS}
# What selects a variant there and is a service tier here. Anthropic's `speed: fast` is one like OpenAI's.
TIER_CONTEXTS = ("service_tier", "processing", "speed")

# Models of the catalogue without any rate that cost nothing. Others without a rate are unknown, not free:
# sold by the song or the minute, or no longer listed.
FREE = {
    ("openai", "moderation"),  # platform.openai.com/docs/guides/moderation: free of charge
    ("google", "gemma-3"),  # ai.google.dev/gemini-api/docs/pricing: Gemma has no paid tier
    ("google", "gemma-3n"),
    ("google", "gemma-4-26b-a4b-it"),
    ("google", "gemma-4-31b-it"),
}
FREE_SUFFIX = ":free"  # OpenRouter's, and others', free variants

# Some prices there went through a float (0.18000000000000002): 15 digits is what a float carries for sure.
_FLOAT_DIGITS = Context(prec=15)
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


def rows_of(providers: Sequence[Provider]) -> tuple[list[PriceRow], dict[str, int]]:
    """Rows in the order of matching, and counts, by reason, of what could not be taken over as it was."""
    notes: Counter[str] = Counter()
    additions = _additions()
    own = {provider.id: _provider_rows(provider, additions, notes) for provider in providers}
    rows: list[PriceRow] = []
    for provider in providers:
        rows += own[provider.id]
        # Azure sells OpenAI's models, Vertex Anthropic's: looked up there after the provider's own.
        for other in provider.fallback_model_providers or ():
            rows += _borrowed(own.get(other, ()), provider.id)
    return list(_unique(rows)), {reason: count for reason, count in notes.items() if count}


def _provider_rows(provider: Provider, additions: Additions, notes: Counter[str]) -> list[PriceRow]:
    limits = _limits(additions)
    rows = []
    for model in provider.models:
        clause = _clause(model.match)
        if why := price_match.problem(clause):
            notes[f"model skipped: {why}"] += 1
            continue
        context_tokens, output_tokens_max = limits.get((provider.id, model.id), (None, None))
        if context_tokens is None or (model.context_window or 0) > context_tokens:
            context_tokens = model.context_window
        dated = list(_dated_terms(provider.id, model, notes))
        notes["model skipped: no rate that we can meter"] += not dated
        of_model = [
            entry
            for entry in additions["fees"]
            if entry["provider"] == provider.id and any(fnmatchcase(model.id, pattern) for pattern in entry["models"])
        ]
        # Names with fees of their own go before the model's clause, which fits them too.
        for name in (*(entry["name"] for entry in of_model if "name" in entry), ""):
            match = canonical({"starts_with": name} if name else clause)
            fees = [entry for entry in of_model if entry.get("name", name) == name]
            for effective_from_s, terms in dated:
                text = encode(_with_fees(terms, fees))
                row = PriceRow(provider.id, name or model.id, match, effective_from_s, text)
                rows.append(replace(row, context_tokens=context_tokens, output_tokens_max=output_tokens_max))
    return [*rows, *_added(provider.id, additions)]


def _dated_terms(provider: str, model: ModelInfo, notes: Counter[str]) -> Iterator[tuple[int, Terms]]:
    """The model's terms at each date on which they change. genai-prices itself resolves what holds when."""
    variants = model.price_variants or []
    conditions = [] if not isinstance(model.prices, list) else [price.constraint for price in model.prices]
    conditions += [variant.constraint for variant in variants]
    dates = {day for condition in conditions if (day := getattr(condition, "start_date", None)) is not None}
    moments = [_BEFORE_ALL, *(datetime.combine(day, time(), UTC) for day in sorted(dates))]
    starts_s = _starts_of_hours(conditions)
    tiers = _tiers(variants, notes)
    unmetered: set[str] = set()
    before: Terms | None = None
    for moment in moments:
        terms = _terms(provider, model, moment, starts_s, tiers, unmetered, notes)
        if terms is not None and terms != before:
            yield int(moment.timestamp()), terms
        before = terms
    notes.update(f"meter skipped: {key}" for key in unmetered)


def _terms(
    provider: str,
    model: ModelInfo,
    moment: datetime,
    starts_s: list[int],
    tiers: Mapping[str, Mapping[str, str]],
    unmetered: set[str],
    notes: Counter[str],
) -> Terms | None:
    """What holds from that midnight (UTC) on; None if there is nothing that we can meter."""
    by_hour = []
    for start_s in starts_s:
        prices = model.get_prices(moment + timedelta(seconds=start_s))
        by_hour.append(_tariff(prices, unmetered, notes))
    if not any(METERED_ALONE & rates.keys() for rates in by_hour):
        return Terms(Tariff({"input": Rate(0), "output": Rate(0)})) if _is_free(provider, model, by_hour) else None
    dearest = _dearest(by_hour)
    hours = tuple(
        Hours(start_s, starts_s[(index + 1) % len(starts_s)], Tariff(rates))
        for index, (start_s, rates) in enumerate(zip(starts_s, by_hour, strict=True))
        if rates != dearest
    )
    tariffs = {}
    for name, context in tiers.items():
        at_all_hours = [model.get_prices(moment + timedelta(seconds=start_s), context) for start_s in starts_s]
        rates = _dearest([_tariff(prices, unmetered, notes) for prices in at_all_hours])
        if rates != dearest:
            tariffs[name] = Tariff(rates)
    return Terms(Tariff(dearest), tariffs, hours, tuple(sorted(unmetered)))


def _tariff(prices: ModelPrice, unmetered: set[str], notes: Counter[str]) -> dict[str, Rate]:
    rates = {}
    for key, value in prices.__dict__.items():
        if value is None:
            continue
        if key not in METER_OF:
            unmetered.add(key)
            continue
        meter, factor = METER_OF[key]
        base = value if isinstance(value, Decimal) else value.base
        steps = [] if isinstance(value, Decimal) else [(tier.start, tier.price) for tier in value.tiers]
        rates[meter] = Rate(
            _nano(base, factor, notes),
            tuple((start, _nano(price, factor, notes)) for start, price in steps),
        )
    return rates


def _nano(usd: Decimal, factor: int | Fraction, notes: Counter[str]) -> int:
    """USD as integer nano-USD per million units, exactly; what is finer than that is rounded up and counted."""
    exact = Fraction(_FLOAT_DIGITS.plus(usd)) * NANO_PER_USD * factor
    whole = ceil(exact)
    notes["rate finer than a nano-USD: rounded up"] += whole != exact
    return whole


def _dearest(tariffs: Iterable[Mapping[str, Rate]]) -> dict[str, Rate]:
    """Meter by meter the highest rate, so that a call whose hour is not known is never booked too cheap."""
    highest: dict[str, Rate] = {}
    for rates in tariffs:
        for meter, rate in rates.items():
            if meter not in highest or (rate.base, rate.steps) > (highest[meter].base, highest[meter].steps):
                highest[meter] = rate
    return highest


def _starts_of_hours(conditions: Iterable[object]) -> list[int]:
    """The seconds of the UTC day at which prices may change; always with the day's first."""
    starts_s = {0}
    for condition in conditions:
        for bound in (getattr(condition, "start_time", None), getattr(condition, "end_time", None)):
            if isinstance(bound, time):
                local = timedelta(hours=bound.hour, minutes=bound.minute, seconds=bound.second)
                starts_s.add(int((local - (bound.utcoffset() or timedelta())).total_seconds()) % DAY_S)
    return sorted(starts_s)


def _tiers(variants: Iterable[Any], notes: Counter[str]) -> dict[str, Mapping[str, str]]:
    """Service tier -> what selects it there. Other selectors (OpenRouter's region, Perplexity's kind of
    search) are not known from a request or an answer: their calls are booked at the standard rate.
    """
    tiers: dict[str, Mapping[str, str]] = {}
    for variant in variants:
        ((key, value), *more) = variant.when.items()
        if more or key not in TIER_CONTEXTS:
            notes[f"variant skipped: {key}={value}"] += 1
        else:
            tiers[value] = variant.when
    return tiers


def _is_free(provider: str, model: ModelInfo, tariffs: Iterable[Mapping[str, Rate]]) -> bool:
    if any(tariffs) or (isinstance(model.prices, list) and any(price.prices.__dict__ for price in model.prices)):
        return False
    return model.id.endswith(FREE_SUFFIX) or (provider, model.id) in FREE


def _clause(match: Any) -> dict[str, Any]:
    """genai-prices' clause as the JSON that it was written in."""
    for name in ("equals", "starts_with", "ends_with", "contains", "regex"):
        if hasattr(match, name):
            return {name: getattr(match, name)}
    name = "or" if hasattr(match, "or_") else "and"
    return {name: [_clause(item) for item in getattr(match, f"{name}_")]}


def _borrowed(rows: Iterable[PriceRow], provider: str) -> Iterator[PriceRow]:
    """Another provider's rows as this one's. Without tiers, as there: they are the other's offer."""
    before: PriceRow | None = None
    for row in rows:
        terms = json.loads(row.terms)
        terms.pop("tiers", None)
        borrowed = replace(row, provider=provider, terms=canonical(terms))
        if before is None or replace(before, effective_from_s=row.effective_from_s) != borrowed:
            yield borrowed
        before = borrowed


def _unique(rows: Iterable[PriceRow]) -> Iterator[PriceRow]:
    """Of rows for the same model and date, the first: it wins in genai-prices too."""
    seen = set()
    for row in rows:
        identity = (row.provider, row.model, row.match, row.effective_from_s)
        if identity not in seen:
            seen.add(identity)
            yield row


def _added(provider: str, additions: Additions) -> Iterator[PriceRow]:
    """Models that the catalogue does not know: after its own, so that it goes first once it does."""
    for entry in additions["models"]:
        if entry["provider"] == provider:
            for model in entry["models"]:
                yield price_row(provider, model, _rates(entry))


def _rates(entry: Mapping[str, Any]) -> dict[str, Rate]:
    """USD per million, per thousand or for each unit of a meter, as rates per million."""
    found: dict[str, Rate] = {}
    for key, units in (("usd_per_million", 1), ("usd_per_thousand", 1_000), ("usd_each", 1_000_000)):
        found |= {meter: Rate(parse_usd(usd) * units) for meter, usd in entry.get(key, {}).items()}
    return found


def _additions() -> Additions:
    """What providers document and the catalogue lacks: `models`, `limits` and `fees`."""
    text = (resources.files("llmctl.store") / "catalogue_additions.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _limits(additions: Additions) -> dict[tuple[str, str], tuple[int | None, int]]:
    """(provider, model) -> context window, output maximum."""
    return {
        (entry["provider"], model): (entry.get("context_tokens"), entry["output_tokens_max"])
        for entry in additions["limits"]
        for model in entry["models"]
    }


def _with_fees(terms: Terms, entries: Iterable[Mapping[str, Any]]) -> Terms:
    """The terms with what they lack. A fee with a tier replaces what the tier had."""
    for entry in entries:
        fees = _rates(entry)
        if tier := entry.get("tier"):
            known = terms.tiers.get(tier, terms.tariff)
            terms = replace(terms, tiers={**terms.tiers, tier: Tariff({**known.rates, **fees})})
        else:
            terms = Terms(
                Tariff({**fees, **terms.tariff.rates}),
                {name: Tariff({**fees, **tariff.rates}) for name, tariff in terms.tiers.items()},
                tuple(replace(hours, tariff=Tariff({**fees, **hours.tariff.rates})) for hours in terms.hours),
                terms.unmetered,
            )
    return terms
