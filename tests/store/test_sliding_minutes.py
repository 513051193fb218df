"""Limits per minute slide: no two bursts around the turn of a minute, and nothing is forgotten before its time."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import pytest

from llmctl.domain.errors import Refused, StoreError
from llmctl.store import balances, groups, sliding
from llmctl.store.booking import Closing, Held
from llmctl.store.ledger import Ledger
from tests.support.ledgers import Books, closing, opening

REQUESTS = 5


class Clock:
    """Hours ahead, so that limits of now are old."""

    def __init__(self) -> None:
        self.now_s = time.time() + 7_200

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(books: Books, clock: Clock) -> AsyncIterator[Ledger]:
    ledger = books.ledger(clock_s=clock)
    await ledger.start()
    yield ledger
    await ledger.close()


async def ask(books: Books, ledger: Ledger, clock: Clock, secret: str) -> Held | Refused:
    result = await ledger.hold(opening(ledger, books.caller(secret), at_ms=int(clock.now_s * 1000)))
    assert result is not None
    return result


async def test_in_no_sixty_seconds_more_pass_than_the_limit_says(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("org", REQUESTS, measure="requests", window="minute")
    passed = []
    chance = random.Random(1)
    for _ in range(300):
        clock.now_s += chance.choice([0.1, 0.5, 3, 8])
        if isinstance(await ask(books, ledger, clock, secret), Held):
            passed.append(clock.now_s)
    assert all(sum(at <= other < at + 60 for other in passed) <= REQUESTS for at in passed)
    spent_s = passed[-1] - passed[0]
    assert len(passed) >= REQUESTS * spent_s / 66  # what a slot of five seconds costs, and no more


async def test_a_refusal_says_when_there_is_room_again(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("org", REQUESTS, measure="requests", window="minute")
    for _ in range(REQUESTS):
        assert isinstance(await ask(books, ledger, clock, secret), Held)
    clock.now_s += 40
    refused = await ask(books, ledger, clock, secret)
    assert isinstance(refused, Refused)
    assert refused.code == "rate_limited"
    assert refused.retry_after_s is not None
    assert 15 <= refused.retry_after_s <= 26
    clock.now_s += refused.retry_after_s
    assert isinstance(await ask(books, ledger, clock, secret), Held)


async def test_it_says_so_also_after_much_asking(books: Books, ledger: Ledger, clock: Clock) -> None:
    """What was refused took nothing: it is no reason to wait longer, nor to come back sooner."""
    secret = books.add_user("alice")
    books.limit("org", 1, measure="requests", window="minute")
    assert isinstance(await ask(books, ledger, clock, secret), Held)
    passed_s = clock.now_s
    for _ in range(3):
        while isinstance(refused := await ask(books, ledger, clock, secret), Refused):
            assert refused.retry_after_s is not None
            assert abs(passed_s + 60 - clock.now_s - refused.retry_after_s) <= 6
            clock.now_s += 1
        assert 60 <= clock.now_s - passed_s <= 66
        passed_s = clock.now_s


async def test_a_young_limit_says_when_there_is_room_again(books: Books) -> None:
    secret = books.add_user("alice")
    books.limit("org", 1, measure="requests", window="minute")
    ledger = books.ledger()
    await ledger.start()
    try:
        results = [await ledger.hold(opening(ledger, books.caller(secret))) for _ in range(2)]
    finally:
        await ledger.close()
    assert isinstance(results[1], Refused)
    assert results[1].retry_after_s is not None
    assert 54 <= results[1].retry_after_s <= 60


async def test_what_was_settled_in_the_last_minute_counts(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 2_200, measure="tokens", window="minute")
    first = opening(ledger, books.caller(secret), at_ms=int(clock.now_s * 1000))
    assert isinstance(await ledger.hold(first), Held)
    assert isinstance(await ask(books, ledger, clock, secret), Refused)
    ledger.settle(closing(first.call_id, input_tokens=150, output_tokens=50))
    clock.now_s += 20
    assert isinstance(await ask(books, ledger, clock, secret), Held)
    assert isinstance(await ask(books, ledger, clock, secret), Refused)


async def test_calls_of_one_batch_that_began_in_different_slots_see_each_other(
    books: Books, ledger: Ledger, clock: Clock
) -> None:
    caller = books.caller(books.add_user("alice"))
    books.limit("org", 1, measure="requests", window="minute")
    caller = books.caller(books.add_user("bob"))
    older, newer = (opening(ledger, caller, at_ms=int((clock.now_s - late_s) * 1000)) for late_s in (9, 0))
    results = [ledger.hold(one) for one in (older, newer)]
    granted = [await result for result in results]
    assert [type(one) for one in granted] == [Held, Refused]


async def test_a_limit_set_now_counts_the_minute_before_it(books: Books) -> None:
    secret = books.add_user("alice")
    ledger = books.ledger()
    await ledger.start()
    try:
        for back_s in (30, 20):
            at_ms = int((time.time() - back_s) * 1000)
            assert isinstance(await ledger.hold(opening(ledger, books.caller(secret), at_ms=at_ms)), Held)
        books.limit("org", 3, measure="requests", window="minute")
        results = [await ledger.hold(opening(ledger, books.caller(secret))) for _ in range(2)]
        assert [type(one) for one in results] == [Held, Refused]
    finally:
        await ledger.close()


async def test_the_minute_before_a_limit_is_counted_once_and_not_for_each_call(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a thousand calls a second it has 60,000 of them, and every batch would wait for all: nor for each member."""
    secrets = [books.add_user("alice"), books.add_user("bob")]
    ledger = books.ledger()
    await ledger.start()
    filled, fill_slots = [], sliding.fill_slots
    monkeypatch.setattr(sliding, "fill_slots", lambda *rest: (filled.append(rest), fill_slots(*rest)))
    try:
        for back_s in (30, 20):
            at_ms = int((time.time() - back_s) * 1000)
            for secret in secrets:
                one = opening(ledger, books.caller(secret), at_ms=at_ms)
                assert isinstance(await ledger.hold(one), Held)
                ledger.settle(closing(one.call_id, input_tokens=150, output_tokens=50))
        books.limit("org", 20, measure="requests", window="minute", each="user")
        for secret in [*secrets, books.add_user("new")]:
            results = [await ledger.hold(opening(ledger, books.caller(secret))) for _ in range(19)]
            assert results.count(None) == 0
            there = 18 if secret in secrets else 20
            assert [type(one) for one in results] == ([Held] * there + [Refused])[:19]
        assert len(filled) == 1
    finally:
        await ledger.close()


async def test_what_a_failed_transaction_filled_is_filled_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = books.add_user("alice")
    ledger = books.ledger()
    await ledger.start()
    try:
        at_ms = int((time.time() - 30) * 1000)
        assert isinstance(await ledger.hold(opening(ledger, books.caller(secret), at_ms=at_ms)), Held)
        books.limit("org", 2, measure="requests", window="minute")
        with monkeypatch.context() as broken:
            broken.setattr(balances, "write", lambda tx, standings: tx.execute("SELECT * FROM nowhere"))
            with pytest.raises(StoreError):
                await ledger.hold(opening(ledger, books.caller(secret)))
        results = [await ledger.hold(opening(ledger, books.caller(secret))) for _ in range(2)]
        assert [type(one) for one in results] == [Held, Refused]
    finally:
        await ledger.close()


async def test_workers_share_a_minute(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("org", 2, measure="requests", window="minute")
    other = books.ledger(clock_s=clock)
    await other.start()
    try:
        results = []
        for one in (ledger, other, ledger):
            clock.now_s += 6
            results.append(type(await ask(books, one, clock, secret)))
        assert results == [Held, Held, Refused]
    finally:
        await other.close()


async def test_a_released_call_gives_its_place_back(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("org", 1, measure="requests", window="minute")
    first = opening(ledger, books.caller(secret), at_ms=int(clock.now_s * 1000))
    assert isinstance(await ledger.hold(first), Held)
    clock.now_s += 10
    assert isinstance(await ask(books, ledger, clock, secret), Refused)
    ledger.settle(Closing(first.call_id, "released"))
    assert isinstance(await ask(books, ledger, clock, secret), Held)


async def test_a_minute_is_not_forgotten_with_balances_that_a_change_of_groups_drops(
    books: Books, ledger: Ledger, clock: Clock
) -> None:
    secret = books.add_user("alice", "sales")
    books.limit("org", 2, measure="requests", window="minute")
    for _ in range(2):
        assert isinstance(await ask(books, ledger, clock, secret), Held)
        clock.now_s += 6
    with books.store.write() as tx:
        groups.change(tx, books.author, "sales", parent=None, timezone="Asia/Kolkata", allow_from=None)
    assert isinstance(await ask(books, ledger, clock, secret), Refused)
    clock.now_s += 60
    assert isinstance(await ask(books, ledger, clock, secret), Held)


async def test_a_clock_that_is_set_back_brings_no_minute_back_empty(books: Books, ledger: Ledger, clock: Clock) -> None:
    secret = books.add_user("alice")
    books.limit("org", 2, measure="requests", window="minute")
    for _ in range(2):
        assert isinstance(await ask(books, ledger, clock, secret), Held)
    clock.now_s += 4_000
    with books.store.write() as tx:
        balances.drop(tx, balances.past(balances.some(tx, (0, 0, 0), 100), int(clock.now_s)))
    assert isinstance(await ask(books, ledger, clock, secret), Held)
    clock.now_s -= 3_990
    assert isinstance(await ask(books, ledger, clock, secret), Refused)


async def test_a_call_that_is_judged_late_sees_those_that_began_after_it(
    books: Books, ledger: Ledger, clock: Clock
) -> None:
    secret = books.add_user("alice")
    books.limit("org", 2, measure="requests", window="minute")
    clock.now_s += 5 - clock.now_s % 5
    slow_ms = int((clock.now_s - 0.4) * 1000)  # its body took as long as it may
    granted = [await ask(books, ledger, clock, secret) for _ in range(2)]
    granted += [await ledger.hold(opening(ledger, books.caller(secret), at_ms=slow_ms)) for _ in range(2)]
    assert [type(one) for one in granted] == [Held, Held, Refused, Refused]
