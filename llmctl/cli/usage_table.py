"""How a usage report looks: as a table for people, or its rows for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from llmctl.domain.money import usd_exact, usd_set
from llmctl.store import usage as store
from llmctl.store.usage import By, Row, Sums

from . import humanize, text, times
from .render import Column
from .usage_lines import TREND_DAYS, Report, lines_of, total_of
from .usage_notes import heading, notes
from .usage_tree import Line


def print_report(report: Report) -> None:
    out = report.run.out
    if out.format != "table":
        out.rows(_typed_columns(report.by), report.rows)
        return
    lines, total = lines_of(report), total_of(report)
    out.rows(
        _columns(report, lines, total),
        lines,
        heading=heading(report),
        total=total if len(lines) > 1 or _tells_more(total, lines) else None,
        empty="No calls.",
        notes=notes(report, lines, total),
    )


def _tells_more(total: Line, lines: Sequence[Line]) -> bool:
    """Whether the total has a limit that no line has."""
    return total.standing is not None and bool(lines) and not any(line.standing for line in lines)


def sort_columns(by: Sequence[By]) -> list[Column[Row]]:
    """What --sort takes: the words of the table, and the columns of JSON and CSV."""
    return [
        Column("cost", lambda row: _exact(row.sums)),
        Column("calls", lambda row: row.sums.calls),
        Column("input", lambda row: row.sums.input_tokens),
        Column("output", lambda row: row.sums.output_tokens),
        Column("errors", lambda row: row.sums.errors),
        Column("name", lambda row: " ".join(cell.text or "" for cell in row.cells).strip()),
        *_typed_columns(by),
    ]


def _typed_columns(by: Sequence[By]) -> list[Column[Row]]:
    ids = [_id_value(place, one) for place, one in enumerate(by) if one in ("group", "user", "key")]
    return [*(_by_value(place, one) for place, one in enumerate(by)), *_sum_values(), *ids]


def _by_value(place: int, by: By) -> Column[Row]:
    if by == "hour":
        return Column(by, lambda row: times.rfc3339(row.cells[place].start_s))
    return Column(by, lambda row: row.cells[place].text)


def _id_value(place: int, by: By) -> Column[Row]:
    """Tells two apart that had the same name, one after the other."""
    return Column(f"{by}_id", lambda row: row.cells[place].public_id or row.cells[place].id)


def _sum_values() -> list[Column[Row]]:
    def count(name: str) -> Column[Row]:
        return Column(name, lambda row: getattr(row.sums, name))

    names = [one.name for one in fields(Sums) if one.name != "cost_nano_usd"]
    return [*map(count, names), Column("cost_usd", lambda row: _exact(row.sums))]


def _columns(report: Report, lines: Sequence[Line], total: Line) -> list[Column[Line]]:
    ascii_only = report.run.out.ascii_only
    columns = [
        *(_by_column(place, one) for place, one in enumerate(report.by)),
        Column("calls", None, "CALLS", lambda line: humanize.count(line.sums.calls), right=True),
        Column("input", None, "INPUT", lambda line: humanize.tokens(line.sums.input_tokens), right=True, drop=2),
        Column("cached", None, "CACHED", _cached, right=True, drop=5),
        Column("output", None, "OUTPUT", lambda line: humanize.tokens(line.sums.output_tokens), right=True, drop=1),
        _cost_column([*lines, total]),
    ]
    if any(line.standing is not None for line in (*lines, total)):
        columns.append(_limit_column(ascii_only=ascii_only))
    if any(line.trend is not None for line in lines):
        columns.append(_trend_column(total, ascii_only=ascii_only))
    elif any(one in store.PERIODS for one in report.by):
        columns.append(_bar_column(lines, total, ascii_only=ascii_only))
    return columns


def _by_column(place: int, by: By) -> Column[Line]:
    title = by.upper().replace("_", " ")
    return Column(by, None, title, lambda line: line.texts[place], fixed=by in store.PERIODS)


def _cached(line: Line) -> str:
    return humanize.share(line.sums.cache_read_tokens, line.sums.input_tokens)


def _cost_column(lines: Sequence[Line]) -> Column[Line]:
    """`~` marks what has estimates in it, `+` what has calls without a price beside it."""
    mark = any(_is_short(line) for line in lines)

    def shown(line: Line) -> str:
        about = "~" if line.sums.estimated_calls and line.sums.cost_nano_usd else ""
        more = ("+" if _is_short(line) else " ") if mark else ""
        return f"{about}{humanize.usd(line.sums.known_cost_nano_usd)}{more}"

    return Column("cost", None, "COST " if mark else "COST", shown, right=True)


def _is_short(line: Line) -> bool:
    return 0 < line.sums.unpriced_calls < line.sums.calls


def _limit_column(*, ascii_only: bool) -> Column[Line]:
    def shown(line: Line) -> str:
        if line.standing is None:
            return ""
        return text.bar(line.standing.settled, line.standing.amount, ascii_only=ascii_only)

    return Column("of_limit", None, "OF LIMIT", shown, drop=3, fixed=True)


def _whole(total: Line) -> str:
    """Under the trends, beside its bar: what the bar is a share of."""
    return f"of {usd_set(total.standing.amount)}" if total.standing is not None else ""


def _trend_column(total: Line, *, ascii_only: bool) -> Column[Line]:
    def shown(line: Line) -> str:
        if line is total:
            return _whole(total)
        return text.trend(line.trend or [], ascii_only=ascii_only)

    return Column("trend", None, f"{TREND_DAYS} DAYS", shown, drop=6, fixed=True)


def _bar_column(lines: Sequence[Line], total: Line, *, ascii_only: bool) -> Column[Line]:
    """Of periods: how they compare."""
    highest = max((line.sums.cost_nano_usd for line in lines), default=0)

    def shown(line: Line) -> str:
        if line is total:
            return _whole(total)
        return text.length(line.sums.cost_nano_usd, highest, ascii_only=ascii_only)

    return Column("trend", None, "TREND", shown, drop=6, fixed=True)


def _exact(sums: Sums) -> str | None:
    cost = sums.known_cost_nano_usd
    return None if cost is None else usd_exact(cost)
