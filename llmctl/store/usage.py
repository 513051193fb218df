"""Reports over the roll-ups. Of the calls they read those of the first and last quarter of an hour at most, so they
take the same time after ten million of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import add
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from llmctl.domain.errors import BadInput
from llmctl.domain.window import BUCKET_S, Window, window_end, window_start

from .filters import Filters, conditions
from .rollups import Stretch
from .usage_sources import LABELS, Times, can_begin_at, can_end_at, many_labelled, of_calls, of_labelled, of_rollups

By = Literal["group", "user", "key", "end_user", "tag", "model", "provider", "hour", "day", "week", "month"]
BYS: tuple[By, ...] = get_args(By)
PERIODS: dict[By, Window] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_NOT_ROLLED_UP: frozenset[By] = frozenset({"end_user", "tag"})
PERIODS_MAX = 20_000  # hours of more than two years: beyond it the report is no use to anybody


@dataclass(slots=True)
class Sums:
    """What was used. `cost_nano_usd` holds the priced calls only; `unpriced_calls` counts the others."""

    calls: int = 0
    errors: int = 0
    estimated_calls: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0

    @property
    def amounts(self) -> list[int]:
        return [getattr(self, name) for name in _SUM_NAMES]

    def add(self, amounts: Sequence[int]) -> None:
        for name, amount in zip(_SUM_NAMES, amounts, strict=True):
            setattr(self, name, getattr(self, name) + amount)

    @property
    def known_cost_nano_usd(self) -> int | None:
        """None: not one call has a price, so that nothing is known of the cost."""
        return None if self.calls and self.unpriced_calls == self.calls else self.cost_nano_usd


_SUM_NAMES = tuple(one.name for one in fields(Sums))
_COST = _SUM_NAMES.index("cost_nano_usd")


class Cell(NamedTuple):
    """One value that rows are grouped by. `id`: the group's, user's or key's row; None where there is none."""

    text: str | None  # None: no group at all
    id: int | None = None
    start_s: int | None = None  # of a period
    past: str = ""  # "removed", "revoked": somebody else may have the name now
    public_id: str | None = None  # of a key


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report: what it is about, and its sums."""

    cells: tuple[Cell, ...]
    sums: Sums = field(default_factory=Sums)


def report(tx: sqlite3.Connection, filters: Filters, by: Sequence[By], zone: ZoneInfo) -> list[Row]:
    """One row a combination that occurs. Periods are calendar ones of `zone`, in order; all else by cost. By tag, a
    call counts in the row of each of its tags: such rows do not add up. Of the times that `told` says."""
    rows: dict[tuple[Cell, ...], Sequence[int]] = {}
    for cells, amounts in _parts(tx, filters, by, zone):
        known = rows.get(cells)
        rows[cells] = amounts if known is None else [*map(add, known, amounts)]
    return sorted((Row(cells, Sums(*amounts)) for cells, amounts in rows.items()), key=_order(by))


def _parts(
    tx: sqlite3.Connection, filters: Filters, by: Sequence[By], zone: ZoneInfo
) -> Iterator[tuple[tuple[Cell, ...], Sequence[int]]]:
    """(cells, sums), more than one of them for the same cells: lineages that end in the same group are one row, and so
    is a model that two providers have."""
    filters = told(tx, filters)
    read: _Source = of_rollups
    if filters.end_user or filters.tag:
        read = of_calls
    elif reads_calls(filters, by):
        read = of_labelled
    for found, amounts in _found(tx, filters, by, zone, read):
        for cells in _each_tag(found, by) if "tag" in by else (found,):
            yield cells, amounts


def told(tx: sqlite3.Connection, filters: Filters) -> Filters:
    """The same with the times that a report tells: those asked for; or more, where one of them lies in a quarter of an
    hour whose single calls are not all kept. Such a quarter counts in full."""
    if filters.end_user or filters.tag:  # read from the single calls, those that there are
        return filters
    since_s, until_s = filters.since_s, filters.until_s
    if not can_begin_at(tx, since_s):
        since_s -= since_s % BUCKET_S
    if not can_end_at(tx, until_s):
        until_s += -until_s % BUCKET_S
    return filters._replace(since_s=since_s, until_s=until_s)


def by_price(
    tx: sqlite3.Connection, filters: Filters, by: Sequence[By], zone: ZoneInfo
) -> dict[tuple[Cell, ...], dict[int | None, Sums]]:
    """The same from the single calls, each row by the id of the price that its calls are booked at, where one is."""
    rows: dict[tuple[Cell, ...], dict[int | None, Sums]] = {}
    for cells, (price_id, *sums) in _found(tx, filters, by, zone, of_calls, "coalesce(r.price_id, r.own_price_id)"):
        rows.setdefault(cells, {}).setdefault(price_id, Sums()).add(sums)
    return rows


_Source = Callable[[sqlite3.Connection, Times, Sequence[str], str, dict[str, object]], Iterator[Sequence[Any]]]


def _found(
    tx: sqlite3.Connection, filters: Filters, by: Sequence[By], zone: ZoneInfo, read: _Source, *more: str
) -> Iterator[tuple[tuple[Cell, ...], Sequence[Any]]]:
    """(cells, values of `more` and sums), more than one of them for the same cells."""
    where, parameters = conditions(tx, filters)
    period = next((one for one in by if one in PERIODS), None)
    if sum(one in PERIODS for one in by) > 1:
        raise BadInput("one period at a time can be reported by", hint="choose one of hour, day, week, month")
    spans = _spans(tx, filters, period, zone)
    dimensions: list[str] = []
    columns: list[tuple[list[Cell] | _Names, int]] = []  # what a cell is called, by the value at this place of a row
    for one in by:
        if one in PERIODS:
            columns.append(([cell for _, cell in spans], 0))
        else:
            dimensions.append(_DIMENSIONS[one])
            columns.append((_Names(tx, one), len(dimensions)))
    times = Times([stretch for stretch, _ in spans], filters.since_s, filters.until_s)
    for row in read(tx, times, [*dimensions, *more], where, parameters):
        yield tuple([column[row[place]] for column, place in columns]), row[1 + len(dimensions) :]


def reads_calls(filters: Filters, by: Sequence[By]) -> bool:
    """Whether single calls are in the report, which roll-ups outlive."""
    return bool(filters.end_user or filters.tag or _NOT_ROLLED_UP.intersection(by))


def takes_long(tx: sqlite3.Connection, filters: Filters, by: Sequence[By]) -> bool:
    """Whether very many single calls will be read."""
    wanted = [LABELS[_DIMENSIONS[one]] for one in by if one in _NOT_ROLLED_UP]
    return bool(wanted) and not (filters.end_user or filters.tag) and many_labelled(tx, wanted)


def _each_tag(cells: tuple[Cell, ...], by: Sequence[By]) -> Iterator[tuple[Cell, ...]]:
    place = by.index("tag")
    for tag in (cells[place].text or "").split(","):
        yield (*cells[:place], Cell(tag or None), *cells[place + 1 :])


def total(rows: Sequence[Row]) -> Sums:
    sums = Sums()
    for row in rows:
        sums.add(row.sums.amounts)
    return sums


def trends(
    tx: sqlite3.Connection, filters: Filters, by: Sequence[By], zone: ZoneInfo, *, days: int
) -> dict[tuple[Cell, ...], list[int]]:
    """Cost on each of the last `days` calendar days before `filters.until_s`, by row; a day without calls is 0."""
    starts = [window_start("day", zone, filters.until_s - 1)]
    while len(starts) < days:
        starts.append(window_start("day", zone, starts[-1] - 1))
    recent = filters._replace(since_s=starts[-1])
    by_day: dict[tuple[Cell, ...], dict[int | None, int]] = {}
    for (*cells, day), amounts in _parts(tx, recent, [*by, "day"], zone):
        costs = by_day.setdefault(tuple(cells), {})
        costs[day.start_s] = costs.get(day.start_s, 0) + amounts[_COST]
    return {cells: [costs.get(start_s, 0) for start_s in reversed(starts)] for cells, costs in by_day.items()}


def open_calls(tx: sqlite3.Connection, filters: Filters) -> tuple[int, int]:
    """(calls that are open now, nano-USD that they hold)."""
    where, parameters = conditions(tx, filters)
    count, held = tx.execute(
        f"""
        SELECT count(*), coalesce(sum(held_nano), 0) FROM calls AS r
        WHERE r.state = 'open' AND {where}
        """,
        parameters,
    ).fetchone()
    return count, held


_DIMENSIONS: dict[By, str] = {
    "group": "r.lineage_id",
    "user": "r.user_id",
    "key": "r.key_id",
    "model": "r.model_id",
    "provider": "r.model_id",
    "end_user": "r.end_user_id",
    "tag": "r.tags_id",
}


def unpriced_models(tx: sqlite3.Connection, since_s: int) -> list[tuple[str, int]]:
    """`provider/model` of what was called without a price, in the quarter hour of that moment or later, and how often;
    the most first."""
    return tx.execute(
        """
        SELECT m.provider || '/' || m.model, sum(r.unpriced_calls) FROM rollups r JOIN models m ON m.id = r.model_id
        WHERE r.bucket >= ? AND r.unpriced_calls > 0 GROUP BY 1 ORDER BY 2 DESC
        """,
        (since_s // BUCKET_S,),
    ).fetchall()


def _spans(tx: sqlite3.Connection, filters: Filters, period: By | None, zone: ZoneInfo) -> list[tuple[Stretch, Cell]]:
    """Runs of roll-up buckets, each with the cell of its rows. The first and the last bucket may be there in part."""
    first, end = filters.since_s // BUCKET_S, -(-filters.until_s // BUCKET_S)
    if period is None:
        return [(Stretch(0, first, end), Cell(None))]
    if filters.since_s == 0:
        # "All time" begins with the first call, not in 1970.
        (oldest,) = tx.execute("SELECT min(bucket) FROM rollups").fetchone()
        first = end if oldest is None else max(first, oldest)
    spans: list[tuple[Stretch, Cell]] = []
    while first < end:
        if len(spans) >= PERIODS_MAX:
            raise BadInput(f"that is more than {PERIODS_MAX} {period}s", hint="report fewer, or by longer periods")
        start_s = window_start(PERIODS[period], zone, first * BUCKET_S)
        end_s = window_end(PERIODS[period], zone, first * BUCKET_S)
        assert end_s is not None
        next_first = min(end, end_s // BUCKET_S)
        cell = Cell(_period_text(period, start_s, zone), start_s=start_s)
        spans.append((Stretch(len(spans), first, next_first), cell))
        first = next_first
    return spans


def _period_text(period: By, start_s: int, zone: ZoneInfo) -> str:
    local = datetime.fromtimestamp(start_s, zone)
    if period == "month":
        return f"{local:%Y-%m}"
    # The offset tells the two hours apart that the end of summer time has.
    return local.isoformat(timespec="minutes") if period == "hour" else f"{local:%Y-%m-%d}"


class _Names(dict[int, Cell]):
    """Ids of roll-ups as names, also of what was removed or revoked since: each is looked up once."""

    def __init__(self, tx: sqlite3.Connection, by: By) -> None:
        super().__init__()
        self._tx = tx
        self._by = by

    def __missing__(self, value: int) -> Cell:
        cell = self[value] = self._look_up(value)
        return cell

    def _look_up(self, value: int) -> Cell:
        by = self._by
        if by in ("model", "provider"):
            provider, model = self._tx.execute("SELECT provider, model FROM models WHERE id = ?", (value,)).fetchone()
            return Cell(model if by == "model" else provider)
        if by == "group":
            (path,) = self._tx.execute("SELECT path FROM lineages WHERE id = ?", (value,)).fetchone()
            group_id = leaf(path)
            return Cell(None) if group_id is None else self._of_table("groups", group_id)
        if by in ("end_user", "tag"):
            row = self._tx.execute("SELECT name FROM names WHERE id = ?", (value,)).fetchone()
            return Cell(row[0] if row else None)
        if by == "user":
            return self._of_table("users", value)
        row = self._tx.execute(
            """
            SELECT u.name || '/' || k.name, k.revoked_at IS NOT NULL, k.public_id
            FROM keys k JOIN users u ON u.id = k.user_id WHERE k.id = ?
            """,
            (value,),
        ).fetchone()
        if row is None:
            return Cell(f"#{value}", value)
        name, revoked, public_id = row
        return Cell(name, value, past="revoked" if revoked else "", public_id=public_id)

    def _of_table(self, table: str, row_id: int) -> Cell:
        row = self._tx.execute(f"SELECT name, removed_at IS NOT NULL FROM {table} WHERE id = ?", (row_id,)).fetchone()
        if row is None:
            return Cell(f"#{row_id}", row_id)
        return Cell(row[0], row_id, past="removed" if row[1] else "")


def leaf(path: str) -> int | None:
    """The group that a lineage ends in: `/1/4/` -> 4; None for the organisation itself."""
    ids = [part for part in path.split("/") if part]
    return int(ids[-1]) if ids else None


def _order(by: Sequence[By]) -> Callable[[Row], tuple[object, ...]]:
    if not any(one in PERIODS for one in by):
        return lambda row: (
            -row.sums.cost_nano_usd,
            -row.sums.calls,
            *(cell.text or "" for cell in row.cells),
        )

    def in_order(row: Row) -> tuple[object, ...]:
        return tuple(cell.start_s if cell.start_s is not None else cell.text or "" for cell in row.cells)

    return in_order
