"""Calls as they were, under a limit that is not set: read once, in the order in which they started."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.domain.limit import Limit
from llmctl.domain.trial import Trial, first_needed_s

from . import audit, balances, balances_check, facts
from .balances import Place
from .ids import at_or_after
from .sql import run

_AMOUNT = facts.SETTLED_OF_CALL | {"concurrency": "1"}  # while it was open


@dataclass(slots=True)
class Tried:
    """What a limit would have done from `since_s` to `until_s`, to those calls that it is for."""

    since_s: int
    until_s: int
    calls: int = 0
    refused: int = 0
    refused_nano: int = 0  # what those cost
    complete: bool = True  # False: some of the calls that are needed for it are forgotten


def tried(tx: sqlite3.Connection, limit: Limit, spans: Sequence[tuple[int, int]]) -> list[Tried]:
    """`spans`: stretches of time that follow one another, each from a moment to another."""
    found = [Tried(since_s, until_s) for since_s, until_s in spans]
    from_s = first_needed_s(limit, spans[0][0])
    forgotten_s = audit.pruned_before_s(tx)
    for one in found:
        one.complete = forgotten_s <= first_needed_s(limit, one.since_s)
    trial, place = Trial(limit), balances.place_of(limit, 0, spans[0][0])
    if limit.window == "total":
        truth, parameters = balances_check.truth_of(tx, place._replace(window_end_s=from_s), 0)
        for member_id, _, settled, _ in tx.execute(truth, parameters):
            trial.spent_before(member_id, settled)
    each = iter(found)
    span = next(each)
    for member_id, started_at_ms, ended_at_ms, amount, cost_nano in _calls(tx, place, from_s, spans[-1][1]):
        refused = trial.refuses(member_id, started_at_ms, ended_at_ms, amount)
        while started_at_ms >= span.until_s * 1000:
            span = next(each)
        if started_at_ms >= span.since_s * 1000:
            span.calls += 1
            span.refused += refused
            span.refused_nano += cost_nano if refused else 0
    return found


def _calls(tx: sqlite3.Connection, place: Place, from_s: int, until_s: int) -> sqlite3.Cursor:
    where, parameters = run(tx, facts.counted(place, any_member=True))
    return tx.execute(
        f"""
        SELECT {facts.member_of(place.limit)}, started_at_ms, started_at_ms + coalesce(latency_ms, 0),
               {_AMOUNT[place.limit.measure]}, coalesce(cost_nano, 0)
        FROM calls
        WHERE id >= :first AND started_at_ms >= :from * 1000 AND started_at_ms < :until * 1000
          AND state = 'settled' AND {where}
        ORDER BY id
        """,
        parameters | {"first": at_or_after(from_s), "from": from_s, "until": until_s},
    )
