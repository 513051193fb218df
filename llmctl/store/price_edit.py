"""Parts of an admin's price: the rates of one service tier, or those of long contexts, beside what is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from llmctl.domain.errors import BadInput, NotFound
from llmctl.domain.price import STANDARD_TIERS, Price, Rate, Tariff, pick

from . import prices
from .price_rows import TOKENS_MAX, Terms, is_pattern, terms_row
from .prices import AdminSource

TIER_CHARACTERS_MAX = 64


def amend_price(
    tx: sqlite3.Connection,
    *,
    provider: str,
    catalogue: str,
    model: str,
    rates: Mapping[str, int],
    tier: str = "",
    above_tokens: int | None = None,
    effective_from_s: int = 0,
    now_s: int,
    source: AdminSource = "admin",
) -> tuple[Price | None, Price]:
    """Sets rates of a tier, or of calls with more input than `above_tokens`, or of both. The rest stays; where the
    admin has set no price for that date yet, it is taken over from the one in force. Returns (before, after). Raises
    BadInput, NotFound."""
    check_tier(tier)
    if above_tokens is not None and not 0 < above_tokens <= TOKENS_MAX:
        raise BadInput(f"{above_tokens} is not a number of input tokens", hint="write it as 200k or 272000")
    mine = prices.admin_prices(tx, provider, model, source)
    base = next((price for price in mine if price.effective_from_s == effective_from_s), None)
    if base is None:
        base = pick(mine, effective_from_s)
    if base is None and source == "admin" and not is_pattern(model):
        base = pick(prices.find(tx, provider, catalogue, model), effective_from_s or now_s)
        # What is taken over holds from when it held: earlier calls had other rates.
        effective_from_s = effective_from_s or (base.effective_from_s if base is not None else 0)
    if base is None:
        raise NotFound(
            f"{model} has no price yet that this could be a part of", hint="set its --input and --output first"
        )
    row = terms_row(
        provider,
        model,
        _amended(base, rates, tier, above_tokens),
        effective_from_s=effective_from_s,
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


def _amended(base: Price, rates: Mapping[str, int], tier: str, above_tokens: int | None) -> Terms:
    tariff = base.tiers.get(tier, base.tariff) if tier else base.tariff
    changed = Tariff(
        {**tariff.rates, **{meter: _rate(tariff, meter, usd, above_tokens) for meter, usd in rates.items()}}
    )
    if tier:
        return Terms(base.tariff, {**base.tiers, tier: changed}, base.hours, base.unmetered)
    # What a tier or an hour does not name itself was the price's: it goes on being that.
    tiers = {name: _following(other, tariff, changed) for name, other in base.tiers.items()}
    return Terms(changed, tiers, base.hours, base.unmetered)


def _rate(tariff: Tariff, meter: str, usd: int, above_tokens: int | None) -> Rate:
    known = tariff.find(meter)
    if above_tokens is None:
        return Rate(usd, tariff.rates[meter].steps if meter in tariff.rates else ())
    if known is None:
        raise BadInput(f"there is no rate for {meter} that could rise", hint="set its base rate first")
    steps = {**dict(known.steps), above_tokens: usd}
    return Rate(known.base, tuple(sorted(steps.items())))


def _following(tier: Tariff, before: Tariff, after: Tariff) -> Tariff:
    own = {meter: rate for meter, rate in tier.rates.items() if before.rates.get(meter) != rate}
    return Tariff({**after.rates, **own})
