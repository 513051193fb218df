"""Old calls are forgotten in small steps; sums, balances and what is open stay."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmctl.store import invariants, prune
from llmctl.store.booking import Held
from llmctl.store.database import Tx
from llmctl.store.ledger import Ledger
from tests.support.ledgers import DOLLAR, Books, closing, opening

DAY_S = 86_400


async def call(books: Books, ledger: Ledger, secret: str, *, settle: bool = True, end_user: str = "") -> None:
    granted = None
    while granted is None:  # the settings changed: asked again, as the handler does
        wanted = opening(ledger, books.caller(secret), at_ms=int(ledger._clock_s() * 1000), end_user=end_user)
        granted = await ledger.hold(wanted)
    assert isinstance(granted, Held)
    if settle:
        ledger.settle(closing(wanted.call_id))


async def test_what_is_older_goes_and_what_it_cost_stays(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "STEP_CALLS", 7)
    secret = books.add_user("alice")
    books.limit("user alice", 10 * DOLLAR, window="total")
    now_s = time.time() - 100 * DAY_S
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    try:
        for _ in range(30):
            await call(books, ledger, secret)
        await call(books, ledger, secret, settle=False)
        now_s += 99 * DAY_S
        for _ in range(5):
            await call(books, ledger, secret)
        while not ledger.idle:
            await asyncio.sleep(0.01)
        before = books.rows("SELECT sum(calls), sum(cost_nano) FROM rollups")
        cut_s = int(time.time()) - 90 * DAY_S
        assert prune.count(books.path, cut_s, int(time.time())) == 30
        assert prune.prune(books.path, books.author, cut_s, pause_s=0) == 30
        assert books.rows("SELECT state, count(*) FROM calls GROUP BY state ORDER BY state") == [
            ("open", 1),
            ("settled", 5),
        ]
        assert books.rows("SELECT sum(calls), sum(cost_nano) FROM rollups") == before == [(35, 35 * 1_500_000)]
        assert books.rows("SELECT settled FROM balances") == [(35 * 1_500_000,)]
        assert prune.prune(books.path, books.author, cut_s) == 0
        assert books.rows("SELECT count(*) FROM audit WHERE action = 'prune'") == [(1,)]
    finally:
        await ledger.close()


@pytest.mark.parametrize(("window", "days", "stays"), [("month", 30, 5), ("month", 40, 0), ("total", 40, 5)])
async def test_calls_that_a_limit_on_each_end_user_counts_stay(
    books: Books, window: str, days: int, stays: int
) -> None:
    secret = books.add_user("app")
    books.limit("user app", 10 * DOLLAR, window=window, each="end_user")
    ledger = books.ledger(clock_s=lambda: time.time() - days * DAY_S)
    await ledger.start()
    for end_user in ["ann"] * 5 + [""] * 3:
        await call(books, ledger, secret, end_user=end_user)
    await ledger.close()
    cut_s = int(time.time()) - 7 * DAY_S
    assert prune.count(books.path, cut_s, int(time.time())) == 8 - stays
    assert prune.prune(books.path, books.author, cut_s, pause_s=0) == 8 - stays
    assert books.rows("SELECT count(*) FROM calls") == [(stays,)]


async def test_what_a_limit_counts_stays_though_it_was_set_while_old_calls_were_looked_for(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = books.add_user("app")
    ledger = books.ledger(clock_s=lambda: time.time() - 40 * DAY_S)
    await ledger.start()
    for end_user in ["ann"] * 5 + [""] * 3:
        await call(books, ledger, secret, end_user=end_user)
    await ledger.close()
    found: list[int] = []
    real = prune._next

    def looked(tx: Tx, after: int, ends: dict[str, int]) -> tuple[list[int], int | None]:
        ids, last = real(tx, after, ends)
        if not found:
            books.limit("user app", 10 * DOLLAR, window="total", each="end_user")
        found.append(len(ids))
        return ids, last

    monkeypatch.setattr(prune, "_next", looked)
    assert prune.prune(books.path, books.author, int(time.time()) - 7 * DAY_S, pause_s=0) == 3
    assert found[:2] == [8, 3]
    assert books.rows("SELECT count(*) FROM calls") == [(5,)]


async def test_calls_that_stay_are_passed_in_small_steps_too(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "STEP_CALLS_SEEN", 7)
    secret = books.add_user("app")
    books.limit("user app", 10 * DOLLAR, window="total", each="end_user")
    ledger = books.ledger(clock_s=lambda: time.time() - 100 * DAY_S)
    await ledger.start()
    for end_user in ["ann"] * 30 + [""] * 3:
        await call(books, ledger, secret, end_user=end_user)
    await ledger.close()
    pauses: list[float] = []
    monkeypatch.setattr(prune.time, "sleep", pauses.append)
    assert prune.prune(books.path, books.author, int(time.time()) - 90 * DAY_S) == 3
    assert len(pauses) >= 30 // 7
    assert books.rows("SELECT count(*) FROM calls") == [(30,)]


def test_counts_of_refusals_go_in_small_steps_too(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "STEP_CALLS_SEEN", 7)
    cut_s = int(time.time()) - 90 * DAY_S
    with books.store.write() as tx:
        minutes = [(cut_s // 60 - 1 - number,) for number in range(30)] + [(cut_s // 60,)]
        tx.executemany("INSERT INTO refusal_counts VALUES (?, 1, 1, 5)", minutes)
    pauses: list[float] = []
    monkeypatch.setattr(prune.time, "sleep", pauses.append)
    prune.prune(books.path, books.author, cut_s)
    assert books.rows("SELECT minute FROM refusal_counts") == [(cut_s // 60,)]
    assert len(pauses) >= 30 // 7


async def test_a_gateway_goes_on_meanwhile(books: Books) -> None:
    secret = books.add_user("alice")
    now_s = time.time() - 100 * DAY_S
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    try:
        await asyncio.gather(*(call(books, ledger, secret) for _ in range(6_000)))
        while not ledger.idle:
            await asyncio.sleep(0.01)
        now_s += 100 * DAY_S
        pruning = asyncio.create_task(asyncio.to_thread(prune.prune, books.path, books.author, int(now_s) - 90 * DAY_S))
        waits = []
        while not pruning.done():
            began_s = time.perf_counter()
            await call(books, ledger, secret)
            waits.append(time.perf_counter() - began_s)
        assert await pruning == 6_000
        assert len(waits) > 10
        assert sorted(waits)[len(waits) // 2] < 0.1
    finally:
        await ledger.close()


async def test_one_that_was_interrupted_is_not_taken_for_a_loss(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "STEP_CALLS", 7)
    secret = books.add_user("alice")
    now_s = time.time() - 100 * DAY_S
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    for _ in range(30):
        await call(books, ledger, secret)
    await ledger.close()

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prune.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune.prune(books.path, books.author, int(time.time()) - 90 * DAY_S)
    assert books.rows("SELECT count(*) FROM calls") == [(23,)]
    with books.store.read() as tx:
        assert not invariants.check(tx, now_s=int(time.time()))
