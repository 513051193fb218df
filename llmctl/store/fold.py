"""Carries the summaries of days and months on: roll-ups of an hour ago are added to them, a few rows at a time.

What changes roll-ups that are folded (a settle that comes late, a correction) changes both: `late`, `amend`. So a
report is exact at every moment. Where a time zone comes into use whose midnights no span ends at, all is folded anew:
until that is done, reports read quarters of an hour.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from llmctl.domain.window import BUCKET_S, window_end, window_start

from .database import Store
from .rollups import FAR, FOLDED, Place, Span
from .sql import BulkDelete, BulkInsert, as_json, picked

FOLD_AFTER_S = 3_600  # most calls of an hour ago have ended: few are added twice
ROWS_MAX = 500  # a transaction of some milliseconds: holds wait for it

KEY = ["bucket", "lineage_id", "user_id", "key_id", "model_id", "end_user_id"]
SUMS = (
    "calls errors estimated_calls unpriced_calls input_tokens cache_read_tokens cache_write_tokens "
    "output_tokens reasoning_tokens cost_nano"
).split()
# The same, of `calls AS r` that are settled or released: what the ledger rolls up of each (`Closing.sums`).
OF_CALLS = [
    "sum(r.state = 'settled')",
    "sum(r.error_id IS NOT NULL OR coalesce(r.status, 0) >= 400)",
    "sum(coalesce(r.usage_source, '') = 'estimated')",
    "sum(r.cost_nano IS NULL)",
    *[f"coalesce(sum(r.{name}), 0)" for name in SUMS[4:]],
]
OF_SPAN = ["span_id", "user_id", "lineage_id", "key_id", "model_id", "end_user_id"]
_KEY = ", ".join(KEY)
_KEY_BACK = ", ".join(f"{name} DESC" for name in KEY)
_AFTER = f"({_KEY}) > (?, ?, ?, ?, ?, ?)"
_INTO = f"INSERT INTO summaries ({', '.join(OF_SPAN + SUMS)})"
_ADDED = f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = summaries.{name} + excluded.{name}' for name in SUMS)}"

_ADD_ROLLUPS = BulkInsert(
    "rollups",
    KEY + SUMS,
    conflict=f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = rollups.{name} + excluded.{name}' for name in SUMS)}",
)
_DELETE_SUMMARIES = BulkDelete("summaries", OF_SPAN)

Kind = Literal["month", "day"]
EVER = Span(0, 0, FAR)


def due(reader: sqlite3.Connection, *, default_zone: str, now_s: int) -> bool:
    """Whether there is something to fold. Cheap: some look-ups."""
    if _new_zones(reader, default_zone) or _left_over(reader, 1):
        return True
    return _next(reader, place(reader), now_s) is not None


def step(tx: sqlite3.Connection, *, default_zone: str, now_s: int, rows_max: int = ROWS_MAX) -> bool:
    """Folds some rows; False: nothing was left to do."""
    if zones := _new_zones(tx, default_zone):
        _begin_anew(tx, zones)
    if left_over := _left_over(tx, rows_max):
        _DELETE_SUMMARIES.execute(tx, left_over)
        return True
    at = place(tx)
    bucket = _next(tx, at, now_s)
    if bucket is None:
        return False
    month, day = spans_of(tx, bucket, default_zone)
    end = min(_foldable_end(now_s), day.end)
    last = _last(tx, at, end, rows_max)
    for span in (month, day):
        tx.execute(
            f"""
            {_INTO} SELECT ?, {", ".join(OF_SPAN[1:])}, {", ".join(f"sum({name})" for name in SUMS)} FROM rollups
            WHERE {_AFTER} AND ({_KEY}) <= (?, ?, ?, ?, ?, ?) AND bucket BETWEEN ? AND ?
            GROUP BY {", ".join(OF_SPAN[1:])} {_ADDED}
            """,
            (span.id, *at, *last, at[0], last[0]),
        )
    tx.execute(f"UPDATE settings SET ({FOLDED}) = (?, ?, ?, ?, ?, ?)", last)
    return True


def everything(store: Store, *, default_zone: str, now_s: int, rows_max: int = 20_000) -> None:
    """Folds all that is due: for a database that nobody waits for."""
    more = True
    while more:
        with store.write() as tx:
            more = step(tx, default_zone=default_zone, now_s=now_s, rows_max=rows_max)


def add(tx: sqlite3.Connection, rows: Sequence[tuple[int, ...]]) -> None:
    """Adds to roll-ups that no summaries hold yet. `rows`: KEY and SUMS; sums may be negative."""
    _ADD_ROLLUPS.execute(tx, rows)


def amend(tx: sqlite3.Connection, rows: Sequence[tuple[int, ...]], default_zone: str) -> None:
    """Adds to roll-ups of any time, and to the summaries that hold them."""
    add(tx, rows)
    late(tx, rows, default_zone)


def late(tx: sqlite3.Connection, rows: Sequence[tuple[int, ...]], default_zone: str) -> None:
    """Adds to the summaries what was added to roll-ups that they hold already."""
    at, added = place(tx), []
    spans: dict[int, tuple[Span, Span]] = {}
    for row in rows:
        if row[: len(KEY)] <= at:
            bucket, lineage_id, user_id, *rest = row
            if bucket not in spans:
                spans[bucket] = spans_of(tx, bucket, default_zone)
            added += [(span.id, user_id, lineage_id, *rest) for span in spans[bucket]]
    if added:
        tx.execute(
            f"{_INTO} SELECT {picked(OF_SPAN + SUMS)} FROM json_each(?) WHERE true {_ADDED}",
            (as_json(added),),
        )


def amend_summaries(tx: sqlite3.Connection, rows: Sequence[tuple[int, ...]]) -> None:
    """Adds to summaries alone, where their span is still there. `rows`: OF_SPAN and SUMS."""
    tx.execute(
        f"""
        {_INTO} SELECT {picked(OF_SPAN + SUMS)} FROM json_each(?)
        WHERE value ->> 0 IN (SELECT id FROM spans) {_ADDED}
        """,
        (as_json(rows),),
    )


def place(tx: sqlite3.Connection) -> Place:
    """The last row of the roll-ups that the summaries hold."""
    found: Place = tx.execute(f"SELECT {FOLDED} FROM settings").fetchone()
    return found


def spans_of(tx: sqlite3.Connection, bucket: int, default_zone: str) -> tuple[Span, Span]:
    """The month and the day that hold a bucket; they are made where there are none. A day lies in its month."""
    month = _span_of(tx, "month", bucket, default_zone, EVER)
    return month, _span_of(tx, "day", bucket, default_zone, month)


def _span_of(tx: sqlite3.Connection, kind: Kind, bucket: int, default_zone: str, within: Span) -> Span:
    """Spans never overlap, also where the zones in use have changed: then one ends where its neighbour begins."""
    row = tx.execute(
        "SELECT id, first, end FROM spans WHERE kind = ? AND first <= ? ORDER BY first DESC LIMIT 1", (kind, bucket)
    ).fetchone()
    if row is not None and bucket < row[2]:
        return Span(*row)
    first, end = _cuts(kind, bucket, frozenset(_folded_zones(tx) or {default_zone}))
    (after,) = tx.execute("SELECT min(first) FROM spans WHERE kind = ? AND first > ?", (kind, bucket)).fetchone()
    first = max(first, within.first, row[2] if row is not None else first)
    end = min(end, within.end, after if after is not None else end)
    ((span_id,),) = tx.execute(
        "INSERT INTO spans (kind, first, end) VALUES (?, ?, ?) RETURNING id", (kind, first, end)
    ).fetchall()
    return Span(span_id, first, end)


@lru_cache(maxsize=64)
def _cuts(kind: Kind, bucket: int, zones: frozenset[str]) -> tuple[int, int]:
    """The stretch around a bucket in which no zone begins another day or month."""
    at_s = bucket * BUCKET_S
    infos = [ZoneInfo(zone) for zone in zones]
    ends = [window_end(kind, info, at_s) for info in infos]
    first_s = max(window_start(kind, info, at_s) for info in infos)
    return first_s // BUCKET_S, min(end for end in ends if end is not None) // BUCKET_S


def _folded_zones(tx: sqlite3.Connection) -> set[str]:
    (zones,) = tx.execute("SELECT folded_zones FROM settings").fetchone()
    return {*zones.split(",")} - {""}


def _new_zones(tx: sqlite3.Connection, default_zone: str) -> set[str]:
    """All zones in use, if the spans are not cut for all of them."""
    rows = tx.execute("SELECT DISTINCT timezone FROM groups WHERE timezone IS NOT NULL AND removed_at IS NULL")
    zones = {default_zone, *(zone for (zone,) in rows)}
    return set() if zones <= _folded_zones(tx) else zones


def _begin_anew(tx: sqlite3.Connection, zones: set[str]) -> None:
    tx.execute("UPDATE settings SET folded_bucket = -1, folded_zones = ?", (",".join(sorted(zones)),))
    tx.execute("DELETE FROM spans")


def _left_over(tx: sqlite3.Connection, rows_max: int) -> list[tuple[int, ...]]:
    """Summaries of spans that are no more."""
    return tx.execute(
        f"""
        SELECT {", ".join(OF_SPAN)} FROM summaries
        WHERE span_id < coalesce((SELECT min(id) FROM spans), {FAR}) LIMIT ?
        """,
        (rows_max,),
    ).fetchall()


def _next(tx: sqlite3.Connection, at: Place, now_s: int) -> int | None:
    """The bucket of the first row that is to be folded."""
    row = tx.execute(
        f"SELECT bucket FROM rollups WHERE {_AFTER} AND bucket < ? ORDER BY {_KEY} LIMIT 1",
        (*at, _foldable_end(now_s)),
    ).fetchone()
    return None if row is None else int(row[0])


def _last(tx: sqlite3.Connection, at: Place, end: int, rows_max: int) -> Place:
    """The last of so many rows after a place, or the last one before a bucket. There is one."""
    rows: list[Place] = (
        tx.execute(
            f"SELECT {_KEY} FROM rollups WHERE {_AFTER} AND bucket < ? ORDER BY {_KEY} LIMIT 1 OFFSET ?",
            (*at, end, rows_max - 1),
        ).fetchall()
        or tx.execute(f"SELECT {_KEY} FROM rollups WHERE bucket < ? ORDER BY {_KEY_BACK} LIMIT 1", (end,)).fetchall()
    )
    return rows[0]


def _foldable_end(now_s: int) -> int:
    return (now_s - FOLD_AFTER_S) // BUCKET_S
