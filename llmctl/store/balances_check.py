"""Whether balances say what calls and roll-ups say: a whole limit at a time, however many members it is on each of."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from llmctl.domain.limit import Limit

from . import balances, facts, limits, rollups
from .balances import Place, Row
from .facts import HELD, SETTLED, called, member_of
from .ids import at_or_after
from .sliding import SLOT
from .sql import run

# `truth` gives member, start, settled and held; members without a row there have used nothing.
_WRONG = """
    WITH truth (member, start, settled, held) AS ({truth})
    SELECT b.member_id, b.window_start FROM balances AS b
    LEFT JOIN truth AS t ON t.member = b.member_id AND t.start = b.window_start
    WHERE b.limit_id = :limit AND b.window_start BETWEEN :from AND :start
      AND (b.settled <> coalesce(t.settled, 0) OR b.held <> coalesce(t.held, 0))
"""


def wrong(tx: sqlite3.Connection, now_s: int) -> tuple[list[Row], int]:
    """The balances of the current windows that are wrong, and how many there are: those of other windows are read by
    nobody."""
    found: list[Row] = []
    checked = 0
    for limit in limits.listing(tx, default_zone=limits.default_zone(tx)):
        place = balances.place_of(limit, 0, now_s)
        from_s = place.counts_from_s if place.slides else place.window_start_s
        (count,) = tx.execute(
            "SELECT count(*) FROM balances WHERE limit_id = ? AND window_start BETWEEN ? AND ?",
            (limit.id, from_s, place.window_start_s),
        ).fetchone()
        if count:
            checked += count
            found += _wrong_of(tx, limit, place, from_s)
    return found, checked


def recount_slots(tx: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Those of these balances that are slots of minutes, by the calls: a slot must not be missing."""
    every = limits.listing(tx, default_zone=limits.default_zone(tx))
    known = {limit.id: limit for limit in every if limit.window == "minute"}
    balances.write(
        tx,
        {
            row: run(tx, facts.booked(balances.place_of(known[row[0]], row[1], row[2])))
            for row in rows
            if row[0] in known
        },
    )


def _wrong_of(tx: sqlite3.Connection, limit: Limit, place: Place, from_s: int) -> list[Row]:
    truth, parameters = truth_of(tx, place, from_s)
    rows = tx.execute(
        _WRONG.format(truth=truth),
        parameters | {"limit": limit.id, "from": from_s, "start": place.window_start_s},
    )
    return [(limit.id, member_id, start_s) for member_id, start_s in rows]


def truth_of(tx: sqlite3.Connection, place: Place, from_s: int) -> tuple[str, dict[str, object]]:
    """A statement that gives member, window start, settled and held of all members who have used a limit in the window
    of this place (of a minute: in each slot from that moment on), and its parameters."""
    if place.slides or place.limit.each == "end_user":
        return _by_calls(tx, place, from_s)
    return _by_rollups(tx, place)


def _by_calls(tx: sqlite3.Connection, place: Place, from_s: int) -> tuple[str, dict[str, object]]:
    """What is finer than roll-ups are kept: slots of a minute, and end users."""
    where, parameters = run(tx, facts.counted(place, any_member=True))
    slot = SLOT if place.slides else ":start"
    settled, held = called(place.limit.measure)
    truth = f"""
        SELECT {member_of(place.limit)}, {slot}, {settled}, {held} FROM calls
        WHERE id >= :first AND started_at_ms >= :from * 1000 AND started_at_ms < :end * 1000
          AND state IN ('open', 'settled') AND {where} GROUP BY 1, 2
    """
    return truth, parameters | {"first": at_or_after(from_s), "from": from_s}


def _by_rollups(tx: sqlite3.Connection, place: Place) -> tuple[str, dict[str, object]]:
    where, parameters = run(tx, facts.counted(place, any_member=True))
    plan = run(tx, rollups.whole(*facts.buckets(place)))
    member, settled, held = member_of(place.limit), SETTLED[place.limit.measure], HELD[place.limit.measure]
    truth = f"""
        SELECT member, :start, sum(settled), sum(held) FROM (
            SELECT {member} AS member, {settled} AS settled, 0 AS held FROM {rollups.SUMMARIES} WHERE {where}
            UNION ALL SELECT {member}, {settled}, 0 FROM {rollups.QUARTERS} WHERE {where}
            UNION ALL SELECT {member}, 0, {held} FROM calls
            WHERE state = 'open' AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000 AND {where}
        ) GROUP BY member
    """
    return truth, parameters | plan.parameters
