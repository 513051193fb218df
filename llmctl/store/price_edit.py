"""An admin's price beside what is there: some of its rates, those of one service tier, those of long contexts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from llmctl.domain.access import is_pattern
from llmctl.domain.errors import BadInput, DoesNotFit, NotFound
from llmctl.domain.price import STANDARD_TIERS, Price, Rate, Tariff, pick, sides_missing

from . import prices
from .price_rows import TOKENS_MAX, Terms, terms_row
from .prices import AdminSource

TIER_CHARACTERS_MAX = 64


class Seller(NamedTuple):
    """A provider that may have a price for the model already."""

    provider: str
    catalogue: str
    sold_as: str = ""  # under which name a deployment is billed


def set_rates(
    tx: sqlite3.Connection,
    *,
    provider: str,
    sellers: Iterable[Seller],
    model: str,
    rates: Mapping[str, int],
    context_tokens: int | None = None,
    output_tokens_max: int | None = None,
    effective_from_s: int = 0,
    now_s: int,
    source: AdminSource = "admin",
) -> tuple[Price | None, Price]:
    """Sets rates from that date on; without one, from when the price in force holds, for earlier calls had other
    rates. Those that are not named stay as they are then. Returns (the price so far, after), which are the same if
    nothing changed. Raises BadInput, also where one side of the tokens would be free unsaid."""
    mine = _own(tx, provider, model, source, effective_from_s or now_s)
    base = mine
    if base is None and source == "admin" and not is_pattern(model):
        base = _sold(tx, sellers, model, effective_from_s or now_s)
    effective_from_s = effective_from_s or (base.effective_from_s if base is not None else 0)
    terms = _amended(base, rates, "", None) if base else Terms(_with_rates(Tariff({}), rates, None))
    missing = sides_missing(terms.tariff.rates)
    if missing and (base is None or missing != sides_missing(base.tariff.rates)):
        raise DoesNotFit(
            f"{model} has no rate for {' and '.join(missing)} yet", hint="write --input and --output (0 is a price)"
        )
    row = terms_row(
        provider,
        model,
        terms,
        effective_from_s=effective_from_s,
        context_tokens=context_tokens or (mine.context_tokens if mine else None),
        output_tokens_max=output_tokens_max or (mine.output_tokens_max if mine else None),
    )
    before, after = prices.put(tx, row, source, now_s=now_s)
    return before if before == after else base, after


def amend_price(
    tx: sqlite3.Connection,
    *,
    provider: str,
    catalogue: str,
    sold_as: str = "",
    model: str,
    rates: Mapping[str, int],
    tier: str = "",
    above_tokens: int | None = None,
    effective_from_s: int = 0,
    now_s: int,
    source: AdminSource = "admin",
) -> tuple[Price | None, Price]:
    """Sets rates of a tier, or of calls with more input than `above_tokens`, or of both, from when `set_rates` would.
    The rest stays; where the admin has set no price for that date yet, it is taken over from the one in force. Returns
    (before, after). Raises BadInput, NotFound."""
    check_tier(tier)
    if above_tokens is not None and not 0 < above_tokens <= TOKENS_MAX:
        raise BadInput(f"{above_tokens} is not a number of input tokens", hint="write it as 200k or 272000")
    base = _own(tx, provider, model, source, effective_from_s or now_s)
    if base is None and source == "admin" and not is_pattern(model):
        base = _sold(tx, [Seller(provider, catalogue, sold_as)], model, effective_from_s or now_s)
    if base is None:
        raise NotFound(
            f"{model} has no price yet that this could be a part of", hint="set its --input and --output first"
        )
    row = terms_row(
        provider,
        model,
        _amended(base, rates, tier, above_tokens),
        effective_from_s=effective_from_s or base.effective_from_s,
        context_tokens=base.context_tokens,
        output_tokens_max=base.output_tokens_max,
    )
    return prices.put(tx, row, source, now_s=now_s)


def check_tier(tier: str) -> None:
    """Raises BadInput for a name that no answer can have, and for those of the standard tier: that is the price."""
    if tier in STANDARD_TIERS - {""}:
        raise BadInput(f"tier {tier} is the price itself", hint="leave out --tier")
    if len(tier) > TIER_CHARACTERS_MAX or not tier.isprintable():
        raise BadInput(f"{tier[:TIER_CHARACTERS_MAX]!r} is not a tier", hint="write it as the answer does: batch, flex")


def _own(tx: sqlite3.Connection, provider: str, model: str, source: AdminSource, at_s: int) -> Price | None:
    """What the admin has set, and is in force then."""
    return pick(prices.admin_prices(tx, provider, model, source), at_s)


def _sold(tx: sqlite3.Connection, sellers: Iterable[Seller], model: str, at_s: int) -> Price | None:
    """The price in force with these sellers. None: there is none, or they do not agree. A ceiling is nobody's price."""
    offers = [pick(prices.find(tx, *seller[:2], model, seller.sold_as), at_s) for seller in sellers]
    found = [price for price in offers if price is not None and price.source != "ceiling"]
    alike = all(_terms(price) == _terms(found[0]) for price in found)
    return found[0] if found and alike else None


def _terms(price: Price) -> Terms:
    return Terms(price.tariff, price.tiers, price.hours, price.unmetered)


def _amended(base: Price, rates: Mapping[str, int], tier: str, above_tokens: int | None) -> Terms:
    tariff = base.tiers.get(tier, base.tariff) if tier else base.tariff
    changed = _with_rates(tariff, rates, above_tokens)
    if tier:
        return Terms(base.tariff, {**base.tiers, tier: changed}, base.hours, base.unmetered)
    # What a tier or an hour does not name itself was the price's: it goes on being that.
    tiers = {name: _following(other, tariff, changed) for name, other in base.tiers.items()}
    hours = tuple(replace(part, tariff=_following(part.tariff, tariff, changed)) for part in base.hours)
    return Terms(changed, tiers, hours, base.unmetered)


def _with_rates(tariff: Tariff, rates: Mapping[str, int], above_tokens: int | None) -> Tariff:
    named = {meter: _rate(tariff, meter, usd, above_tokens) for meter, usd in rates.items()}
    return Tariff({**tariff.rates, **named})


def _rate(tariff: Tariff, meter: str, usd: int, above_tokens: int | None) -> Rate:
    known = tariff.find(meter)
    if above_tokens is None:
        return Rate(usd, tariff.rates[meter].steps if meter in tariff.rates else ())
    if known is None:
        raise DoesNotFit(f"there is no rate for {meter} that could rise", hint="set its base rate first")
    steps = {**dict(known.steps), above_tokens: usd}
    return Rate(known.base, tuple(sorted(steps.items())))


def _following(tier: Tariff, before: Tariff, after: Tariff) -> Tariff:
    own = {meter: rate for meter, rate in tier.rates.items() if before.rates.get(meter) != rate}
    return Tariff({**after.rates, **own})
