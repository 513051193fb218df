"""Calls that were booked at an admin's ceiling, as nobody knew the price of their model."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmctl.domain.deployment import named
from llmctl.domain.window import window_end

from . import ids, usage
from .filters import Filters, conditions
from .usage_sources import CLOCK_BACK_S

if TYPE_CHECKING:
    from .revision import Seller

Model = tuple[str, str]  # provider, upstream model
Life = tuple[int, int | None]  # of a price: when it was set, and superseded


def in_use(tx: sqlite3.Connection) -> bool:
    """Whether calls may be booked at one: nearly nobody's are."""
    return tx.execute("SELECT 1 FROM prices WHERE source = 'ceiling' LIMIT 1").fetchone() is not None


def calls_at(
    tx: sqlite3.Connection, filters: Filters, zone: ZoneInfo, sellers: Mapping[str, Seller]
) -> dict[Model, int]:
    """How many of these calls are booked at a ceiling, by model; most first. `sellers`: by configured provider.

    There is no index on the price of a call: the single calls are read, but only of the days on which the roll-ups have
    calls of models that may have met a ceiling."""
    if usage.reads_calls(filters, []):  # found by their label, which the roll-ups do not know
        stretches = [(filters.since_s, filters.until_s)]
    else:
        stretches = _joined(_days_at_risk(tx, filters, zone, sellers))
    counted: Counter[Model] = Counter()
    for from_s, end_s in stretches:
        counted.update(_booked(tx, filters, max(from_s, filters.since_s), min(end_s, filters.until_s)))
    return dict(counted.most_common())


def _days_at_risk(
    tx: sqlite3.Connection, filters: Filters, zone: ZoneInfo, sellers: Mapping[str, Seller]
) -> list[tuple[int, int]]:
    """The days with calls of models that a ceiling may have held for, in order."""
    days: dict[Model, list[int]] = {}
    for row in usage.report(tx, filters, ["provider", "model", "day"], zone):
        seller, sold, day = row.cells
        if row.sums.calls > row.sums.unpriced_calls:
            assert day.start_s is not None
            days.setdefault((seller.text or "", sold.text or ""), []).append(day.start_s)
    found: set[int] = set()
    for (provider, model), starts in days.items():
        if _may_have_met(tx, provider, model, sellers, max(min(starts), filters.since_s)):
            found.update(starts)
    return [(start_s, window_end("day", zone, start_s) or filters.until_s) for start_s in sorted(found)]


def _may_have_met(
    tx: sqlite3.Connection, provider: str, model: str, sellers: Mapping[str, Seller], since_s: int
) -> bool:
    """Whether calls from then on may be booked at a ceiling: while one was in force, there was a time without a price.
    Of a deployment that is a guess: what it is billed as may have been configured later."""
    from . import price_history  # late: reports of those who set no ceiling start the sooner
    from .revision import Seller

    seller = sellers.get(provider, Seller(provider))
    entries = price_history.of_model(tx, provider, seller.catalogue, model)
    priced = [
        (one.created_at_s, one.superseded_at_s)
        for one in sorted(entries, key=lambda one: one.created_at_s)
        if one.price.effective_from_s <= since_s
        and one.price.source != "ceiling"
        and named(model) not in seller.deployments
    ]
    ceilings = [(one.created_at_s, one.superseded_at_s) for one in entries if one.price.source == "ceiling"]
    return any(not _covered(one, priced) for one in ceilings)


def _covered(life: Life, others: Sequence[Life]) -> bool:
    """Whether at every moment of a price's life one of the others lived; these in the order of their beginnings."""
    covered_until_s, end_s = life
    for from_s, until_s in others:
        if from_s > covered_until_s:
            break
        if until_s is None:
            return True
        covered_until_s = max(covered_until_s, until_s)
    return end_s is not None and covered_until_s >= end_s


def _joined(days: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Days that follow one another, as one stretch of time."""
    found: list[tuple[int, int]] = []
    for start_s, end_s in days:
        if found and found[-1][1] == start_s:
            start_s, _ = found.pop()
        found.append((start_s, end_s))
    return found


def _booked(tx: sqlite3.Connection, filters: Filters, from_s: int, end_s: int) -> dict[Model, int]:
    where, parameters = conditions(tx, filters)
    rows = tx.execute(
        f"""
        SELECT m.provider, m.model, n.calls
        FROM (
            SELECT r.model_id, count(*) AS calls FROM calls AS r
            WHERE r.id >= :first_id AND r.id < :ids_end AND r.started_at_ms >= :first_ms AND r.started_at_ms < :end_ms
              AND r.state = 'settled' AND r.price_id IN (SELECT id FROM prices WHERE source = 'ceiling') AND {where}
            GROUP BY r.model_id
        ) AS n JOIN models AS m ON m.id = n.model_id
        """,
        parameters
        | {
            "first_id": ids.at_or_after(from_s),
            "ids_end": ids.at_or_after(end_s + CLOCK_BACK_S),
            "first_ms": from_s * 1000,
            "end_ms": end_s * 1000,
        },
    )
    return {(provider, model): calls for provider, model, calls in rows}
