"""Models that nobody knows the price of: their calls are booked at an admin's ceiling, and that is not to be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.usage import Filters

    from .context import App


def calls_at(run: App, tx: Tx, filters: Filters) -> dict[str, int]:
    """How many of these calls were of a model whose price in force is a ceiling, by `provider/model`; most first."""
    from llmctl.store import usage

    if tx.execute("SELECT 1 FROM prices WHERE source = 'ceiling' AND superseded_at IS NULL LIMIT 1").fetchone() is None:
        return {}  # of nearly everybody
    if usage.reads_calls(filters, []):
        return {}  # a report of single calls takes its time: not twice
    counted = {}
    for row in usage.report(tx, filters, ["provider", "model"], run.zone):
        provider, model = (cell.text or "" for cell in row.cells)
        if row.sums.calls and has_ceiling(run, tx, provider, model):
            counted[f"{provider}/{model}"] = row.sums.calls
    return dict(sorted(counted.items(), key=lambda one: -one[1]))


def has_ceiling(run: App, tx: Tx, provider: str, model: str) -> bool:
    return source_of(run, tx, provider, model) == "ceiling"


def source_of(run: App, tx: Tx, provider: str, model: str) -> str:
    """Where the price in force is from; "" = there is none."""
    from llmctl.domain.price import pick
    from llmctl.store import prices

    known = run.config.providers.get(provider)
    sold_as = known.sold_as(model) if known is not None else model
    catalogue = known.catalogue if known is not None else provider
    price = pick(prices.find(tx, provider, catalogue, model, sold_as), run.now_s)
    return "" if price is None else price.source
