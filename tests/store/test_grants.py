"""Grants: more for one member for a time, and then no more."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmctl.domain.errors import BadInput, Refused
from llmctl.store import grants, limits
from llmctl.store.booking import Held
from tests.support.ledgers import Books, opening

CALL_NANO = 11_000_000


def give(
    books: Books,
    limit_id: int,
    member: str,
    *,
    amount: int = CALL_NANO,
    for_s: int = 3_600,
    reason: str = "launch",
) -> None:
    with books.store.write() as tx:
        limit = limits.get(tx, f"l{limit_id}", default_zone="UTC")
        until_s = int(time.time()) + for_s
        grants.add(tx, books.author, limit, member=member, amount=amount, until_s=until_s, reason=reason)


async def test_a_grant_is_for_its_member_and_its_time(books: Books) -> None:
    alice, bob = books.add_user("alice", "sales"), books.add_user("bob", "sales")
    limit_id = books.limit("group sales", CALL_NANO, each="user", window="total")
    give(books, limit_id, "alice")
    now_s = time.time()
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    try:

        async def ask(secret: str) -> type:
            return type(await ledger.hold(opening(ledger, books.caller(secret))))

        assert [await ask(alice) for _ in range(3)] == [Held, Held, Refused]
        assert [await ask(bob) for _ in range(2)] == [Held, Refused]
        give(books, limit_id, "bob", amount=2 * CALL_NANO)
        assert await ask(bob) is Held
        now_s += 3_700
        assert await ask(bob) is Refused
    finally:
        await ledger.close()


async def test_a_grant_that_ended_while_nobody_called_counts_no_more(books: Books) -> None:
    alice, bob = books.add_user("alice"), books.add_user("bob")
    give(books, books.limit("org", CALL_NANO, window="total"), "", for_s=600)
    now_s = time.time()
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    try:
        await asyncio.sleep(0.2)  # what it does once a minute is done
        first = await ledger.hold(opening(ledger, books.caller(alice)))
        now_s += limits.GRANTS_KEPT_S + 700  # bob's limits come without that grant
        late = books.caller(bob, int(now_s))
        second = await ledger.hold(opening(ledger, late, at_ms=int(now_s * 1000)))
    finally:
        await ledger.close()
    assert [type(first), type(second)] == [Held, Refused]


async def test_a_grant_to_all_raises_a_pooled_limit(books: Books) -> None:
    alice = books.add_user("alice")
    give(books, books.limit("org", 1, measure="concurrency", window="total"), "", amount=1)
    ledger = books.ledger()
    await ledger.start()
    try:
        results = [await ledger.hold(opening(ledger, books.caller(alice))) for _ in range(3)]
    finally:
        await ledger.close()
    assert [type(one) for one in results] == [Held, Held, Refused]
    assert "2 at once" in str(results[-1])


def test_a_caller_carries_no_grants_that_ended_long_ago(books: Books) -> None:
    alice = books.add_user("alice")
    limit_id = books.limit("user alice", CALL_NANO, window="total")
    for for_s in (-100_000, -3_600, 3_600):
        give(books, limit_id, "", for_s=for_s)
    (limit,) = books.caller(alice).limits
    assert sorted(extra.until_s > time.time() for extra in limit.extras) == [False, True]


def test_a_pooled_limit_has_no_members(books: Books) -> None:
    books.add_user("alice")
    with pytest.raises(BadInput, match="one amount for all"):
        give(books, books.limit("org", 1, window="day"), "alice")


@pytest.mark.parametrize("amount", [0, -1])
def test_a_grant_is_of_something(books: Books, amount: int) -> None:
    limit_id = books.limit("org", 5)
    with pytest.raises(BadInput, match="a grant of nothing"):
        give(books, limit_id, "", amount=amount)
    give(books, limit_id, "", amount=1)
    assert books.rows("SELECT amount FROM grants") == [(1,)]


@pytest.mark.parametrize("reason", ["", "  ", "x" * (grants.REASON_CHARACTERS_MAX + 1), "two\nlines"])
def test_a_grant_has_a_reason_of_one_line(books: Books, reason: str) -> None:
    limit_id = books.limit("org", 5)
    with pytest.raises(BadInput, match="no usable reason"):
        give(books, limit_id, "", reason=reason)
    longest = "x" * grants.REASON_CHARACTERS_MAX
    give(books, limit_id, "", reason=longest)
    assert books.rows("SELECT reason FROM grants") == [(longest,)]
