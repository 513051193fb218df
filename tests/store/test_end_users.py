"""Limits on each end user: the customers for whom one key acts."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from llmctl.domain.errors import Refused
from llmctl.store import groups, limits, standings
from llmctl.store.audit import Author
from llmctl.store.booking import Held
from llmctl.store.ledger import Ledger
from llmctl.store.sql import run
from tests.support.ledgers import DOLLAR, Books, closing, opening

CALL_NANO = 11_000_000


async def ask(books: Books, ledger: Ledger, secret: str, end_user: str, *, settle: bool = False) -> Held | Refused:
    wanted = msgspec.structs.replace(opening(ledger, books.caller(secret)), end_user=end_user)
    result = await ledger.hold(wanted)
    assert result is not None
    if settle and isinstance(result, Held):
        ledger.settle(closing(wanted.call_id))
        while not ledger.idle:
            await asyncio.sleep(0.005)
    return result


async def test_each_end_user_has_the_amount_alone(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app", "shop")
    books.limit("group shop", CALL_NANO, each="end_user", window="day")
    results = {name: await ask(books, ledger, secret, name) for name in ("ann", "ben")}
    assert [type(one) for one in results.values()] == [Held, Held]
    refused = await ask(books, ledger, secret, "ann")
    assert isinstance(refused, Refused)
    assert refused.code == "limit_held"
    assert "each end-user" in str(refused)


async def test_calls_without_an_end_user_are_not_bound(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app")
    books.limit("org", CALL_NANO - 1, each="end_user", window="day")
    assert isinstance(await ask(books, ledger, secret, ""), Held)


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month", "total"])
async def test_a_limit_set_today_counts_what_an_end_user_has_spent(books: Books, ledger: Ledger, window: str) -> None:
    secret = books.add_user("app")
    for name in ("ann", "ann", "ben"):
        await ask(books, ledger, secret, name, settle=True)
    books.limit("org", 2_500_000 + CALL_NANO, each="end_user", window=window)  # ann has spent 3,000,000
    assert isinstance(await ask(books, ledger, secret, "ben"), Held)
    assert isinstance(await ask(books, ledger, secret, "ann"), Refused)


async def test_names_of_end_users_who_were_never_let_in_are_not_kept(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app")
    books.limit("org", CALL_NANO - 1, each="end_user", window="day")
    await ask(books, ledger, secret, "")
    before = books.rows("SELECT name FROM names")
    results = await asyncio.gather(*(ask(books, ledger, secret, f"stranger {number}") for number in range(5)))
    assert [type(one) for one in results] == [Refused] * 5
    assert books.rows("SELECT name FROM names") == before
    assert books.rows("SELECT * FROM balances") == []


async def test_calls_of_a_new_end_user_in_one_batch_see_each_other(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app")
    books.limit("org", 2 * CALL_NANO, each="end_user", window="day")
    names = ["ann", "ann", "ben", "ann"]
    results = await asyncio.gather(*(ask(books, ledger, secret, name) for name in names))
    assert [type(one) for one in results] == [Held, Held, Held, Refused]
    held = "SELECT name, held FROM balances JOIN names ON names.id = member_id ORDER BY name"
    assert books.rows(held) == [("ann", 2 * CALL_NANO), ("ben", CALL_NANO)]


async def test_an_end_users_spend_is_found_by_an_index(books: Books) -> None:
    plan = books.rows(
        "EXPLAIN QUERY PLAN SELECT sum(cost_nano) FROM calls WHERE id >= 0 AND started_at_ms >= 0 "
        "AND state IN ('open', 'settled') AND end_user_id = 7 AND end_user_id <> 0"
    )
    assert "calls_by_end_user" in str(plan)


async def test_pooled_and_individual_limits_bind_together(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app", "shop")
    books.limit("group shop", 10 * DOLLAR, each="end_user", window="month")
    books.limit("group shop", 2 * CALL_NANO, window="month")
    results = [type(await ask(books, ledger, secret, name)) for name in ("ann", "ben", "cid")]
    assert results == [Held, Held, Refused]


def shown(books: Books, now_s: int) -> dict[int, list[tuple[str, int, int, int]]]:
    """Limits as people see them: end user, settled, held, left of each."""
    found = {}
    with books.store.read() as tx:
        for limit in limits.listing(tx, default_zone="UTC"):
            members = standings.members(tx, limit, now_s)
            assert members[:1] == [one for one in [standings.now(tx, limit, now_s)] if one.member]
            found[limit.id] = [
                (one.member, one.standing.settled, one.standing.held, one.standing.left) for one in members
            ]
    return found


def enforced(books: Books, now_s: int) -> dict[int, list[tuple[str, int, int, int]]]:
    """The same as the next call of each would be judged by."""
    found = {}
    with books.store.read() as tx:
        for limit in limits.listing(tx, default_zone="UTC"):
            members = [
                (name, run(tx, standings.member_now(limit, member_id, now_s)))
                for member_id, name in tx.execute("SELECT id, name FROM names WHERE name IN ('ann', 'ben', 'cid')")
            ]
            members.sort(key=lambda member: (member[1].left, member[1].member_id))
            found[limit.id] = [
                (name, one.settled, one.held, one.left) for name, one in members if one.settled or one.held
            ]
    return found


async def test_what_each_has_left_is_shown_also_after_a_change_that_drops_balances(books: Books) -> None:
    """Set in the middle of a window: what was before counts, and what was open then."""
    now_s = int(time.time()) // 86_400 * 86_400 + 12 * 3_600 + 1_800
    moment = [float(now_s - 7_200)]
    ledger = books.ledger(clock_s=lambda: moment[0])
    secret = books.add_user("app", "shop")
    await ledger.start()

    async def call(end_user: str, at_s: int, *, settle: bool = True) -> int:
        moment[0] = float(at_s)
        while True:
            wanted = opening(ledger, books.caller(secret, at_s), at_ms=at_s * 1000, end_user=end_user)
            if (held := await ledger.hold(wanted)) is not None:
                break
        assert isinstance(held, Held)
        if settle:
            ledger.settle(closing(wanted.call_id))
        return wanted.call_id

    async def done() -> None:
        while not ledger.idle:
            await asyncio.sleep(0.005)

    try:
        await call("ben", now_s - 7_200)
        begun = await call("cid", now_s - 3_700, settle=False)
        await call("ann", now_s - 3_650)
        await done()
        books.author = Author("tester", now_s - 3_630)
        for window in ("minute", "hour", "day", "month", "total"):
            books.limit("group shop", DOLLAR, each="end_user", window=window)
        books.limit("org", 10**6, measure="tokens", each="end_user", window="day", model_pattern="gpt-*")
        books.limit("org", 100, measure="requests", each="end_user", window="week")
        books.limit("user app", 9, measure="concurrency", each="end_user", window="total")
        assert shown(books, now_s - 3_629) == enforced(books, now_s - 3_629)
        await call("ann", now_s - 3_620)
        ledger.settle(closing(begun))
        await call("", now_s - 40)
        await call("ann", now_s - 30)
        await call("ben", now_s - 20, settle=False)
        await done()
        expected = enforced(books, now_s)
        assert [len(expected[limit_id]) for limit_id in sorted(expected)] == [2, 2, 3, 3, 3, 3, 3, 1]
        assert shown(books, now_s) == expected
        with books.store.write() as tx:
            groups.add(tx, books.author, "elsewhere", parent=None, timezone=None)
            groups.change(tx, books.author, "shop", parent="elsewhere", timezone=None, allow_from=None)
        assert books.rows(
            "SELECT count(*) FROM balances JOIN limits l ON l.id = limit_id WHERE window <> 'minute'"
        ) == [(0,)]
        assert shown(books, now_s) == expected
    finally:
        await ledger.close()
