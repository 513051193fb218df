"""Limits per minute slide: a balance is a slot of some seconds, and those of the minute before it count in it too."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from llmctl.domain.limit import Limit, Standing
from llmctl.domain.window import MINUTE_S, SLOT_S

from . import facts
from .balances import Place, Row, are_beside, place_of
from .ids import at_or_after
from .sql import Reading, as_json, from_json, run

SLOT = f"started_at_ms / 1000 / {SLOT_S} * {SLOT_S}"  # of a call: when its slot began


def slots_from_s(limit: Limit) -> int:
    """From then on a limit per minute was there for all calls: no slot is missing, if nobody has set the clock."""
    return limit.created_at_s + SLOT_S


class Minutes:
    """The standings of slots that calls of this batch are judged by."""

    def __init__(self, slots: Sequence[tuple[Place, Standing]]) -> None:
        self._slots = slots
        self._by_member: dict[tuple[int, int], list[tuple[Row, Standing]]] = {}  # limit and member
        for place, standing in slots:
            self._by_member.setdefault(place.row[:2], []).append((place.row, standing))

    def __bool__(self) -> bool:
        return bool(self._slots)

    def read(self) -> Reading[None]:
        """What the slots beside them count, as they were before this batch."""
        return slide(self._slots)

    def count(self, row: Row, settled: int, held: int) -> None:
        """What a balance moves by in this batch, in the slots beside it; nothing if it is none of a minute."""
        for other, standing in self._by_member.get(row[:2], ()):
            if are_beside(row, other):
                standing.add_others(settled, held)


def slide(pairs: Sequence[tuple[Place, Standing]]) -> Reading[None]:
    """Adds what the slots of the minute before them count to standings of limits per minute, and those after them,
    which have begun if a call is judged a while after it came."""
    ((found,),) = yield _BESIDE, (as_json([(*place.row, place.counts_from_s) for place, _ in pairs]),)
    beside = {number: rest for number, *rest in from_json(found)}
    for number, (place, one) in enumerate(pairs):
        settled, held, oldest_s = beside.get(number, (0, 0, place.window_start_s))
        _slid(one, settled, held, min(oldest_s, place.window_start_s))


# As one row: each row is a step, and each step gives the interpreter's lock away.
_BESIDE = f"""
    SELECT json_group_array(json_array(number, settled, held, oldest_s)) FROM (
        SELECT p.key AS number, sum(b.settled) AS settled, sum(b.held) AS held, min(b.window_start) AS oldest_s
        FROM json_each(?) AS p
        CROSS JOIN balances AS b ON b.limit_id = p.value ->> 0 AND b.member_id = p.value ->> 1
         AND b.window_start >= p.value ->> 3 AND b.window_start < (p.value ->> 2) + {MINUTE_S}
        WHERE b.window_start <> p.value ->> 2 AND (b.settled <> 0 OR b.held <> 0) GROUP BY p.key
    )
"""


def slide_by_calls(place: Place, one: Standing) -> Reading[None]:
    """The same where a slot may have no balance though there were calls."""
    start_s = place.window_start_s
    before = yield from facts.called_between(place, place.counts_from_s, start_s)
    after = yield from facts.called_between(place, start_s + SLOT_S, start_s + MINUTE_S)
    oldest_s = before[2] // SLOT_S * SLOT_S if before[2] is not None else start_s
    _slid(one, before[0] + after[0], before[1] + after[1], oldest_s)


def _slid(one: Standing, settled: int, held: int, oldest_s: int) -> None:
    one.add_others(settled, held)
    one.window_end_s = oldest_s + SLOT_S + MINUTE_S


def fill_slots(tx: sqlite3.Connection, limit: Limit, from_s: int) -> None:
    """Makes the balances that are missing among a limit's slots from that one on, for all its members, by the calls."""
    where, parameters = run(tx, facts.counted(place_of(limit, 0, from_s), any_member=True))
    settled, held = facts.called(limit.measure)
    # By the calls since then, whichever other index there is.
    tx.execute(
        f"""
        INSERT INTO balances (limit_id, member_id, window_start, settled, held)
        SELECT :limit, {facts.member_of(limit)}, {SLOT}, {settled}, {held} FROM calls NOT INDEXED
        WHERE id >= :first AND started_at_ms >= :start * 1000 AND state IN ('open', 'settled') AND {where} GROUP BY 2, 3
        ON CONFLICT DO NOTHING
        """,
        parameters | {"limit": limit.id, "first": at_or_after(from_s), "start": from_s},
    )
