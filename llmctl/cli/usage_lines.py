"""The lines of a usage table: the rows of a report with their limits and trends, groups as a tree with subtotals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmctl.domain.limit import Limit, Standing
from llmctl.store import groups, limits, standings
from llmctl.store import usage as store
from llmctl.store.filters import Filters
from llmctl.store.usage import By, Cell, Row

from .usage_tree import Line, tree

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App
    from .filters import Asked, Found

TREND_DAYS = 7
NOTHING = {"group": "(no group)", "end_user": "(none named)", "tag": "(no tag)"}


class Report(NamedTuple):
    run: App
    tx: Tx
    asked: Asked
    found: Found
    filters: Filters
    by: list[By]
    rows: list[Row]
    rest: list[Row]  # beyond -n: shown as one line
    is_list: bool  # an order or a number of rows was asked for: groups are no tree then


def lines_of(report: Report) -> list[Line]:
    trends = _trends(report)
    standing_of = _standings_of_rows(report)
    lines = []
    for row in report.rows:
        texts = [_text(cell, by) for cell, by in zip(row.cells, report.by, strict=True)]
        line = Line(texts, row.sums, texts[0], standing_of.get(row.cells[0].id))
        if trends is not None:
            line.trend = trends.get(row.cells, [0] * TREND_DAYS)
        lines.append(line)
    if report.by == ["group"] and not report.is_list:
        line_of = {row.cells[0].id: line for row, line in zip(report.rows, lines, strict=True)}
        return tree(line_of, _parents(report), groups.names(report.tx), standing_of)
    if report.rest:
        texts = [f"({len(report.rest):,} more)", *[""] * (len(report.by) - 1)]
        lines.append(Line(texts, store.total(report.rest), is_sum=True))
    return lines


def total_of(report: Report) -> Line:
    texts = ["TOTAL" if place == 0 else "" for place in range(len(report.by))]
    sums = store.total([*report.rows, *report.rest])
    if "tag" in report.by:  # calls count in each of their tags
        sums = store.total(store.report(report.tx, report.filters, [], report.found.zone))
    return Line(texts, sums, report.found.subject, _standing_overall(report), is_sum=True)


def _text(cell: Cell, by: By) -> str:
    if cell.text is None:
        return NOTHING[by]
    if cell.past:
        return f"{cell.text} ({cell.past})"
    # An hour is shown as wall time; its offset is for machines.
    return cell.text.replace("T", " ")[:16] if by == "hour" else cell.text


def _parents(report: Report) -> dict[int, int | None]:
    """The group that is reported has none: what else its parent holds is not in the report."""
    found = groups.parents(report.tx)
    return found if report.found.which.group_id is None else found | {report.found.which.group_id: None}


def _trends(report: Report) -> dict[tuple[Cell, ...], list[int]] | None:
    if any(one in store.PERIODS for one in report.by) or not report.rows or {"end_user", "tag"} & {*report.by}:
        return None
    return store.trends(report.tx, report.filters, report.by, report.found.zone, days=TREND_DAYS)


def _standings_of_rows(report: Report) -> dict[int | None, Standing]:
    """The tightest cost limit on each row's own principal. It is about now: a report that ended earlier has none."""
    by, tx, now_s = report.by[0], report.tx, report.run.now_s
    found: dict[int | None, Standing] = {}
    if len(report.by) != 1 or by not in ("group", "user", "key") or report.found.partial or not report.found.ends_now:
        return found
    row_ids = {row.cells[0].id for row in report.rows} | ({*groups.names(tx)} if by == "group" else set())

    def tighten(row_id: int, standing: Standing) -> None:
        known = found.get(row_id)
        if known is None or gone(standing) > gone(known):
            found[row_id] = standing

    for limit in _cost_limits(report):
        if limit.scope.principal == by and not limit.each and limit.scope.id in row_ids:
            tighten(limit.scope.id, standings.of_member(tx, limit, 0, now_s))
        elif by == "user" and limit.each == "user":
            for user_id, standing in standings.by_member(tx, limit, now_s).items():
                if user_id in row_ids:
                    tighten(user_id, standing)
    return found


def _standing_overall(report: Report) -> Standing | None:
    """The tightest cost limit on what the whole report is about; none if it shows only some of its calls."""
    found = report.found
    if found.partial or not found.ends_now:
        return None
    principal, principal_id = "org", 0
    for kind, row_id in (("key", found.which.key_id), ("user", found.which.user_id), ("group", found.which.group_id)):
        if row_id is not None:
            principal, principal_id = kind, row_id
            break
    mine = [
        standings.of_member(report.tx, limit, principal_id, report.run.now_s)
        for limit in _cost_limits(report)
        if (limit.scope.principal, limit.scope.id) == (principal, principal_id) and not limit.each
    ]
    return max(mine, key=gone, default=None)


def _cost_limits(report: Report) -> list[Limit]:
    found = limits.listing(report.tx, default_zone=report.run.config.timezone)
    return [limit for limit in found if limit.measure == "cost" and not limit.model_pattern]


def gone(standing: Standing) -> float:
    """The share of a limit that is spent."""
    return standing.settled / standing.amount if standing.amount else float("inf")
