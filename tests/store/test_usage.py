"""Reports against the calls themselves, as the ledger booked them. Through the command: tests/cli/test_usage.py."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from llmctl.domain.errors import BadInput
from llmctl.store import groups, limits, scopes, standings, usage, users
from llmctl.store.audit import Author
from llmctl.store.database import Store
from llmctl.store.usage import Filters
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
