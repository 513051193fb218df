"""What stands above and below a usage table: whose and when, where spending leads, and what the figures leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmctl.domain.forecast import forecast
from llmctl.domain.limit import Standing
from llmctl.domain.money import usd_short
from llmctl.store import audit
from llmctl.store import usage as store

from . import ceilings, humanize, times
from .usage_lines import Report
from .usage_tree import Line

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.filters import Filters

    from .context import App
    from .filters import Found

RUNNING_OUT_MAX = 5  # more are a list of their own: llmctl limit list


def heading(report: Report) -> str:
    found = report.found
    parts = [found.whose, times.period(report.filters.since_s, report.filters.until_s, found.zone, report.run.now_s)]
    if found.partial:
        parts.insert(1, found.partial)
    count, held = store.open_calls(report.tx, report.filters)
    if count:
        holds = "holds" if count == 1 else "hold"
        parts.append(f" {humanize.plural(count, 'open call')} {holds} {usd_short(held)}")
    return "  ".join(parts)


def notes(report: Report, lines: Sequence[Line], total: Line) -> list[str]:
    counted = sum(row.sums.calls for row in (*report.rows, *report.rest))
    several = ["Calls with several tags are in several lines."] if counted > total.sums.calls else []
    exact = widened(report.run, report.found, report.filters)
    return [*several, *exact, *_pruned(report), *_forecasts(report, lines, total), *_left_out(report, total)]


def widened(run: App, found: Found, told: Filters) -> list[str]:
    """Where a report counts more than was asked for."""
    edges = (("from", found.which.since_s, told.since_s), ("until", found.which.until_s, told.until_s))
    return [
        f"! counted {word} {times.moment_short(told_s, found.zone, run.now_s)}, "
        f"not {times.moment_short(asked_s, found.zone, run.now_s)}: "
        "of that quarter of an hour not all single calls are kept"
        for word, asked_s, told_s in edges
        if told_s != asked_s
    ]


def _pruned(report: Report) -> list[str]:
    """Roll-ups outlive the calls, but know neither tags nor end users."""
    if not store.reads_calls(report.filters, report.by):
        return []
    what = "are not in here" if report.filters.tag or report.filters.end_user else "count as without"
    left_out = f", and their tags and end users with them: they {what}"
    return pruned(report.tx, report.filters.since_s, report.found.zone, report.run.now_s, left_out)


def pruned(tx: Tx, since_s: int, zone: ZoneInfo, now_s: int, what: str) -> list[str]:
    """Where calls of the time asked for are forgotten; `what` that means for what is shown."""
    until_s = audit.pruned_before_s(tx)
    return [f"! calls before {times.moment_short(until_s, zone, now_s)} are pruned{what}"] if until_s > since_s else []


def _forecasts(report: Report, lines: Sequence[Line], total: Line) -> list[str]:
    """Who runs out before the window ends, the soonest first; and where the whole ends."""
    now_s = report.run.now_s
    running_out = []
    for line in (*lines, total):
        found = forecast(line.standing, now_s) if line.standing is not None else None
        if line.standing is not None and found is not None and found.runs_out_s is not None:
            text = _runs_out(line.name, line.standing, found.runs_out_s, now_s)
            running_out.append((found.runs_out_s, text))
    running_out.sort()
    texts = [text for _, text in running_out[:RUNNING_OUT_MAX]]
    if len(running_out) > RUNNING_OUT_MAX:
        more = humanize.plural(len(running_out) - RUNNING_OUT_MAX, "more limit")
        texts.append(f"! {more} will not last: llmctl limit list")
    return [*texts, *_end_of(total, now_s)]


def _end_of(total: Line, now_s: int) -> list[str]:
    standing = total.standing
    found = forecast(standing, now_s) if standing is not None else None
    if standing is None or found is None or found.runs_out_s is not None:
        return []
    day = _day(standing.window_end_s, standing.limit.zone, now_s)
    return [f"{total.name} ends near {usd_short(found.settled_at_end)} of {_amount(standing)} on {day} (linear)"]


def _runs_out(name: str, standing: Standing, runs_out_s: int, now_s: int) -> str:
    zone = standing.limit.zone
    if runs_out_s <= now_s:
        return f"! {name} has spent {_amount(standing)}; resets {_day(standing.window_end_s, zone, now_s)}"
    return f"! {name} reaches {_amount(standing)} about {_day(runs_out_s, zone, now_s)} (linear)"


def _amount(standing: Standing) -> str:
    """With what is granted for now, as the bars count it."""
    return humanize.limit_text(standing.limit.measure, standing.amount, standing.limit.window)


def _day(at_s: int | None, zone: str, now_s: int) -> str:
    """`28 Nov`; within a day also the time."""
    assert at_s is not None  # what has no end has no forecast
    info = ZoneInfo(zone)
    shown = times.moment_short if abs(at_s - now_s) < 86_400 else times.day_short
    return shown(at_s, info, now_s)


def _left_out(report: Report, total: Line) -> list[str]:
    flags = report.asked.as_flags()
    found = []
    for count, word, flag in (
        (total.sums.unpriced_calls, "without a price, not in COST (+)", "unpriced"),
        (total.sums.estimated_calls, "estimated (~)", "estimated"),
        (total.sums.errors, "failed", "failed"),
    ):
        if count:
            found.append(f"! {humanize.plural(count, 'call')} {word}: llmctl calls{flags} --{flag}")
    at_ceiling = sum(ceilings.calls_at(report.run, report.tx, report.filters).values())
    if at_ceiling:
        calls = humanize.plural(at_ceiling, "call")
        found.append(f"! {calls} booked at a ceiling, as no price was known: llmctl calls{flags} --ceiling")
    return found
