"""Where reports read: roll-ups and their summaries, or the calls themselves.

Roll-ups are quarters of an hour. Where a report begins or ends inside of one, the single calls beyond that moment are
taken off again: their sums are what the ledger rolled up of them.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import add, sub
from typing import Any, NamedTuple

from llmctl.domain.window import BUCKET_S

from . import audit, ids, rollups
from .fold import OF_CALLS, SUMS
from .rollups import Stretch
from .sql import run

MANY = 200_000  # rows that are found one by one in half a second
CLOCK_BACK_S = 3_600  # an id is later than its call by as much as a clock was set back: so far is looked for calls
_ID_MAX = (1 << 63) - 1
_Sums = list[int]
_Left = dict[tuple[Any, ...], _Sums]  # by number of the span and values of the dimensions


class Times(NamedTuple):
    """What is asked for: buckets, but of the first and the last one only what lies in these seconds."""

    spans: Sequence[Stretch]
    since_s: int
    until_s: int  # exclusive

    def outside(self) -> Iterator[tuple[int, int, int]]:
        """What of the buckets was not asked for: number of the span, from, until."""
        if not self.spans:
            return
        first, last = self.spans[0], self.spans[-1]
        if first.first * BUCKET_S < self.since_s:
            yield first.number, first.first * BUCKET_S, self.since_s
        if self.until_s < last.end * BUCKET_S:
            yield last.number, self.until_s, last.end * BUCKET_S


def can_begin_at(tx: sqlite3.Connection, at_s: int) -> bool:
    """Whether a report can begin at this moment: the single calls of its quarter of an hour are all there, and found
    by their ids."""
    bucket, rest = divmod(at_s, BUCKET_S)
    if rest == 0:
        return True
    rolled_up = tx.execute(
        f"SELECT {', '.join(f'coalesce(sum({name}), 0)' for name in SUMS)} FROM rollups WHERE bucket = ?", (bucket,)
    ).fetchone()
    called = _summed_near(tx, [], "true", {}, bucket * BUCKET_S, (bucket + 1) * BUCKET_S).fetchone()
    return tuple(rolled_up) == tuple(called or [0] * len(SUMS))


def can_end_at(tx: sqlite3.Connection, at_s: int) -> bool:
    """The same of a report's end. Most end now, after all calls: no call is read for those."""
    is_now = audit.pruned_before_s(tx) <= at_s and not _any_since(tx, at_s)
    return is_now or can_begin_at(tx, at_s)


def _any_since(tx: sqlite3.Connection, at_s: int) -> bool:
    return tx.execute("SELECT 1 FROM calls WHERE id >= ? LIMIT 1", (ids.at_or_after(at_s),)).fetchone() is not None


def of_rollups(
    tx: sqlite3.Connection, times: Times, dimensions: Sequence[str], where: str, parameters: dict[str, object]
) -> Iterator[Sequence[Any]]:
    """(number of the span, values of the dimensions, sums), more than one of them for the same values."""
    width = 1 + len(dimensions)
    outside = [
        (number, *row)
        for number, from_s, end_s in times.outside()
        for row in _summed_near(tx, dimensions, where, parameters, from_s, end_s)
    ]
    rows = _of_buckets(tx, times.spans, dimensions, where, parameters)
    if not outside:
        yield from rows
        return
    left: _Left = {}
    for row in rows:
        _count(left, row[:width], row[width:], add)
    for row in outside:
        _count(left, row[:width], row[width:], sub)
    yield from ((*key, *sums) for key, sums in left.items() if any(sums))


def _count(left: _Left, key: tuple[Any, ...], sums: Sequence[int], how: Callable[[int, int], int]) -> None:
    known = left.setdefault(key, [0] * len(SUMS))
    known[:] = map(how, known, sums)


def _of_buckets(
    tx: sqlite3.Connection,
    spans: Sequence[Stretch],
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
) -> Iterator[tuple[Any, ...]]:
    sums = [f"sum(r.{name})" for name in SUMS]
    by = f"GROUP BY {', '.join(dimensions)}" if dimensions else "HAVING count(*) > 0"
    for source, place in run(tx, rollups.plan(spans)).one_by_one():
        yield from tx.execute(
            f"SELECT {', '.join([':number', *dimensions, *sums])} FROM {source} AND {where} {by}", parameters | place
        )


def _summed_near(
    tx: sqlite3.Connection,
    columns: Sequence[str],
    where: str,
    parameters: dict[str, object],
    from_s: int,
    end_s: int,
) -> sqlite3.Cursor:
    """The sums of a short time's calls: found by their ids, however many there are before and after."""
    ids_end = ids.at_or_after(end_s + CLOCK_BACK_S)
    return _summed(tx, columns, where, parameters, from_s, end_s, ids_end=ids_end)


@dataclass(frozen=True, slots=True)
class Label:
    """What calls have and roll-ups do not: tags, and end users but where a limit needs them."""

    there: str
    none: int | None
    index: str  # of the calls that have it


LABELS = {
    "r.tags_id": Label("r.tags_id IS NOT NULL", None, "calls_by_tags"),
    "r.end_user_id": Label("r.end_user_id <> 0", 0, "calls_by_end_user"),
}


def of_labelled(
    tx: sqlite3.Connection, times: Times, dimensions: Sequence[str], where: str, parameters: dict[str, object]
) -> Iterator[Sequence[Any]]:
    """The same where some of the dimensions are labels: calls that have one are read, all others are what the roll-ups
    have beyond them. So an organisation without labels waits for nothing, and the sum is that of all other reports."""
    wanted = [LABELS[one] for one in dimensions if one in LABELS]
    where_labelled = f"{where} AND ({' OR '.join(label.there for label in wanted)})"
    source = "calls AS r"
    if len(wanted) == 1 and not many_labelled(tx, wanted):
        source += f" INDEXED BY {wanted[0].index}"
    others = [place for place, one in enumerate(dimensions) if one not in LABELS]
    left: _Left = {}
    for number, *values in of_rollups(tx, times, [dimensions[place] for place in others], where, parameters):
        _count(left, (number, *values[: len(others)]), values[len(others) :], add)
    for number, *values in of_calls(tx, times, dimensions, where_labelled, parameters, source=source):
        yield number, *values
        _count(left, (number, *(values[place] for place in others)), values[len(dimensions) :], sub)
    for (number, *named), sums in left.items():
        if any(sums):
            rest = iter(named)
            yield number, *(LABELS[one].none if one in LABELS else next(rest) for one in dimensions), *sums


def many_labelled(tx: sqlite3.Connection, wanted: Sequence[Label]) -> bool:
    """So many that all calls are read sooner in their own order than these in an index's."""
    counts = (
        tx.execute(f"SELECT count(*) FROM (SELECT 1 FROM calls AS r WHERE {label.there} LIMIT {MANY})").fetchone()[0]
        for label in wanted
    )
    return any(count >= MANY for count in counts)


def of_calls(
    tx: sqlite3.Connection,
    times: Times,
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
    *,
    source: str = "calls AS r",
) -> Iterator[Sequence[Any]]:
    """The same from the calls themselves. Takes a second or two for each million of them in the time asked for."""
    spans = times.spans
    if not spans:
        return
    bucket = f"r.started_at_ms / {1000 * BUCKET_S}" if len(spans) > 1 else "0"
    found = _summed(tx, [bucket, *dimensions], where, parameters, times.since_s, times.until_s, source=source)
    ends = [span.end for span in spans]
    for at, *values in found:
        yield (bisect_right(ends, at) if len(spans) > 1 else 0, *values)


def _summed(
    tx: sqlite3.Connection,
    columns: Sequence[str],
    where: str,
    parameters: dict[str, object],
    from_s: int,
    end_s: int,
    *,
    source: str = "calls AS r",
    ids_end: int = _ID_MAX,
) -> sqlite3.Cursor:
    """The columns and the sums of calls that have ended, by the columns."""
    by = f"GROUP BY {', '.join(str(place + 1) for place in range(len(columns)))}" if columns else "HAVING count(*) > 0"
    return tx.execute(
        f"""
        SELECT {", ".join([*columns, *OF_CALLS])} FROM {source}
        WHERE r.id >= :first_id AND r.id < :ids_end AND r.started_at_ms >= :first_ms AND r.started_at_ms < :end_ms
          AND r.state IN ('settled', 'released') AND {where}
        {by}
        """,
        parameters
        | {
            "first_id": ids.at_or_after(from_s),
            "ids_end": ids_end,
            "first_ms": from_s * 1000,
            "end_ms": end_s * 1000,
        },
    )
