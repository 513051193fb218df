"""What must hold in the books: roll-ups say what the calls say, summaries what the roll-ups say, balances both. All
three are derived, and so can be mended.

Everything is compared in snapshots, without the lock. What differs is kept as what must be added: settles add to both
sides alike, so a difference stays true while calls go on, and is added in short steps.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmctl.domain.errors import StoreUnavailable
from llmctl.domain.window import BUCKET_S

from . import audit, balances, balances_check, fold, limits
from .audit import Author
from .database import Store

STEP_ROWS = 500  # some milliseconds
PAUSE_S = 0.01  # in which others get the lock
REPAIR = "doctor repair"

_KEY = "bucket, lineage_id, user_id, key_id, model_id"
_SUMS = ", ".join(fold.SUMS)
_MINUS_SUMS = ", ".join(f"-{name}" for name in fold.SUMS)
_ADDED_SUMS = ", ".join(f"sum({name})" for name in fold.SUMS)
_NOT_ZERO = " OR ".join(f"sum({name}) <> 0" for name in fold.SUMS)

# End users have roll-ups of their own only while a limit needs them: over all of them, sums are the calls'.
_ROLLUPS = f"""
    WITH sums ({_KEY}, {_SUMS}) AS (
        SELECT started_at_ms / {BUCKET_S * 1000}, lineage_id, user_id, key_id, model_id, {", ".join(fold.OF_CALLS)}
        FROM calls AS r WHERE state IN ('settled', 'released') AND started_at_ms >= :from * {BUCKET_S * 1000}
        GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT {_KEY}, {_MINUS_SUMS} FROM rollups WHERE bucket >= :from
    )
    SELECT {_KEY}, 0, {_ADDED_SUMS} FROM sums GROUP BY {_KEY} HAVING {_NOT_ZERO}
"""
_SPAN_KEY = ", ".join(fold.OF_SPAN[1:])
_SUMMARIES = f"""
    WITH sums ({_SPAN_KEY}, {_SUMS}) AS (
        SELECT {_SPAN_KEY}, {_SUMS} FROM rollups
        WHERE bucket >= ? AND bucket < ? AND ({", ".join(fold.KEY)}) <= (?, ?, ?, ?, ?, ?)
        UNION ALL
        SELECT {_SPAN_KEY}, {_MINUS_SUMS} FROM summaries WHERE span_id = ?
    )
    SELECT {_SPAN_KEY}, {_ADDED_SUMS} FROM sums GROUP BY {_SPAN_KEY} HAVING {_NOT_ZERO}
"""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What does not agree: roll-ups and summaries as what must be added to them, balances by their key."""

    rollups: Sequence[tuple[int, ...]]
    summaries: Sequence[tuple[int, ...]]
    balances: Sequence[balances.Row]
    balances_checked: int
    repair_id: int  # of the last repair before

    @property
    def cost_nano(self) -> int:
        """By how much the roll-ups are off, over all."""
        return sum(abs(row[-1]) for row in self.rollups)

    def __bool__(self) -> bool:
        return bool(self.rollups or self.summaries or self.balances)


def check(tx: sqlite3.Connection, *, now_s: int) -> Wrong:
    """Compares in one snapshot. Calls that were pruned are not compared."""
    repair_id = _last_repair(tx)
    rollups = tx.execute(_ROLLUPS, {"from": _first_bucket(tx)}).fetchall()
    wrong, checked = balances_check.wrong(tx, now_s)
    return Wrong(rollups, _wrong_summaries(tx), wrong, checked, repair_id)


def repair(store: Store, author: Author, wrong: Wrong, *, pause_s: float = PAUSE_S) -> None:
    """Roll-ups become what the calls say, summaries what the roll-ups say; balances go, and are counted anew when a
    call needs them. Raises StoreUnavailable when somebody else repairs too: what differs would be added twice."""
    with store.write() as tx:
        _still(tx, wrong.repair_id)
        facts: dict[str, object] = {
            "rollups": len(wrong.rollups),
            "summaries": len(wrong.summaries),
            "balances": len(wrong.balances),
        }
        audit.record(tx, author, REPAIR, "books", after=facts)
        mine = _last_repair(tx)
    for rows in _steps(wrong.rollups):
        with store.write() as tx:
            _still(tx, mine)
            fold.amend(tx, rows, limits.default_zone(tx))
        time.sleep(pause_s)
    for rows in _steps(wrong.summaries):
        with store.write() as tx:
            _still(tx, mine)
            fold.amend_summaries(tx, rows)
        time.sleep(pause_s)
    with store.write() as tx:
        # What a balance was counted from may have been wrong as well.
        balances.forget(tx)
        balances_check.recount_slots(tx, wrong.balances)


def _steps(rows: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    for begin in range(0, len(rows), STEP_ROWS):
        yield rows[begin : begin + STEP_ROWS]


def _last_repair(tx: sqlite3.Connection) -> int:
    (last,) = tx.execute("SELECT coalesce(max(id), 0) FROM audit WHERE action = ?", (REPAIR,)).fetchone()
    return int(last)


def _still(tx: sqlite3.Connection, repair_id: int) -> None:
    if _last_repair(tx) != repair_id:
        raise StoreUnavailable("somebody else repairs the books now", hint="run doctor again when they are done")


def _first_bucket(tx: sqlite3.Connection) -> int:
    """The first quarter of an hour of which no call was pruned."""
    before_s = audit.pruned_before_s(tx)
    return before_s // BUCKET_S + 1 if before_s else 0


def _wrong_summaries(tx: sqlite3.Connection) -> list[tuple[int, ...]]:
    """Rows of summaries: what must be added to each."""
    at = fold.place(tx)
    found: list[tuple[int, ...]] = []
    for span_id, first, end in tx.execute("SELECT id, first, end FROM spans").fetchall():
        found += [(span_id, *row) for row in tx.execute(_SUMMARIES, (first, end, *at, span_id))]
    return found
