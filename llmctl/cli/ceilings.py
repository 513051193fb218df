"""Models that nobody knows the price of: their calls are booked at an admin's ceiling, and that is not to be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.filters import Filters

    from .context import App


def calls_at(run: App, tx: Tx, filters: Filters) -> dict[str, int]:
    """How many of these calls are booked at a ceiling, by `provider/model`; most first."""
    from llmctl.store import ceilings

    if not ceilings.in_use(tx):
        return {}
    from .price_names import sellers

    found = ceilings.calls_at(tx, filters, run.zone, sellers(run))
    return {f"{provider}/{model}": calls for (provider, model), calls in found.items()}


def has_price(run: App, tx: Tx, provider: str, model: str) -> bool:
    return source_of(run, tx, provider, model) not in ("", "ceiling")


def source_of(run: App, tx: Tx, provider: str, model: str) -> str:
    """Where the price in force is from; "" = there is none."""
    from llmctl.domain.price import pick

    from . import price_names

    price = pick(price_names.find(run, tx, provider, model), run.now_s)
    return "" if price is None else price.source
