"""Windows of limits and reports: where they start and end, in a time zone. DST right, no reset jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Window = Literal["minute", "hour", "day", "week", "month", "total"]
WINDOWS: tuple[Window, ...] = get_args(Window)

SLOT_S = 5  # a minute slides: it is this slot of it and those of the 60 seconds before
MINUTE_S = 60
BUCKET_S = 900  # roll-ups: every zone's offset is a multiple of 15 minutes


def window_start(window: Window, zone: ZoneInfo, now_s: int) -> int:
    """Unix seconds at which the window that contains `now_s` began. `total` began at 0. Weeks start on Monday."""
    if window == "total":
        return 0
    if window == "minute":
        return now_s - now_s % MINUTE_S
    if window == "hour":
        start = now_s - now_s % BUCKET_S
        hour = _hour(zone, start)
        while _hour(zone, start - BUCKET_S) == hour:
            start -= BUCKET_S
        return start
    return _timestamp(_local_start(window, zone, now_s))


def window_end(window: Window, zone: ZoneInfo, now_s: int) -> int | None:
    """Unix seconds at which the window that contains `now_s` ends (exclusive); None for `total`."""
    if window == "total":
        return None
    if window == "minute":
        return window_start(window, zone, now_s) + MINUTE_S
    if window == "hour":
        end = now_s - now_s % BUCKET_S
        hour = _hour(zone, end)
        while _hour(zone, end) == hour:
            end += BUCKET_S
        return end
    start = _local_start(window, zone, now_s)
    if window == "day":
        return _timestamp(start + timedelta(days=1))
    if window == "week":
        return _timestamp(start + timedelta(days=7))
    month = start.replace(day=28) + timedelta(days=4)
    return _timestamp(month.replace(day=1))


def _hour(zone: ZoneInfo, at_s: int) -> tuple[int, int]:
    """The hour on the wall, and the offset in force: an hour that a DST change repeats is two windows, and where
    clocks move by half an hour (Lord Howe) the hour is cut there."""
    offset_s = int((datetime.fromtimestamp(at_s, zone).utcoffset() or timedelta()).total_seconds())
    return (at_s + offset_s) // 3600, offset_s


def _local_start(window: Window, zone: ZoneInfo, now_s: int) -> datetime:
    """The wall-clock midnight that opens the day, week or month. Arithmetic on wall time: days of 23 and 25 hours."""
    midnight = datetime.fromtimestamp(now_s, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    tomorrow = midnight + timedelta(days=1)
    if _timestamp(tomorrow) <= now_s:
        midnight = tomorrow  # clocks went back over midnight (St John's until 2011): a day that has begun goes on
    if window == "day":
        return midnight
    if window == "week":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1)


def _timestamp(wall: datetime) -> int:
    # A midnight that DST skips (some zones change at 00:00) does not exist: through UTC it is the day's first moment.
    return int(wall.astimezone(UTC).timestamp())
