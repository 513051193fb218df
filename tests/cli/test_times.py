from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from llmctl.cli import times
from llmctl.cli.errors import UsageMistake

from .conftest import Cli

BERLIN = ZoneInfo("Europe/Berlin")
NOW_S = int(datetime(2026, 11, 23, 14, 0, tzinfo=UTC).timestamp())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("today", "2026-11-23T00:00+01:00"),
        ("1d", "2026-11-23T00:00+01:00"),
        ("7d", "2026-11-17T00:00+01:00"),
        ("4w", "2026-10-27T00:00+01:00"),
        ("1mo", "2026-10-24T00:00+02:00"),
        ("24h", "2026-11-22T14:00Z"),
        ("15m", "2026-11-23T13:45Z"),
        ("2026-10-25", "2026-10-25T00:00+02:00"),
        ("2026-11-01T10:00:00Z", "2026-11-01T10:00Z"),
        ("2026-11-01T10:00", "2026-11-01T10:00+01:00"),
    ],
)
def test_reports_start_where_people_mean(text: str, start: str) -> None:
    assert times.since(text, BERLIN, NOW_S) == at(start)


def test_a_month_back_from_its_last_day_stays_in_the_shorter_month() -> None:
    march_31 = at("2026-03-31T12:00Z")
    assert times.since("1mo", ZoneInfo("UTC"), march_31) == at("2026-03-01T00:00Z")


@pytest.mark.parametrize(("text", "end"), [("90d", NOW_S + 90 * 86_400), ("1mo", NOW_S + 30 * 86_400), ("never", None)])
def test_ends_lie_ahead(text: str, end: int | None) -> None:
    assert times.ahead_or_never(text, BERLIN, NOW_S) == end


@pytest.mark.parametrize("text", ["", "x", "7", "d", "-7d", "7 d", "2026-13-01", "0d", "99999w", "1969-01-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageMistake):
        times.since(text, BERLIN, NOW_S)


def test_what_is_no_span_is_not_told_to_be_written_as_one() -> None:
    with pytest.raises(UsageMistake) as refused:
        times.moment("7d", BERLIN, NOW_S)
    assert refused.value.hint == "write it as today, 2026-11-23 or 2026-11-23T14:00:00Z"


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        ("2026-11-01T00:00+01:00", "2026-11-23T14:00Z", "1-23 Nov 2026 Europe/Berlin"),
        ("2026-10-28T00:00+01:00", "2026-11-03T00:00+01:00", "28 Oct - 2 Nov 2026 Europe/Berlin"),
        ("2025-12-01T00:00+01:00", "2026-01-01T00:00+01:00", "1-31 Dec 2025 Europe/Berlin"),
        ("2025-12-31T00:00+01:00", "2026-01-02T00:00+01:00", "31 Dec 2025 - 1 Jan 2026 Europe/Berlin"),
        ("2026-11-23T00:00+01:00", "2026-11-23T14:00Z", "23 Nov 2026 Europe/Berlin"),
        ("2026-11-23T12:20Z", "2026-11-23T12:25Z", "23 Nov 13:20 - 23 Nov 2026 13:25 Europe/Berlin"),
        ("2026-11-23T00:00+01:00", "2026-11-23T12:25Z", "23 Nov 00:00 - 23 Nov 2026 13:25 Europe/Berlin"),
        ("2026-11-22T20:20Z", "2026-11-23T14:00:01Z", "22 Nov 21:20 - 23 Nov 2026 15:00 Europe/Berlin"),
    ],
)
def test_periods_name_their_days_and_zone(since: str, until: str, shown: str) -> None:
    assert times.period(at(since), at(until), BERLIN, NOW_S) == shown


@pytest.mark.parametrize("text", ["9000-01-02", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
def test_what_is_thousands_of_years_ahead_is_a_slip(text: str) -> None:
    for parse in (times.since, times.moment, times.ahead):
        with pytest.raises(UsageMistake, match="is after the year 8999"):
            parse(text, ZoneInfo("Asia/Tokyo"), NOW_S)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59-12:00"])
def test_an_end_beyond_all_dates_that_was_kept_once_is_shown(text: str) -> None:
    assert times.end_short(at(text), ZoneInfo("Asia/Tokyo"), NOW_S) == "31 Dec 9999 08:59"
    assert times.rfc3339(at(text)) == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("zone", "heading"),
    [("UTC", "WHEN UTC"), ("Europe/Berlin", "WHEN Berlin"), ("America/Argentina/Buenos_Aires", "WHEN Buenos Aires")],
)
def test_a_heading_names_the_zone_itself_which_is_right_in_summer_and_in_winter(zone: str, heading: str) -> None:
    assert times.heading("WHEN", ZoneInfo(zone)) == heading


def test_where_times_are_shown_their_zone_is_named(cli: Cli, empty: Path) -> None:
    with (empty / "config.toml").open("r+") as config:
        text = config.read()
        config.seek(0)
        config.write(f'timezone = "Europe/Berlin"\n{text}')
    cli("user", "add", "alice")
    cli("price", "set", "openai/m", "--input", "1", "--output", "2")
    for listed in (["audit"], ["key", "list"], ["price", "history", "openai/m"]):
        assert " Berlin" in cli(*listed).out.splitlines()[0]
    assert "23 Nov 15:00 Europe/Berlin\n" in cli("key", "show", "alice").out
