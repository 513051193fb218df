"""How a usage report looks: its columns, limits, trends, and the notes below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from llmctl.domain.limit import Limit, Standing
from llmctl.domain.money import usd_exact, usd_short
from llmctl.store import limits, standings
from llmctl.store import usage as store
from llmctl.store.usage import By, Cell, Filters, Row, Sums

from . import humanize, text, times
from .filters import Asked, Found
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App

TREND_DAYS = 7
NO_GROUP = "(no group)"


@dataclass(frozen=True, slots=True)
class Report:
    run: App
    tx: Tx
    asked: Asked
    found: Found
    filters: Filters
    by: list[By]
    rows: list[Row]


def print_report(report: Report) -> None:
    out = report.run.out
    if out.format != "table":
        out.rows(_typed_columns(report.by), report.rows)
        return
    sums = store.total(report.rows)
    total = Row(tuple(Cell("TOTAL" if i == 0 else "") for i in range(len(report.by))), sums)
    overall = _standing_overall(report)
    columns = [*_by_columns(report.by), *_sum_columns()]
    columns += [*_limit_column(report, total, overall), *_trend_column(report, total, overall)]
    out.rows(
        columns,
        report.rows,
        heading=_heading(report),
        total=total if len(report.rows) > 1 else None,
        empty="No calls.",
        notes=_notes(report, sums),
    )


def _typed_columns(by: Sequence[By]) -> list[Column[Row]]:
    return [*(_by_value(i, one) for i, one in enumerate(by)), *_sum_values()]


def _by_value(place: int, by: By) -> Column[Row]:
    if by == "hour":
        return Column(by, lambda row: times.rfc3339(row.cells[place].start_s))
    return Column(by, lambda row: row.cells[place].text)


def _sum_values() -> list[Column[Row]]:
    def count(name: str) -> Column[Row]:
        return Column(name, lambda row: getattr(row.sums, name))

    names = [one.name for one in fields(Sums) if one.name != "cost_nano_usd"]
    return [*map(count, names), Column("cost_usd", lambda row: _exact(row.sums))]


def _by_columns(by: Sequence[By]) -> list[Column[Row]]:
    def column(place: int, one: By) -> Column[Row]:
        def shown(row: Row) -> str:
            cell = row.cells[place]
            found = cell.text or ""
            # An hour is shown as wall time; its offset is for machines.
            return found.replace("T", " ")[:16] if one == "hour" and cell.start_s else found

        def group_shown(row: Row) -> str:
            return NO_GROUP if row.cells[place].text is None else shown(row)

        return Column(one, None, one.upper(), group_shown if one == "group" else shown, fixed=one in store.PERIODS)

    return [column(place, one) for place, one in enumerate(by)]


def _sum_columns() -> list[Column[Row]]:
    return [
        Column("calls", None, "CALLS", lambda row: humanize.count(row.sums.calls), right=True),
        Column("input", None, "INPUT", lambda row: humanize.tokens(row.sums.input_tokens), right=True, drop=2),
        Column(
            "cached",
            None,
            "CACHED",
            lambda row: humanize.share(row.sums.cache_read_tokens, row.sums.input_tokens),
            right=True,
            drop=5,
        ),
        Column("output", None, "OUTPUT", lambda row: humanize.tokens(row.sums.output_tokens), right=True, drop=1),
        Column("cost", None, "COST", lambda row: humanize.usd(row.sums.known_cost_nano_usd), right=True),
    ]


def _limit_column(report: Report, total: Row, overall: Standing | None) -> list[Column[Row]]:
    """How much of a cost limit is gone: for rows of groups, users and keys that have one. It is about now: a report
    that ended earlier has no such column."""
    by = report.by[0]
    if len(report.by) != 1 or not report.found.ends_now:
        return []
    standing_of: dict[Cell | None, Standing] = {}
    if by in ("group", "user", "key"):
        standing_of |= _standings_of_rows(report, by)
    if overall is not None:
        standing_of[total.cells[0]] = overall
    if not standing_of:
        return []
    ascii_only = report.run.out.ascii_only

    def shown(row: Row) -> str:
        standing = standing_of.get(row.cells[0])
        if standing is None:
            return ""
        return text.bar(standing.settled, standing.limit.amount, ascii_only=ascii_only)

    return [Column("of_limit", None, "OF LIMIT", shown, drop=3, fixed=True)]


def _standings_of_rows(report: Report, by: By) -> dict[Cell | None, Standing]:
    """The tightest cost limit on each row's own principal."""
    tx, now_s = report.tx, report.run.now_s
    rows_by_id = {row.cells[0].id: row.cells[0] for row in report.rows if row.cells[0].id is not None}
    found: dict[Cell | None, Standing] = {}

    def tighten(cell: Cell, standing: Standing) -> None:
        known = found.get(cell)
        if known is None or _gone(standing) > _gone(known):
            found[cell] = standing

    for limit in _cost_limits(report):
        if limit.principal == by and not limit.each and limit.principal_id in rows_by_id:
            tighten(rows_by_id[limit.principal_id], standings.of_member(tx, limit, 0, now_s))
        elif by == "user" and limit.each == "user":
            for user_id, standing in standings.by_member(tx, limit, now_s).items():
                if user_id in rows_by_id:
                    tighten(rows_by_id[user_id], standing)
    return found


def _standing_overall(report: Report) -> Standing | None:
    """The tightest cost limit on what the whole report is about; none if it shows only some of its calls."""
    found = report.found
    if found.model or found.provider or not found.ends_now:
        return None
    principal, principal_id = "org", 0
    for kind, row_id in (("key", found.key_id), ("user", found.user_id), ("group", found.group_id)):
        if row_id is not None:
            principal, principal_id = kind, row_id
            break
    mine = [
        standings.of_member(report.tx, limit, principal_id, report.run.now_s)
        for limit in _cost_limits(report)
        if (limit.principal, limit.principal_id) == (principal, principal_id) and not limit.each
    ]
    return max(mine, key=_gone, default=None)


def _cost_limits(report: Report) -> list[Limit]:
    found = limits.listing(report.tx, default_zone=report.run.config.timezone)
    return [limit for limit in found if limit.measure == "cost" and not limit.model_pattern]


def _gone(standing: Standing) -> float:
    return standing.settled / standing.limit.amount if standing.limit.amount else float("inf")


def _trend_column(report: Report, total: Row, overall: Standing | None) -> list[Column[Row]]:
    if any(one in store.PERIODS for one in report.by) or not report.rows:
        return []
    ascii_only = report.run.out.ascii_only
    days = store.trends(report.tx, report.filters, report.by, report.found.zone, days=TREND_DAYS)
    none = [0] * TREND_DAYS

    def shown(row: Row) -> str:
        if row is total:
            # Under the trends, beside its bar: what the bar is a share of.
            return f"of {usd_short(overall.limit.amount)}" if overall else ""
        return text.trend(days.get(row.cells, none), ascii_only=ascii_only)

    return [Column("trend", None, f"{TREND_DAYS} DAYS", shown, drop=6, fixed=True)]


def _heading(report: Report) -> str:
    found = report.found
    parts = [found.subject, times.period(found.since_s, found.until_s, found.zone, report.run.now_s)]
    if found.provider or found.model:
        parts.insert(1, " ".join(part for part in (found.provider, found.model) if part))
    count, held = store.open_calls(report.tx, report.filters)
    if count:
        holds = "holds" if count == 1 else "hold"
        parts.append(f" {humanize.plural(count, 'open call')} {holds} {usd_short(held)}")
    return "  ".join(parts)


def _notes(report: Report, sums: Sums) -> list[str]:
    flags = report.asked.as_flags()
    notes = []
    for count, word, flag in (
        (sums.unpriced_calls, "without a price, not in COST", "unpriced"),
        (sums.estimated_calls, "estimated", "estimated"),
        (sums.errors, "failed", "failed"),
    ):
        if count:
            notes.append(f"! {humanize.plural(count, 'call')} {word}: llmctl calls{flags} --{flag}")
    return notes


def _exact(sums: Sums) -> str | None:
    cost = sums.known_cost_nano_usd
    return None if cost is None else usd_exact(cost)
