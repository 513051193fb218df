"""Between batches the ledger looks after its file: balances of windows that are over go, and are not missed."""

from __future__ import annotations

import asyncio
import time
from unittest import mock

import pytest

from llmctl.domain.errors import Refused
from llmctl.store import upkeep, writer
from llmctl.store.balances import PAST_S
from llmctl.store.booking import Held
from llmctl.store.ledger import Ledger
from tests.support.ledgers import DOLLAR, Books, closing, opening

DAY_S = 86_400
NOON_S = 1_795_521_600  # 24 November 2026, 12:00 UTC
MEMBERS = 40
CALL_NANO = 11_000_000


async def test_balances_of_windows_that_are_over_go_and_those_of_today_stay(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RECOVER_EVERY_S", 0.02)
    monkeypatch.setattr(upkeep, "PAST_EVERY_S", 0.02)
    monkeypatch.setattr(upkeep, "PAST_ROWS", 7)
    secret = books.add_user("alice")
    books.limit("org", DOLLAR, window="day", each="end_user")
    books.limit("org", 100 * DOLLAR, window="total")
    books.limit("org", 100 * DOLLAR, window="month")
    now_s = NOON_S
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    caller = books.caller(secret)
    for day in range(3):
        now_s = NOON_S + day * DAY_S
        wanted = [opening(ledger, caller, at_ms=now_s * 1000, end_user=f"e{number}") for number in range(MEMBERS)]
        assert all(isinstance(held, Held) for held in await asyncio.gather(*map(ledger.hold, wanted)))
        for one in wanted:
            ledger.settle(closing(one.call_id))

    def balances() -> list[tuple]:
        return books.rows(
            "SELECT window, count(*) FROM balances JOIN limits ON limits.id = limit_id GROUP BY 1 ORDER BY 1"
        )

    async with asyncio.timeout(10):
        while balances() != [("day", 2 * MEMBERS), ("month", 1), ("total", 1)]:
            await asyncio.sleep(0.01)
    await ledger.close()


def test_balances_go_faster_than_calls_make_them(books: Books) -> None:
    """With a limit per minute on each, every caller leaves one every few seconds: 3,000 a second, on one core."""
    limit_id = books.limit("org", DOLLAR, window="minute", each="end_user")
    with books.store.write() as tx:
        rows = [(limit_id, member, NOON_S - PAST_S["minute"] - 5, 1, 0) for member in range(1, 50_001)]
        tx.executemany("INSERT INTO balances VALUES (?, ?, ?, ?, ?)", rows)
    keeper, steps = upkeep.Upkeep(), 0
    now_s = time.monotonic()
    with mock.patch.object(upkeep.time, "monotonic", lambda: now_s):
        while books.rows("SELECT 1 FROM balances LIMIT 1"):
            keeper.drop_past_balances_if_due(books.store, NOON_S)
            now_s += upkeep.PAST_PAUSE_S
            steps += 1
    assert steps * upkeep.PAST_PAUSE_S < 50_000 / 6_000


async def test_a_window_whose_balance_was_dropped_is_counted_anew(books: Books) -> None:
    """A clock that is set back brings a window back, and nothing of it was forgotten."""
    secret = books.add_user("alice")
    books.limit("org", 2 * CALL_NANO, window="day")
    now_s = NOON_S
    ledger: Ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    caller = books.caller(secret)
    assert isinstance(await ledger.hold(opening(ledger, caller, at_ms=now_s * 1000)), Held)
    with books.store.write() as tx:
        tx.execute("DELETE FROM balances")
    assert isinstance(await ledger.hold(opening(ledger, caller, at_ms=now_s * 1000)), Held)
    refused = await ledger.hold(opening(ledger, caller, at_ms=now_s * 1000))
    assert isinstance(refused, Refused)
    await ledger.close()
