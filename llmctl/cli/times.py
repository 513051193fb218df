"""Times as people write them and as they read them. Every command parses them here."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo

from llmctl.domain.moment import rfc3339 as rfc3339

from .errors import UsageMistake
from .render import Column

T = TypeVar("T")

_SPAN = re.compile(r"(\d{1,6})(m|h|d|w|mo)")
_UNIT_S = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
SPAN_S_MAX = 100 * 366 * 86_400  # a century: beyond it somebody mistook the unit
MOMENT_S_MAX = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())  # far from where datetimes end
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_MOMENTS = "today, 2026-11-23 or 2026-11-23T14:00:00Z"
_SPANS_TOO = f"15m, 24h, 7d, 4w, 1mo, {_MOMENTS}"


def since(text: str, zone: ZoneInfo, now_s: int) -> int:
    """The start of a report, in unix seconds. `7d` is today and six calendar days, `24h` rolls."""
    span = _SPAN.fullmatch(text)
    if span is None:
        return moment(text, zone, now_s, forms=_SPANS_TOO)
    number, unit = int(span[1]), span[2]
    if unit in ("m", "h"):
        return max(0, now_s - _checked(text, number * _UNIT_S[unit]))
    _checked(text, number * _UNIT_S[unit])
    today = datetime.fromtimestamp(now_s, zone).date()
    if unit == "mo":
        return max(0, _midnight(_months_before(today, number) + timedelta(days=1), zone))
    days = number * (7 if unit == "w" else 1)
    return max(0, _midnight(today - timedelta(days=days - 1), zone))


def moment(text: str, zone: ZoneInfo, now_s: int, *, forms: str = _MOMENTS) -> int:
    """A moment, or the beginning of a day, in unix seconds. `forms`: what else might have been written here."""
    if text == "today":
        return _midnight(datetime.fromtimestamp(now_s, zone).date(), zone)
    try:
        if len(text) == len("2026-11-23"):
            at_s = _midnight(date.fromisoformat(text), zone)
        else:
            at = datetime.fromisoformat(text)
            at_s = int((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp())
            if at.microsecond:  # of a call's start: its second would begin, or end, before it
                hint = f"write {at.replace(microsecond=0).isoformat()}"
                raise UsageMistake(f"{text!r} has parts of a second", hint=hint)
    except (ValueError, OverflowError):
        raise UsageMistake(f"{text!r} is not a time", hint=f"write it as {forms}") from None
    if at_s < 0:
        raise UsageMistake(f"{text!r} is before 1970", hint="check the year")
    if at_s >= MOMENT_S_MAX:
        raise UsageMistake(f"{text!r} is after the year 8999", hint="check the year")
    return at_s


def ahead_or_never(text: str, zone: ZoneInfo, now_s: int) -> int | None:
    """When something ends: a span from now, a date, a moment; None for `never`."""
    return None if text == "never" else ahead(text, zone, now_s, or_never=", or never")


def ahead(text: str, zone: ZoneInfo, now_s: int, *, or_never: str = "") -> int:
    """When something ends that has an end."""
    if _SPAN.fullmatch(text):
        return now_s + duration_s(text)
    at_s = moment(text, zone, now_s, forms=f"{_SPANS_TOO}{or_never}")
    if at_s <= now_s:
        hint = f"write a later date{',' if or_never else ' or'} a span such as 90d{or_never}"
        raise UsageMistake(f"{text!r} has passed already", hint=hint)
    return at_s


def duration_s(text: str) -> int:
    """`24h` -> 86400. A month is 30 days."""
    span = _SPAN.fullmatch(text)
    if span is None:
        raise UsageMistake(f"{text!r} is not a span of time", hint="write it as 15m, 24h, 7d, 4w or 1mo")
    return _checked(text, int(span[1]) * _UNIT_S[span[2]])


def rfc3339_ms(at_ms: int) -> str:
    whole, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def day_short(at_s: int, zone: ZoneInfo, now_s: int) -> str:
    """`23 Nov`; with the year where it is another one."""
    day, now = _local(at_s, zone), datetime.fromtimestamp(now_s, zone)
    return f"{day.day} {day:%b}" if day.year == now.year else f"{day.day} {day:%b %Y}"


def moment_short(at_s: int, zone: ZoneInfo, now_s: int) -> str:
    """`23 Nov 14:02`."""
    return f"{day_short(at_s, zone, now_s)} {_local(at_s, zone):%H:%M}"


def moment_full(at_s: int, zone: ZoneInfo, now_s: int) -> str:
    """`23 Nov 14:02 Europe/Berlin`: where no heading names the zone."""
    return f"{moment_short(at_s, zone, now_s)} {zone.key}"


def end_short(at_s: int | None, zone: ZoneInfo, now_s: int) -> str:
    """A day where it is midnight, else the moment; `never` where there is no end."""
    if at_s is None:
        return "never"
    if _local(at_s, zone).time() == time():
        return day_short(at_s, zone, now_s)
    return moment_short(at_s, zone, now_s)


def heading(title: str, zone: ZoneInfo) -> str:
    """`WHEN Berlin`: by the zone's own name. CET or CEST would be wrong of some of the rows."""
    return f"{title} {zone.key.rpartition('/')[2].replace('_', ' ')}"


def moment_column(
    name: str, title: str, at_s: Callable[[T], int], zone: ZoneInfo, now_s: int, *, fixed: bool = False
) -> Column[T]:
    """When something was: exact in JSON and CSV, short in tables."""
    return Column(
        name,
        lambda row: rfc3339(at_s(row)),
        heading(title, zone),
        lambda row: moment_short(at_s(row), zone, now_s),
        fixed=fixed,
    )


def period(since_s: int, until_s: int, zone: ZoneInfo, now_s: int) -> str:
    """`1-23 Nov 2026 UTC`: the days that a report covers, the last one included. With times of day where it begins or
    ends inside of a day: `23 Nov 23:20 - 23 Nov 2026 23:25 UTC`."""
    first, end = datetime.fromtimestamp(since_s, zone), datetime.fromtimestamp(min(until_s, now_s), zone)
    last = datetime.fromtimestamp(max(since_s, min(until_s, now_s + 1) - 1), zone)
    if since_s == 0:
        return f"until {last.day} {last:%b %Y} {zone.key}"
    if first.time() != time() or (until_s < now_s and end.time() != time()):
        return f"{first.day} {first:%b %H:%M} - {end.day} {end:%b %Y %H:%M} {zone.key}"
    if first.date() == last.date():
        return f"{last.day} {last:%b %Y} {zone.key}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}-{last.day} {last:%b %Y} {zone.key}"
    if first.year == last.year:
        return f"{first.day} {first:%b} - {last.day} {last:%b %Y} {zone.key}"
    return f"{first.day} {first:%b %Y} - {last.day} {last:%b %Y} {zone.key}"


def _local(at_s: int, zone: tzinfo) -> datetime:
    """The clock on the wall then. An end that was kept before there was MOMENT_S_MAX may be too late for a datetime."""
    last = _LAST if zone is UTC else _LAST - timedelta(days=1)
    return datetime.fromtimestamp(min(at_s, int(last.timestamp())), zone)


def _midnight(day: date, zone: ZoneInfo) -> int:
    # Through UTC: a midnight that DST skips gives the first moment of the day.
    return int(datetime.combine(day, time(), zone).astimezone(UTC).timestamp())


def _months_before(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 - months
    year, month = index // 12, index % 12 + 1
    following = date(year + month // 12, month % 12 + 1, 1)
    return date(year, month, min(day.day, (following - timedelta(days=1)).day))


def _checked(text: str, span_s: int) -> int:
    if not 0 < span_s <= SPAN_S_MAX:
        raise UsageMistake(f"{text!r} is not a usable span of time", hint="write it as 15m, 24h, 7d, 4w or 1mo")
    return span_s
