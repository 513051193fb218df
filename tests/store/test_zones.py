"""Balances are kept by one time zone, whatever the configuration of those says that serve the database."""

from __future__ import annotations

import asyncio
import calendar

from llmctl.domain.errors import Refused
from llmctl.store import groups, invariants, users
from llmctl.store.booking import Held
from llmctl.store.ledger import Ledger
from tests.support.ledgers import Books, closing, opening

AT_S = calendar.timegm((2026, 11, 25, 15, 0, 0))  # in Auckland it is the next day already
CALL_NANO_USD = 1_500_000


async def call(books: Books, ledger: Ledger, secret: str) -> bool:
    granted = None
    while granted is None:  # the settings changed: asked again, as the handler does
        wanted = opening(ledger, books.caller(secret), at_ms=AT_S * 1000)
        granted = await ledger.hold(wanted)
    if isinstance(granted, Refused):
        return False
    assert isinstance(granted, Held)
    ledger.settle(closing(wanted.call_id))
    return True


async def test_gateways_of_two_time_zones_pass_no_limit_together(books: Books) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 40 * CALL_NANO_USD, window="day")
    old = Ledger(books.path, default_zone="UTC", share_percent=25, clock_s=lambda: AT_S)
    new = Ledger(books.path, default_zone="Pacific/Auckland", share_percent=25, clock_s=lambda: AT_S)
    await old.start()
    try:
        passed = [await call(books, old, secret) for _ in range(10)]
        await new.start()
        for _ in range(60):
            passed += [await call(books, ledger, secret) for ledger in (old, new)]
    finally:
        await old.close()
        await new.close()
    assert 30 <= sum(passed) <= 40
    assert books.rows("SELECT sum(cost_nano) FROM calls") == [(sum(passed) * CALL_NANO_USD,)]
    with books.store.read() as tx:
        assert not invariants.check(tx, now_s=AT_S)


async def test_a_user_who_moves_takes_no_other_balance_along(books: Books) -> None:
    """Of all that call, each balance would be counted anew. Limits on the user go by the new group's zone."""
    ann, ben = books.add_user("ann"), books.add_user("ben")
    with books.store.write() as tx:
        groups.add(tx, books.author, "east", parent=None, timezone="Pacific/Auckland")
    both = books.limit("org", 40 * CALL_NANO_USD, window="day", each="user")
    own = [
        books.limit(scope, 40 * CALL_NANO_USD, window="day") for scope in ("user ann", "key ann/default", "user ben")
    ]
    ledger = Ledger(books.path, default_zone="UTC", share_percent=25, clock_s=lambda: AT_S)
    await ledger.start()
    try:
        assert [await call(books, ledger, secret) for secret in (ann, ben)] == [True, True]
        while not ledger.idle:
            await asyncio.sleep(0.01)
        with books.store.write() as tx:
            users.change(tx, books.author, "ann", group="east", email=None)
        left = {limit_id for (limit_id,) in books.rows("SELECT limit_id FROM balances")}
        assert left == {both, own[2]}
        assert await call(books, ledger, ann)
    finally:
        await ledger.close()
    days = dict(books.rows("SELECT limit_id, window_start FROM balances WHERE settled > 0 AND limit_id <> ?", both))
    assert (days[own[0]], days[own[1]]) == (AT_S - 4 * 3_600, AT_S - 4 * 3_600)  # midnight in Auckland
    assert days[own[2]] == AT_S - 15 * 3_600
    with books.store.read() as tx:
        assert not invariants.check(tx, now_s=AT_S)
