"""What must hold in the books: roll-ups and balances say what the calls say. Both are derived: both can be mended."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.domain.window import BUCKET_S

from . import audit, balances, fold, limits
from .audit import Author
from .sql import run

BALANCES_MAX = 2_000  # each is counted anew, which takes a millisecond or more

_KEY = "bucket, lineage_id, user_id, key_id, model_id"
_OF_CALLS = """
    sum(state = 'settled'), sum(error_id IS NOT NULL OR coalesce(status, 0) >= 400),
    sum(coalesce(usage_source, '') = 'estimated'), sum(cost_nano IS NULL), sum(input_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(coalesce(cost_nano, 0))
"""
_SUMS = ", ".join(fold.SUMS)
_DIFFERENCES = f"""
    WITH sums ({_KEY}, {_SUMS}) AS (
        SELECT started_at_ms / {BUCKET_S * 1000}, lineage_id, user_id, key_id, model_id, {_OF_CALLS}
        FROM calls WHERE state IN ('settled', 'released') AND started_at_ms >= :from * {BUCKET_S * 1000}
        GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT {_KEY}, {", ".join(f"-{name}" for name in fold.SUMS)} FROM rollups WHERE bucket >= :from
    )
    SELECT {_KEY}, 0, {", ".join(f"sum({name})" for name in fold.SUMS)} FROM sums GROUP BY {_KEY}
    HAVING {" OR ".join(f"sum({name}) <> 0" for name in fold.SUMS)}
"""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What does not agree: roll-ups as what must be added to them, balances by their key; and how many were seen."""

    rollups: Sequence[tuple[int, ...]]
    balances: Sequence[balances.Row]
    balances_checked: int

    @property
    def cost_nano(self) -> int:
        """By how much the roll-ups are off, over all."""
        return sum(abs(row[-1]) for row in self.rollups)


def check(tx: sqlite3.Connection, *, default_zone: str, now_s: int) -> Wrong:
    """Compares in one snapshot. Calls that were pruned are not compared."""
    rollups = tx.execute(_DIFFERENCES, {"from": _first_bucket(tx)}).fetchall()
    wrong, checked = _wrong_balances(tx, default_zone, now_s)
    return Wrong(rollups, wrong, checked)


def repair(tx: sqlite3.Connection, author: Author, wrong: Wrong, *, default_zone: str) -> None:
    """Roll-ups become what the calls say; wrong balances go, and are counted anew when a call needs them."""
    if wrong.rollups:
        fold.amend(tx, wrong.rollups, default_zone)
    # What a balance was counted from may have been wrong as well: all of them are counted anew.
    tx.execute("DELETE FROM balances")
    facts: dict[str, object] = {"rollups": len(wrong.rollups), "balances": len(wrong.balances)}
    audit.record(tx, author, "doctor repair", "books", after=facts)


def _first_bucket(tx: sqlite3.Connection) -> int:
    """The first quarter of an hour of which no call was pruned."""
    (before_s,) = tx.execute("SELECT max(after ->> 'before') FROM audit WHERE action = 'prune'").fetchone()
    return 0 if before_s is None else int(before_s) // BUCKET_S + 1


def _wrong_balances(tx: sqlite3.Connection, default_zone: str, now_s: int) -> tuple[list[balances.Row], int]:
    known = {limit.id: limit for limit in limits.listing(tx, default_zone=default_zone)}
    wrong, checked = [], 0
    for limit_id, member_id, start_s, settled, held in tx.execute(
        "SELECT limit_id, member_id, window_start, settled, held FROM balances ORDER BY window_start DESC"
    ).fetchall():
        limit = known.get(limit_id)
        if limit is None or limit.window == "minute":
            continue
        place = balances.place_of(limit, member_id, now_s)
        if place.window_start_s != start_s or checked >= BALANCES_MAX:
            continue
        checked += 1
        counted = run(tx, balances.booked(place))
        if (counted.settled, counted.held) != (settled, held):
            wrong.append(place.row)
    return wrong, checked
