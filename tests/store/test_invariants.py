"""The books' own check: complete however many balances there are; a repair that harms nobody who calls meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from llmctl.domain.errors import StoreUnavailable
from llmctl.store import fold, invariants
from llmctl.store.booking import Held
from llmctl.store.database import Store
from llmctl.store.invariants import Wrong
from llmctl.store.ledger import Ledger
from tests.support.ledgers import DOLLAR, Books, closing, differences, opening

MEMBERS = 2_500


async def call(books: Books, ledger: Ledger, secret: str, count: int, *, end_users: bool = False) -> None:
    caller = books.caller(secret)

    async def one(end_user: str) -> None:
        wanted = opening(ledger, caller, end_user=end_user)
        while (held := await ledger.hold(wanted)) is None:  # settings have changed
            wanted = opening(ledger, books.caller(secret), end_user=end_user)
        assert isinstance(held, Held)
        ledger.settle(closing(wanted.call_id))

    await asyncio.gather(*(one(f"e{number}" if end_users else "") for number in range(count)))
    while ledger.open_calls or not ledger.idle:
        await asyncio.sleep(0.005)


def look(books: Books) -> Wrong:
    with books.store.read() as tx:
        return invariants.check(tx, now_s=int(time.time()))


async def test_every_balance_of_every_member_is_compared(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice", "sales")
    limit_id = books.limit("org", DOLLAR, window="day", each="end_user")
    await call(books, ledger, secret, MEMBERS, end_users=True)
    began_s = time.perf_counter()
    found = look(books)
    took_s = time.perf_counter() - began_s
    assert (found.balances, found.balances_checked) == ([], MEMBERS)
    assert took_s < 2  # not a query for each
    # The last of them, which a check of the first few would not see.
    with books.store.write() as tx:
        tx.execute(
            "UPDATE balances SET settled = settled + 1 WHERE member_id = (SELECT max(member_id) FROM balances)",
        )
    ((wrong_limit, _, _),) = look(books).balances
    assert wrong_limit == limit_id


async def test_a_repair_goes_on_beside_those_who_call(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "STEP_ROWS", 1)
    for number in range(20):
        await call(books, ledger, books.add_user(f"u{number}", "sales"), 3)
    with books.store.write() as tx:
        tx.execute("UPDATE rollups SET calls = calls + 2, cost_nano = cost_nano * 3")
    wrong = look(books)
    assert len(wrong.rollups) == 20
    secret = books.add_user("late", "sales")
    books.limit("group sales", 100 * DOLLAR)
    task = asyncio.create_task(asyncio.to_thread(mend, books.path, books, wrong))
    slowest_s = 0.0
    while not task.done():
        began_s = time.perf_counter()
        await call(books, ledger, secret, 1)
        slowest_s = max(slowest_s, time.perf_counter() - began_s)
    await task
    assert slowest_s < 2.0
    await call(books, ledger, secret, 1)
    assert not look(books)
    assert differences(books) == []


def mend(path: Path, books: Books, wrong: Wrong) -> None:
    with contextlib.closing(Store(path)) as store:
        invariants.repair(store, books.author, wrong, pause_s=0.02)


async def test_two_repairs_at_once_do_not_mend_twice(books: Books, ledger: Ledger) -> None:
    await call(books, ledger, books.add_user("alice"), 3)
    with books.store.write() as tx:
        tx.execute("UPDATE rollups SET cost_nano = 0")
    first, second = look(books), look(books)
    invariants.repair(books.store, books.author, first)
    with pytest.raises(StoreUnavailable, match="somebody else repairs"):
        invariants.repair(books.store, books.author, second)
    assert not look(books)


async def test_summaries_are_compared_with_roll_ups_and_mended(books: Books, ledger: Ledger) -> None:
    await call(books, ledger, books.add_user("alice"), 3)
    fold.everything(books.store, default_zone="UTC", now_s=int(time.time()) + 7_200)
    with books.store.write() as tx:
        tx.execute("UPDATE summaries SET output_tokens = output_tokens - 1 WHERE span_id = (SELECT max(id) FROM spans)")
        tx.execute("UPDATE rollups SET calls = 0")
    wrong = look(books)
    assert wrong.rollups and wrong.summaries
    invariants.repair(books.store, books.author, wrong)
    assert not look(books)
    assert differences(books) == []
