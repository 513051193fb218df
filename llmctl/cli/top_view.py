"""How `llmctl top` looks: one frame of so many columns and lines, or its figures for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from llmctl.domain.money import usd_exact, usd_short
from llmctl.store.live import Activity, Counts, Live, Trouble
from llmctl.store.usage import Sums

from . import humanize, text, times
from .overview import limit_values
from .render import Column, Output
from .state import Daemon, Near, runs_out_s

T = TypeVar("T")
Widths = dict[str, list[int]]  # of columns, by the heading of the first

BOLD = "\x1b[1m"
LABEL, APART = 8, "   "
SECTION_LEAST = 3  # lines: an empty one, the heading, a row


@dataclass(frozen=True, slots=True)
class Standing:
    """What moves slowly."""

    daemon: Daemon
    today: Sums
    hours: list[int]  # nano-USD
    limits: list[Near]


@dataclass(frozen=True, slots=True)
class Moment:
    """What one frame of `top` shows."""

    now_s: int
    zone: ZoneInfo
    live: Live
    standing: Standing


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """One table of it."""

    columns: Sequence[Column[T]]
    rows: Sequence[T]

    def lines(self, out: Output, count: int, widths: Widths) -> list[str]:
        least = widths.setdefault(self.columns[0].title, [0] * len(self.columns))
        return out.table(self.columns, self.rows[:count], least=least)


def lines(moment: Moment, out: Output, width: int, height: int | None, widths: Widths) -> list[str]:
    """`height` None: as many as there are. `widths` of the last frame: columns only grow, so that nothing jumps."""
    out.width = width
    title = text.cut(_title(moment), width, ascii_only=out.ascii_only)
    found = [out.paint(title, BOLD), ""]
    for label, parts in _figures(moment, out).items():
        found += _flowing(label, parts, width)
    sections = [section for section in _sections(moment, out) if section.rows]
    shown = _shares([len(section.rows) for section in sections], height, len(found))
    for section, count in zip(sections, shown, strict=True):
        if count:
            found += ["", *section.lines(out, count, widths)]
    if not (moment.live.total.calls or moment.live.total.failed or moment.live.refused):
        found += ["", f"No calls in the last {humanize.span(moment.live.span_s)}."]
    return found


def _shares(wanted: Sequence[int], height: int | None, used: int) -> list[int]:
    """How many rows each section gets: one each while there is room, then turn by turn."""
    if height is None:
        return list(wanted)
    shares = [0] * len(wanted)
    left = height - used
    for place in range(len(wanted)):
        if left >= SECTION_LEAST:
            shares[place], left = 1, left - SECTION_LEAST
    while left > 0 and any(0 < share < most for share, most in zip(shares, wanted, strict=True)):
        for place, most in enumerate(wanted):
            if left > 0 and 0 < shares[place] < most:
                shares[place], left = shares[place] + 1, left - 1
    return shares


def _title(moment: Moment) -> str:
    clock = datetime.fromtimestamp(moment.now_s, moment.zone)
    return f"llmctl  {clock:%H:%M:%S %Z}   {_daemon(moment)}   last {humanize.span(moment.live.span_s)}"


def _figures(moment: Moment, out: Output) -> dict[str, list[str]]:
    live, standing = moment.live, moment.standing
    total, today = live.total, standing.today
    waits = (("first token", live.ttft_ms), ("whole answer", live.latency_ms))
    return {
        "Calls": [
            f"{_rate(total.calls, live)}/min",
            f"{live.open:,} open",
            f"{humanize.count(today.calls)} today",
            f"failed {_rate(total.failed, live)}/min",
            f"refused {_rate(live.refused, live)}/min",
        ],
        "Spend": [
            f"{_usd(_spend(total, live), total)}/min",
            f"{usd_short(live.held_nano_usd)} held",
            f"{humanize.usd(today.known_cost_nano_usd)} today",
            f"24 h {text.trend(standing.hours, ascii_only=out.ascii_only)}",
        ],
        "Tokens": [
            f"{_tokens(total.input_tokens, live)} in/min",
            f"{_tokens(total.output_tokens, live)} out/min",
            *(f"{name} {humanize.milliseconds(value)}" for name, value in waits if value is not None),
        ],
    }


def _flowing(label: str, parts: Sequence[str], width: int) -> list[str]:
    """On as many lines as it takes."""
    found = [f"{label:<{LABEL}}{parts[0]}"]
    for part in parts[1:]:
        if text.cells(found[-1]) + text.cells(part) + len(APART) <= width:
            found[-1] += APART + part
        else:
            found.append(" " * LABEL + part)
    return found


def _daemon(moment: Moment) -> str:
    daemon = moment.standing.daemon
    if daemon.state == "stopped":
        return "gateway not running"
    state = f"NOT READY: {daemon.reason}" if daemon.reason else "ready"
    return f"{state} for {humanize.span(moment.now_s - daemon.since_s)}" if daemon.since_s else state


def _sections(moment: Moment, out: Output) -> list[Section[Activity] | Section[Near] | Section[Trouble]]:
    live = moment.live
    limits = [near for near in moment.standing.limits if near.used]
    return [
        Section(_activity_columns("USER", live), live.users),
        Section(_limit_columns(moment, ascii_only=out.ascii_only), limits),
        Section(_activity_columns("MODEL", live), live.models),
        Section(_trouble_columns(moment), live.troubles),
    ]


def _activity_columns(title: str, live: Live) -> list[Column[Activity]]:
    return [
        Column("name", None, title, lambda one: one.name),
        Column("calls", None, "CALLS/MIN", lambda one: _rate(one.counts.calls, live), right=True),
        Column("open", None, "OPEN", lambda one: humanize.count(one.open), right=True, drop=2),
        Column("failed", None, "FAILED", lambda one: humanize.count(one.counts.failed), right=True, drop=4),
        Column("input", None, "IN/MIN", lambda one: _tokens(one.counts.input_tokens, live), right=True, drop=3),
        Column("output", None, "OUT/MIN", lambda one: _tokens(one.counts.output_tokens, live), right=True, drop=3),
        Column("spend", None, "SPEND/MIN", lambda one: _usd(_spend(one.counts, live), one.counts), right=True),
        Column("cost", None, "SPEND", lambda one: _usd(one.counts.cost_nano_usd, one.counts), right=True, drop=1),
    ]


def _limit_columns(moment: Moment, *, ascii_only: bool) -> list[Column[Near]]:
    def runs_out(near: Near) -> str:
        """Linear; a dash: not before its window ends."""
        at_s = runs_out_s(near, moment.now_s)
        if at_s is None:
            return "-"
        if at_s <= moment.now_s:
            return "spent"
        zone = ZoneInfo(near.standing.limit.zone)
        return f"~{times.moment_short(at_s, zone, moment.now_s)}"

    def left(near: Near) -> str:
        return humanize.amount(near.standing.limit.measure, max(0, near.standing.left))

    return [
        Column("limit", None, "LIMIT", lambda near: near.on),
        Column("amount", None, "AMOUNT", lambda near: near.text, drop=2),
        Column(
            "used",
            None,
            "USED",
            lambda near: text.bar(near.used, near.standing.amount, ascii_only=ascii_only),
            fixed=True,
        ),
        Column("left", None, "LEFT", left, right=True),
        Column("end", None, "RUNS OUT", runs_out, drop=1),
    ]


def _trouble_columns(moment: Moment) -> list[Column[Trouble]]:
    return [
        Column("failure", None, "FAILURE", lambda one: one.text),
        Column("model", None, "MODEL", lambda one: one.model, drop=2),
        Column("calls", None, "CALLS", lambda one: humanize.count(one.calls), right=True),
        Column("ago", None, "LAST", lambda one: f"{humanize.span(max(0, moment.now_s - one.last_s))} ago", drop=1),
    ]


def _rate(number: int, live: Live) -> str:
    """A minute: `0`, `0.2`, `14.5`, `1,204`."""
    tenths = number * 600 // live.span_s
    if tenths >= 1_000:
        return f"{tenths // 10:,}"
    return f"{tenths / 10:.1f}" if tenths else ("<0.1" if number else "0")


def _tokens(number: int, live: Live) -> str:
    return humanize.tokens(number * 60 // live.span_s)


def _spend(counts: Counts, live: Live) -> int:
    return counts.cost_nano_usd * 60 // live.span_s


def _usd(nano_usd: int, counts: Counts) -> str:
    return humanize.usd(None if counts.unpriced and not counts.cost_nano_usd else nano_usd)


def values(moment: Moment) -> dict[str, object]:
    """One look, as JSON: counts over `seconds`, money in USD."""
    live, standing = moment.live, moment.standing
    return {
        "at": times.rfc3339(moment.now_s),
        "seconds": live.span_s,
        "gateway": standing.daemon.state,
        **_counts(live.total),
        "refused": live.refused,
        "open_calls": live.open,
        "held_usd": usd_exact(live.held_nano_usd),
        "latency_ms": live.latency_ms,
        "ttft_ms": live.ttft_ms,
        "users": [{"user": one.name, "open": one.open, **_counts(one.counts)} for one in live.users],
        "models": [{"model": one.name, "open": one.open, **_counts(one.counts)} for one in live.models],
        "limits": [_near(near) for near in standing.limits],
        "failures": [
            {"error": one.text, "model": one.model or None, "calls": one.calls, "last_at": times.rfc3339(one.last_s)}
            for one in live.troubles
        ],
    }


def _near(near: Near) -> dict[str, object]:
    return {**limit_values(near.standing, near.member), "used_percent": near.percent}


def _counts(counts: Counts) -> dict[str, object]:
    return {
        "calls": counts.calls,
        "failed": counts.failed,
        "unpriced_calls": counts.unpriced,
        "input_tokens": counts.input_tokens,
        "output_tokens": counts.output_tokens,
        "cost_usd": usd_exact(counts.cost_nano_usd),
    }
