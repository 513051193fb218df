"""Limits on each end user: the customers for whom one key acts."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from llmctl.domain.errors import Refused
from llmctl.store.booking import Granted
from llmctl.store.ledger import Ledger
from tests.support.ledgers import DOLLAR, Books, closing, opening

CALL_NANO = 11_000_000


async def ask(books: Books, ledger: Ledger, secret: str, end_user: str, *, settle: bool = False) -> Granted | Refused:
    wanted = msgspec.structs.replace(opening(ledger, books.caller(secret)), end_user=end_user)
    result = await ledger.hold(wanted)
    assert result is not None
    if settle and isinstance(result, Granted):
        ledger.settle(closing(wanted.call_id))
        while not ledger.idle:
            await asyncio.sleep(0.005)
    return result


async def test_each_end_user_has_the_amount_alone(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app", "shop")
    books.limit("group shop", CALL_NANO, each="end_user", window="day")
    results = {name: await ask(books, ledger, secret, name) for name in ("ann", "ben")}
    assert [type(one) for one in results.values()] == [Granted, Granted]
    refused = await ask(books, ledger, secret, "ann")
    assert isinstance(refused, Refused)
    assert refused.code == "limit_held"
    assert "each end-user" in str(refused)


async def test_calls_without_an_end_user_are_not_bound(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("app")
    books.limit("org", CALL_NANO, each="end_user", window="day")
    assert [type(await ask(books, ledger, secret, "")) for _ in range(3)] == [Granted] * 3


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month", "total"])
async def test_a_limit_set_today_counts_what_an_end_user_has_spent(books: Books, ledger: Ledger, window: str) -> None:
    secret = books.add_user("app")
    for name in ("ann", "ann", "ben"):
        await ask(books, ledger, secret, name, settle=True)
    books.limit("org", 2_500_000 + CALL_NANO, each="end_user", window=window)  # ann has spent 3,000,000
    assert isinstance(await ask(books, ledger, secret, "ben"), Granted)
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
    assert [type(one) for one in results] == [Granted, Granted, Granted, Refused]
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
    assert results == [Granted, Granted, Refused]
