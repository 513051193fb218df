"""Reports against the calls themselves, as the ledger booked them. Through the command: tests/cli/test_usage.py."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from llmctl.domain.errors import BadInput
from llmctl.domain.usage import Usage
from llmctl.store import fold, groups, limits, prune, scopes, standings, usage, users
from llmctl.store.audit import Author
from llmctl.store.database import Store
from llmctl.store.filters import Filters
from tests.cli.shop import DAY_S, DOLLAR, NOW_S, Shop

UTC = ZoneInfo("UTC")
KOLKATA = ZoneInfo("Asia/Kolkata")  # +5:30
MONTH = Filters(since_s=NOW_S - 30 * DAY_S, until_s=NOW_S + 1)


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    path = tmp_path / "llmctl.db"
    async with Shop(path) as shop:
        shop.group("sales")
        shop.group("emea", parent="sales")
        shop.user("alice", "sales")
        shop.user("dora", "emea")
        for hours in range(0, 72, 5):
            await shop.call("alice", at_s=NOW_S - hours * 3_600, cost=DOLLAR, model="gpt-5")
            await shop.call("dora", at_s=NOW_S - hours * 3_600 - 900, cost=DOLLAR // 2, model="gpt-5-mini")
        await shop.call("dora", settle=False)
    return Store(path, readonly=True)


@pytest.fixture
async def minutes(tmp_path: Path) -> Store:
    """Two hours, a call every 100 seconds: some failed, were released, have no price, a tag, an end user."""
    path = tmp_path / "llmctl.db"
    async with Shop(path) as shop:
        shop.user("alice")
        shop.user("bob")
        for number in range(72):
            await shop.call(
                ("alice", "bob")[number % 2],
                at_s=NOW_S - 7_200 + number * 100,
                cost=None if number % 7 == 0 else DOLLAR + number,
                model=("gpt-5", "gpt-5-mini")[number % 3 == 0],
                tags="nightly" if number % 5 == 0 else "",
                end_user="ann" if number % 4 == 0 else "",
                **({"status": 500, "error": "server_error", "usage": Usage()} if number % 11 == 0 else {}),
                **({"state": "released"} if number % 13 == 0 else {}),
            )
        await shop.call("bob", at_s=NOW_S - 7, settle=False)
    return Store(path)


EDGES_S = [NOW_S - 7_200 + offset for offset in (0, 1, 899, 900, 901, 1_700, 3_333, 3_600, 5_399, 7_001, 7_200)]


def in_calls(store: Store, since_s: int, until_s: int, where: str = "true") -> tuple[int, ...]:
    """What the calls themselves say: calls, errors, unpriced, input tokens, cost."""
    return store.connection.execute(
        f"""
        SELECT coalesce(sum(state = 'settled'), 0), coalesce(sum(error_id IS NOT NULL OR status >= 400), 0),
               coalesce(sum(cost_nano IS NULL), 0), coalesce(sum(input_tokens), 0), coalesce(sum(cost_nano), 0)
        FROM calls WHERE state IN ('settled', 'released') AND started_at_ms >= ? AND started_at_ms < ? AND {where}
        """,
        (since_s * 1000, until_s * 1000),
    ).fetchone()


def in_report(store: Store, filters: Filters, by: list[usage.By]) -> tuple[int, ...]:
    sums = usage.total(usage.report(store.connection, filters, by, KOLKATA))
    return sums.calls, sums.errors, sums.unpriced_calls, sums.input_tokens, sums.cost_nano_usd


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_report_begins_and_ends_at_the_second_that_was_asked_for(minutes: Store, is_folded: bool) -> None:
    if is_folded:
        fold.everything(minutes, default_zone="UTC", now_s=NOW_S + 2 * DAY_S)
    (ann,) = minutes.connection.execute("SELECT id FROM names WHERE name = 'ann'").fetchone()
    for place, since_s in enumerate(EDGES_S):
        for until_s in EDGES_S[place + 1 :]:
            window = Filters(since_s, until_s)
            assert usage.told(minutes.connection, window) == window
            expected = in_calls(minutes, since_s, until_s)
            for by in usage.BYS:
                assert in_report(minutes, window, [by]) == expected, (since_s, until_s, by)
            of_ann = window._replace(end_user="ann")
            assert in_report(minutes, of_ann, ["user"]) == in_calls(minutes, since_s, until_s, f"end_user_id = {ann}")
    minutes.close()


def test_windows_side_by_side_count_each_call_once_and_nobody_who_did_not_call(minutes: Store) -> None:
    tx = minutes.connection
    parts = [
        usage.report(tx, Filters(at_s, min(at_s + 250, NOW_S)), ["user"], UTC)
        for at_s in range(NOW_S - 7_200, NOW_S, 250)
    ]
    assert sum(usage.total(rows).calls for rows in parts) == in_calls(minutes, 0, NOW_S)[0]
    first = usage.report(tx, Filters(NOW_S - 7_150, NOW_S - 7_050), ["user"], UTC)  # one call, of bob
    assert [(row.cells[0].text, row.sums.calls) for row in first] == [("bob", 1)]
    minutes.close()


def test_hours_that_are_cut_hold_what_lies_in_them(minutes: Store) -> None:
    since_s, until_s = NOW_S - 5_000, NOW_S - 1_000
    rows = usage.report(minutes.connection, Filters(since_s, until_s), ["hour"], UTC)
    assert [(row.cells[0].start_s, row.sums.calls) for row in rows] == [
        (NOW_S - 7_200, in_calls(minutes, since_s, NOW_S - 3_600)[0]),
        (NOW_S - 3_600, in_calls(minutes, NOW_S - 3_600, until_s)[0]),
    ]
    minutes.close()


def test_where_single_calls_are_pruned_the_quarter_of_an_hour_counts_in_full(minutes: Store) -> None:
    cut_s, asked = NOW_S - 6_000, Filters(NOW_S - 6_500, NOW_S - 1_000)
    whole, expected = in_calls(minutes, NOW_S - 7_200, NOW_S), in_calls(minutes, NOW_S - 7_200, asked.until_s)
    prune.prune(minutes.path, Author("tester", NOW_S), cut_s, pause_s=0)
    told = usage.told(minutes.connection, asked)
    assert (told.since_s, told.until_s) == (NOW_S - 7_200, asked.until_s)
    for by in usage.BYS:
        assert in_report(minutes, asked, [by]) == expected, by
    prune.prune(minutes.path, Author("tester", NOW_S + 1), NOW_S, pause_s=0)
    assert usage.told(minutes.connection, Filters(NOW_S - 6_500, NOW_S - 100)) == Filters(NOW_S - 7_200, NOW_S)
    assert in_report(minutes, Filters(NOW_S - 6_500, NOW_S - 100), ["model"]) == whole
    assert usage.told(minutes.connection, Filters(NOW_S - 9_999, NOW_S + 77)).since_s == NOW_S - 9_999  # no calls there
    minutes.close()


def test_after_a_clock_went_back_far_a_quarter_of_an_hour_counts_in_full(minutes: Store) -> None:
    """Its calls have the ids of other times."""
    asked = Filters(NOW_S - 5_000, NOW_S)
    with minutes.write() as tx:
        tx.execute(
            "UPDATE calls SET id = id + (7200 * 1000000 << 6) WHERE started_at_ms < ?", ((NOW_S - 4_800) * 1000,)
        )
    assert usage.told(minutes.connection, asked).since_s == NOW_S - 5_400
    assert in_report(minutes, asked, ["user"]) == in_calls(minutes, NOW_S - 5_400, NOW_S)
    minutes.close()


def test_each_way_of_looking_adds_up_to_the_same(store: Store) -> None:
    whole = store.connection.execute(
        "SELECT count(*), sum(cost_nano), sum(input_tokens) FROM calls WHERE state = 'settled'"
    )
    expected = whole.fetchone()
    for by in usage.BYS:
        for zone in (UTC, KOLKATA):
            sums = usage.total(usage.report(store.connection, MONTH, [by], zone))
            assert (sums.calls, sums.cost_nano_usd, sums.input_tokens) == expected, by
    store.close()


def test_days_begin_at_the_zones_midnight_also_off_the_hour(store: Store) -> None:
    rows = usage.report(store.connection, MONTH, ["day"], KOLKATA)
    found = {row.cells[0].text: row.sums.calls for row in rows}
    expected = dict(
        store.connection.execute(
            """
            SELECT date(started_at_ms / 1000 + 19800, 'unixepoch'), count(*) FROM calls
            WHERE state = 'settled' GROUP BY 1
            """
        ).fetchall()
    )
    assert found == expected
    store.close()


def test_hours_of_the_end_of_summer_time_are_two(tmp_path: Path) -> None:
    create_path = tmp_path / "llmctl.db"
    from llmctl.store.database import create

    create(create_path)
    store = Store(create_path)
    autumn_s = 1_792_886_400  # 25 October 2026, 00:00 UTC: Berlin sets its clocks back at 01:00 UTC
    with store.write() as tx:
        tx.execute("INSERT INTO lineages (id, path) VALUES (1, '/')")
        tx.execute("INSERT INTO models (id, provider, model) VALUES (1, 'p', 'm')")
        for quarter in range(8):
            row = (autumn_s // 900 + quarter, *[1] * 15)
            tx.execute(f"INSERT INTO rollups VALUES ({','.join('?' * 16)})", row)
    rows = usage.report(store.connection, Filters(autumn_s, autumn_s + 7_200), ["hour"], ZoneInfo("Europe/Berlin"))
    assert [(row.cells[0].text, row.sums.calls) for row in rows] == [
        ("2026-10-25T02:00+02:00", 4),
        ("2026-10-25T02:00+01:00", 4),
    ]
    store.close()


def test_one_period_at_a_time(store: Store) -> None:
    with pytest.raises(BadInput, match="one period"):
        usage.report(store.connection, MONTH, ["day", "hour"], UTC)
    with pytest.raises(BadInput, match="more than"):
        usage.report(store.connection, Filters(1, NOW_S), ["hour"], UTC)
    assert usage.report(store.connection, Filters(0, NOW_S), ["hour"], UTC)
    store.close()


def test_trends_have_a_value_a_day_the_newest_last(store: Store) -> None:
    found = usage.trends(store.connection, MONTH, ["user"], UTC, days=7)
    costs = {cells[0].text: values for cells, values in found.items()}
    assert len(costs["alice"]) == 7
    assert costs["alice"][:3] == [0, 0, 0]
    assert sum(costs["alice"]) == 15 * DOLLAR
    store.close()


def test_open_calls_and_what_they_hold(store: Store) -> None:
    tx = store.connection
    assert usage.open_calls(tx, MONTH) == (1, 11_000_000)
    assert usage.open_calls(tx, Filters(0, NOW_S, group_id=groups.get(tx, "sales").id)) == (1, 11_000_000)
    assert usage.open_calls(tx, Filters(0, NOW_S, user_id=users.get(tx, "alice").id)) == (0, 0)
    store.close()


def test_limits_stand_as_the_calls_say_also_for_the_nearest_member(store: Store) -> None:
    writer = Store(store.path)
    with writer.write() as tx:
        author = Author("tester", NOW_S)
        for each in ("", "user"):
            limits.put(
                tx,
                author,
                scopes.of_group(tx, "sales"),
                measure="cost",
                window="month",
                amount=20 * DOLLAR,
                each=each,  # type: ignore[arg-type]
                default_zone="UTC",
            )
        whole, each_user = limits.listing(tx, default_zone="UTC")
        together = standings.now(tx, whole, NOW_S)
        assert (together.standing.settled, together.standing.held) == (15 * DOLLAR + 15 * DOLLAR // 2, 11_000_000)
        nearest = standings.now(tx, each_user, NOW_S)
        assert (nearest.member, nearest.members, nearest.standing.settled) == ("alice", 2, 15 * DOLLAR)
        by_member = standings.by_member(tx, each_user, NOW_S)
        dora = users.get(tx, "dora").id
        assert by_member[dora] == standings.of_member(tx, each_user, dora, NOW_S)
    writer.close()
    store.close()
