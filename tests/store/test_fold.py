"""Summaries of days and months: whatever part of the roll-ups they hold, every report says the same."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextlib import closing as closing_of
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from llmctl.domain.scope import ORGANISATION
from llmctl.domain.window import BUCKET_S
from llmctl.store import fold, groups, limits, scopes, standings, usage
from llmctl.store.audit import Author
from llmctl.store.database import Store, _migrate, migrations
from llmctl.store.filters import Filters
from llmctl.store.ledger import Ledger
from tests.support.ledgers import Books, closing, opening

UTC = ZoneInfo("UTC")
DAY_S = 86_400
NOW_S = 1_795_442_400  # Monday 23 November 2026, 14:00 UTC
START_S = NOW_S - 70 * DAY_S
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns")


def fill(store: Store, *, rows: int = 600, seed: int = 1) -> None:
    """Roll-ups of a few users over 70 days, at random."""
    dice = random.Random(seed)
    with store.write() as tx:
        tx.execute("INSERT INTO groups (id, name, timezone, created_at) VALUES (1, 'emea', 'Europe/Berlin', 0)")
        for number in (1, 2):
            tx.execute("INSERT INTO lineages (id, path) VALUES (?, ?)", (number, ("/", "/1/")[number - 1]))
            tx.execute("INSERT INTO models (id, provider, model) VALUES (?, 'p', ?)", (number, f"m{number}"))
            tx.execute("INSERT INTO users (id, name, created_at) VALUES (?, ?, 0)", (number, f"u{number}"))
        tx.execute("INSERT INTO lineage_groups VALUES (2, 1)")
        found = {
            (
                dice.randrange(START_S, NOW_S) // BUCKET_S,
                dice.randint(1, 2),
                dice.randint(1, 2),
                1,
                dice.randint(1, 2),
                0,
            ): tuple(dice.randrange(1, 1000) for _ in range(10))
            for _ in range(rows)
        }
        tx.executemany(
            f"INSERT INTO rollups VALUES ({','.join('?' * 16)})", [(*key, *sums) for key, sums in found.items()]
        )


def step(store: Store, *, rows_max: int, zone: str = "UTC") -> bool:
    with store.write() as tx:
        return fold.step(tx, default_zone=zone, now_s=NOW_S, rows_max=rows_max)


def reports(store: Store) -> list[object]:
    """What an admin may ask for, and what limits count."""
    tx = store.connection
    found: list[object] = []
    windows = [(0, NOW_S + 1), (START_S + 5 * DAY_S + 7_777, NOW_S - 9 * DAY_S), (NOW_S - 23 * DAY_S, NOW_S + 1)]
    for zone in map(ZoneInfo, ZONES):
        for since_s, until_s in windows:
            for by in (["group"], ["day"], ["user", "week"], ["model", "month"]):
                found += usage.report(tx, Filters(since_s, until_s), by, zone)  # type: ignore[arg-type]
            found.append(usage.report(tx, Filters(since_s, until_s, group_id=1, user_id=2), ["model"], zone))
        found.append(usage.trends(tx, Filters(*windows[2]), ["user"], zone, days=7))
    for limit in limits.listing(tx, default_zone="UTC"):
        found.append(standings.of_member(tx, limit, 1, NOW_S))
        found.append(standings.by_member(tx, limit, NOW_S))
    return found


def set_limits(store: Store) -> None:
    author = Author("tester", NOW_S)
    with store.write() as tx:
        for window in ("hour", "day", "month", "total"):
            for scope, each in ((ORGANISATION, ""), (scopes.of_group(tx, "emea"), "user")):
                limits.put(tx, author, scope, measure="cost", window=window, amount=1, each=each, default_zone="UTC")  # type: ignore[arg-type]


@pytest.mark.parametrize("rows_max", [7, 200])
def test_reports_are_the_same_at_every_step_of_folding(store: Store, rows_max: int) -> None:
    fill(store)
    set_limits(store)
    before = reports(store)
    steps = 0
    while step(store, rows_max=rows_max):
        steps += 1
        if steps % 25 == 0:
            assert reports(store) == before
    assert steps > 2
    assert reports(store) == before
    ((folded,),) = store.connection.execute(
        "SELECT sum(calls) FROM summaries JOIN spans ON spans.id = span_id WHERE kind = 'month'"
    ).fetchall()
    ((old,),) = store.connection.execute(
        "SELECT sum(calls) FROM rollups WHERE bucket < ?", ((NOW_S - fold.FOLD_AFTER_S) // BUCKET_S,)
    ).fetchall()
    assert folded == old


def test_reports_are_the_same_after_a_zone_came_into_use(store: Store) -> None:
    fill(store)
    set_limits(store)
    before = reports(store)
    for _ in range(10):
        step(store, rows_max=20)
    with store.write() as tx:
        groups.add(tx, Author("tester", NOW_S), "india", parent=None, timezone="Asia/Kolkata")
    assert reports(store) == before
    while step(store, rows_max=40, zone="America/St_Johns"):
        pass
    assert reports(store) == before
    for zone in {*ZONES} - {"UTC"}:
        assert reads_no_quarters(store, ZoneInfo(zone))
    ((left_over,),) = store.connection.execute(
        "SELECT count(*) FROM summaries WHERE span_id NOT IN (SELECT id FROM spans)"
    ).fetchall()
    assert left_over == 0


def reads_no_quarters(store: Store, zone: ZoneInfo) -> bool:
    """Whether a report by day needs no roll-ups of a day that is over."""
    stretch = Filters(START_S + DAY_S, NOW_S + 1)
    expected = usage.report(store.connection, stretch, ["day"], zone)
    over = (NOW_S - 30 * DAY_S) // BUCKET_S
    store.connection.execute("BEGIN")
    store.connection.execute("DELETE FROM rollups WHERE bucket BETWEEN ? AND ?", (over, over + 95))
    found = usage.report(store.connection, stretch, ["day"], zone)
    store.connection.execute("ROLLBACK")
    return found == expected


def test_folded_reports_read_days_and_months_not_quarters_of_an_hour(store: Store) -> None:
    fill(store)
    fold.everything(store, default_zone="UTC", now_s=NOW_S)
    assert reads_no_quarters(store, UTC)
    assert reads_no_quarters(store, ZoneInfo("Europe/Berlin"))  # a group's
    assert not reads_no_quarters(store, ZoneInfo("Asia/Kolkata"))  # nobody's


def test_a_correction_is_in_reports_of_every_part_that_is_folded(store: Store) -> None:
    fill(store)
    while step(store, rows_max=50):
        pass
    tx = store.connection
    old, new = (tx.execute(f"SELECT * FROM rollups ORDER BY bucket {way} LIMIT 1").fetchone() for way in ("", "DESC"))
    before = [usage.total(usage.report(tx, Filters(0, NOW_S + 1), [by], UTC)) for by in ("user", "day")]
    with store.write() as write:
        fold.amend(write, [(*row[:6], *[0] * 9, -5) for row in (old, new)], "UTC")
    after = [usage.total(usage.report(tx, Filters(0, NOW_S + 1), [by], UTC)) for by in ("user", "day")]
    assert [sums.cost_nano_usd for sums in after] == [sums.cost_nano_usd - 10 for sums in before]
    assert [sums.calls for sums in after] == [sums.calls for sums in before]


@pytest.mark.parametrize("late_hours", [31, 30])  # 30: in the last bucket that is folded
async def test_a_settle_of_yesterday_is_in_reports_though_yesterday_is_folded(books: Books, late_hours: int) -> None:
    caller = books.caller(books.add_user("alice", "sales"))
    async with running(books.ledger(clock_s=lambda: NOW_S)) as ledger:
        for hours in (30, 40):
            early = opening(ledger, caller, at_ms=(NOW_S - hours * 3_600) * 1000)
            await ledger.hold(early)
            ledger.settle(closing(early.call_id))
        late = opening(ledger, caller, at_ms=(NOW_S - late_hours * 3_600) * 1000)
        await ledger.hold(late)
        while not ledger.idle:
            await asyncio.sleep(0.001)
        fold.everything(books.store, default_zone="UTC", now_s=NOW_S)
        ledger.settle(closing(late.call_id))
    for by in (["day"], ["user"]):
        rows = usage.report(books.store.connection, Filters(0, NOW_S), by, ZoneInfo("UTC"))  # type: ignore[arg-type]
        assert usage.total(rows).calls == 3
    assert books.rows("SELECT sum(calls) FROM summaries JOIN spans ON spans.id = span_id GROUP BY kind") == [(3,), (3,)]


# Of schema 2: a day that was folded, its summary as one row.
FOLDED_BEFORE = f"""
    INSERT INTO spans VALUES (1, 'day', {NOW_S // 900 - 5760}, {NOW_S // 900 - 5664});
    INSERT INTO summaries SELECT 1, user_id, lineage_id, key_id, model_id, end_user_id, calls, errors, estimated_calls,
        unpriced_calls, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano
        FROM rollups ORDER BY bucket LIMIT 1;
    UPDATE settings SET folded_bucket = {NOW_S // 900 - 5760}, folded_lineage_id = 1, folded_user_id = 1,
        folded_key_id = 1, folded_model_id = 1;
"""


@pytest.mark.parametrize("schema", [1, 2])
async def test_an_old_database_is_carried_over_and_folded_while_it_serves(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "llmctl.db"
    with closing_of(sqlite3.connect(path, isolation_level=None)) as old:
        for _, sql in migrations()[:schema]:
            old.executescript(sql)
        old.executescript(f"PRAGMA user_version = {schema}; PRAGMA journal_mode = WAL;")
        old_reports = fill_old(old)
        old.executescript(FOLDED_BEFORE if schema == 2 else "")
        _migrate(old)
    store = Store(path)
    fresh = Filters(0, NOW_S)
    assert usage.report(store.connection, fresh, ["user", "day"], UTC) == old_reports
    async with running(Ledger(path, default_zone="UTC", share_percent=25, clock_s=lambda: NOW_S)):
        async with asyncio.timeout(10):
            while fold.due(store.connection, default_zone="UTC", now_s=NOW_S):
                await asyncio.sleep(0.01)
    assert store.connection.execute("SELECT count(*) FROM spans WHERE kind = 'month'").fetchone() == (3,)
    assert usage.report(store.connection, fresh, ["user", "day"], UTC) == old_reports
    store.close()


def fill_old(old: sqlite3.Connection) -> list[usage.Row]:
    """Old roll-ups; returns the report that they make, counted here."""
    old.execute("INSERT INTO lineages (id, path) VALUES (1, '/')")
    old.execute("INSERT INTO models (id, provider, model) VALUES (1, 'p', 'm')")
    old.execute("INSERT INTO users (id, name, created_at) VALUES (1, 'u1', 0)")
    expected = []
    for days in range(60, 0, -1):
        at_s = NOW_S - days * DAY_S
        old.execute(
            f"INSERT INTO rollups VALUES ({','.join('?' * 16)})", (at_s // BUCKET_S, 1, 1, 1, 1, 0, *[days] * 10)
        )
        day = datetime.fromtimestamp(at_s, UTC).replace(hour=0)
        cells = (usage.Cell("u1", 1), usage.Cell(f"{day:%Y-%m-%d}", start_s=int(day.timestamp())))
        expected.append(usage.Row(cells, usage.Sums(*[days] * 10)))
    return expected


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[Ledger]:
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()
