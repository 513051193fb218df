"""Windows tile time in every zone of the IANA database, at every change of its clocks since 1990."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.domain.window import BUCKET_S, WINDOWS, Window, window_end, window_start

DAY_S = 86_400
SINCE_S = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
UNTIL_S = int(datetime(2032, 1, 1, tzinfo=UTC).timestamp())
ZONES = sorted(available_timezones())
BOUNDED: tuple[Window, ...] = ("minute", "hour", "day", "week", "month")


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def utc(moment_s: int | None) -> str:
    assert moment_s is not None
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def offset_s(zone: ZoneInfo, moment_s: int) -> int:
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def changes(zone: ZoneInfo) -> Iterator[int]:
    """The first second of each new offset."""
    before = offset_s(zone, SINCE_S)
    for week_s in range(SINCE_S, UNTIL_S, 7 * DAY_S):
        if (after := offset_s(zone, week_s + 7 * DAY_S)) != before:
            low, high = week_s, week_s + 7 * DAY_S
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_s(zone, middle) == before else (low, middle)
            yield high
            before = after


@cache
def clocks() -> dict[tuple[int, ...], ZoneInfo]:
    """One zone for each different behaviour of clocks, with its changes: links and twins are left out."""
    return {(offset_s(zone, SINCE_S), *changes(zone)): zone for zone in map(ZoneInfo, ZONES)}


def assert_tiles(window: Window, zone: ZoneInfo, now_s: int) -> None:
    start_s, end_s = window_start(window, zone, now_s), window_end(window, zone, now_s)
    told = f"{window} in {zone} at {utc(now_s)}: {utc(start_s)} to {utc(end_s)}"
    assert end_s is not None
    assert start_s <= now_s < end_s, told
    assert window == "minute" or start_s % BUCKET_S == 0, f"{told} does not start on a roll-up's boundary"
    assert window_start(window, zone, end_s - 1) == start_s, f"{told}: another start at its end"
    assert window_end(window, zone, start_s) == end_s, f"{told}: another end at its start"
    assert window_start(window, zone, end_s) == end_s, f"{told}: the next one starts elsewhere"
    assert window_end(window, zone, start_s - 1) == start_s, f"{told}: the one before ends elsewhere"


@pytest.mark.parametrize("window", ["hour", "day", "week", "month"])
def test_windows_tile_time_over_every_change_of_every_clock(window: Window) -> None:
    for (_, *moments), zone in clocks().items():
        for moment_s in moments:
            for now_s in (moment_s - 1, moment_s):
                assert_tiles(window, zone, now_s)


@settings(deadline=None)  # the first use of a zone reads its file
@given(st.sampled_from(BOUNDED), st.sampled_from(ZONES), st.integers(SINCE_S, UNTIL_S))
def test_windows_tile_time_at_any_moment(window: Window, name: str, now_s: int) -> None:
    assert_tiles(window, ZoneInfo(name), now_s)


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(SINCE_S, UNTIL_S))
def test_days_make_up_weeks_and_months(name: str, now_s: int) -> None:
    zone = ZoneInfo(name)
    for longer in ("week", "month"):
        start_s, end_s = window_start(longer, zone, now_s), window_end(longer, zone, now_s)
        days, moment_s = 0, start_s
        while moment_s < end_s:
            assert window_start("day", zone, moment_s) == moment_s
            moment_s, days = window_end("day", zone, moment_s), days + 1
        assert moment_s == end_s
        assert days == 7 if longer == "week" else 28 <= days <= 31


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(at("2012-01-01"), UNTIL_S))
def test_a_day_is_all_the_time_that_has_one_date_on_the_calendar(name: str, now_s: int) -> None:
    zone = ZoneInfo(name)
    start_s, end_s = window_start("day", zone, now_s), window_end("day", zone, now_s)
    date = datetime.fromtimestamp(now_s, zone).date()
    assert {datetime.fromtimestamp(s, zone).date() for s in range(start_s, end_s, BUCKET_S)} == {date}
    for outside_s in (start_s - 1, end_s):
        assert datetime.fromtimestamp(outside_s, zone).date() != date


@pytest.mark.parametrize(
    ("zone", "noon", "start", "hours"),
    [
        ("Europe/Berlin", "2026-03-29 12:00", "2026-03-28 23:00:00", 23),
        ("Europe/Berlin", "2026-10-25 12:00", "2026-10-24 22:00:00", 25),
        ("Australia/Lord_Howe", "2026-10-04 12:00", "2026-10-03 13:30:00", 23.5),
        ("Australia/Lord_Howe", "2026-04-05 12:00", "2026-04-04 13:00:00", 24.5),
        ("America/Sao_Paulo", "2018-11-04 12:00", "2018-11-04 03:00:00", 23),  # it began at 01:00
        ("America/Sao_Paulo", "2018-02-17 12:00", "2018-02-17 02:00:00", 25),  # 23:00 came twice
        ("Asia/Beirut", "2026-03-29 12:00", "2026-03-28 22:00:00", 23),
        ("Africa/Cairo", "2026-04-24 12:00", "2026-04-23 22:00:00", 23),
        ("America/Santiago", "2026-09-06 12:00", "2026-09-06 04:00:00", 23),
        ("America/Havana", "2026-11-01 12:00", "2026-11-01 04:00:00", 25),  # midnight came twice: the first counts
        ("Atlantic/Azores", "2026-10-25 12:00", "2026-10-25 00:00:00", 25),
        ("Asia/Pyongyang", "2018-05-04 12:00", "2018-05-03 15:30:00", 23.5),
        ("Antarctica/Troll", "2026-03-29 12:00", "2026-03-29 00:00:00", 22),
        ("Asia/Kolkata", "2026-11-20 12:00", "2026-11-19 18:30:00", 24),
        ("Asia/Kathmandu", "2026-11-20 12:00", "2026-11-19 18:15:00", 24),
        ("Pacific/Chatham", "2026-11-20 12:00", "2026-11-19 10:15:00", 24),
        ("America/St_Johns", "2010-11-06 12:00", "2010-11-06 02:30:00", 24),
        # At 00:01 clocks went back to 23:01 of the day before: the new day had begun, and goes on.
        ("America/St_Johns", "2010-11-07 12:00", "2010-11-07 02:30:00", 25),
        ("Pacific/Apia", "2011-12-29 12:00", "2011-12-29 10:00:00", 24),  # the next day was the 31st
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_on_the_wall(zone: str, noon: str, start: str, hours: float) -> None:
    now_s, info = at(noon, zone), ZoneInfo(zone)
    start_s, end_s = window_start("day", info, now_s), window_end("day", info, now_s)
    assert utc(start_s) == start
    assert end_s is not None and end_s - start_s == hours * 3600


def test_a_day_that_a_zone_skipped_is_no_window() -> None:
    apia = ZoneInfo("Pacific/Apia")
    end_s = window_end("day", apia, at("2011-12-29 12:00", "Pacific/Apia"))
    assert end_s == window_start("day", apia, at("2011-12-31 12:00", "Pacific/Apia"))


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-02-15 12:00", "2026-02-01 00:00:00", "2026-03-01 00:00:00"),
        ("2028-02-29 23:59", "2028-02-01 00:00:00", "2028-03-01 00:00:00"),
        ("2026-12-31 23:59", "2026-12-01 00:00:00", "2027-01-01 00:00:00"),
        ("2026-11-01 00:00", "2026-11-01 00:00:00", "2026-12-01 00:00:00"),
    ],
)
def test_a_month_goes_from_its_first_to_the_next(now: str, start: str, end: str) -> None:
    assert utc(window_start("month", ZoneInfo("UTC"), at(now))) == start
    assert utc(window_end("month", ZoneInfo("UTC"), at(now))) == end


def test_a_month_starts_when_it_does_in_the_group_s_own_zone() -> None:
    now_s = at("2026-11-30 23:30")
    assert utc(window_start("month", ZoneInfo("Asia/Kathmandu"), now_s)) == "2026-11-30 18:15:00"
    assert utc(window_start("month", ZoneInfo("America/New_York"), now_s)) == "2026-11-01 04:00:00"  # summer time still


@given(st.integers(SINCE_S, UNTIL_S))
def test_weeks_start_on_monday(now_s: int) -> None:
    start = datetime.fromtimestamp(window_start("week", ZoneInfo("UTC"), now_s), UTC)
    assert start.weekday() == 0 and start.time() == datetime.min.time()


def test_a_week_over_a_change_of_clocks_lasts_an_hour_less() -> None:
    berlin, now_s = ZoneInfo("Europe/Berlin"), at("2026-03-25 12:00")
    assert utc(window_start("week", berlin, now_s)) == "2026-03-22 23:00:00"
    assert utc(window_end("week", berlin, now_s)) == "2026-03-29 22:00:00"


def hours_of(zone: str, since: str, until: str) -> list[str]:
    info, now_s, found = ZoneInfo(zone), at(since), []
    while now_s < at(until):
        found.append(utc(window_start("hour", info, now_s))[11:16])
        end_s = window_end("hour", info, now_s)
        assert end_s is not None
        now_s = end_s
    return found


def test_hours_are_those_on_the_wall() -> None:
    assert hours_of("Europe/Berlin", "2026-11-20 09:00", "2026-11-20 11:00") == ["09:00", "10:00"]
    assert hours_of("Asia/Kolkata", "2026-11-20 09:30", "2026-11-20 11:30") == ["09:30", "10:30"]
    assert hours_of("Asia/Kathmandu", "2026-11-20 09:15", "2026-11-20 11:15") == ["09:15", "10:15"]


def test_an_hour_that_comes_twice_is_two_windows() -> None:
    assert hours_of("Europe/Berlin", "2026-10-25 00:00", "2026-10-25 03:00") == ["00:00", "01:00", "02:00"]


def test_where_clocks_move_by_half_an_hour_the_hour_is_cut_and_never_counted_twice() -> None:
    # 02:00+11 became 01:30+10:30 at 15:00 UTC, and 02:00+10:30 became 02:30+11 at 15:30 UTC.
    assert hours_of("Australia/Lord_Howe", "2026-04-04 14:00", "2026-04-04 16:30") == ["14:00", "15:00", "15:30"]
    assert hours_of("Australia/Lord_Howe", "2026-10-03 14:30", "2026-10-03 17:00") == ["14:30", "15:30", "16:00"]


def test_minutes_are_those_of_the_clock_and_the_total_has_no_end() -> None:
    zone, now_s = ZoneInfo("Asia/Kathmandu"), at("2026-11-20 09:15:42")
    assert utc(window_start("minute", zone, now_s)) == "2026-11-20 09:15:00"
    assert utc(window_end("minute", zone, now_s)) == "2026-11-20 09:16:00"
    assert window_start("total", zone, now_s) == 0
    assert window_end("total", zone, now_s) is None
    assert set(WINDOWS) == {*BOUNDED, "total"}


def test_every_offset_since_1990_is_a_multiple_of_a_roll_up_s_bucket() -> None:
    for (_, *moments), zone in clocks().items():
        for moment_s in (SINCE_S, *moments):
            assert timedelta(seconds=offset_s(zone, moment_s)) % timedelta(seconds=BUCKET_S) == timedelta(), zone
