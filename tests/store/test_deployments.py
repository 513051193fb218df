"""Limits on a model count its deployments: in what is held and settled, in balances made anew, in what is checked."""

from __future__ import annotations

import asyncio
import calendar
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from llmctl.domain.errors import Refused
from llmctl.domain.limit import Standing
from llmctl.store import balances, configured, facts, invariants, limits, prices, repricing, standings
from llmctl.store.booking import Held, HoldResult
from llmctl.store.database import Store, migrate_file
from llmctl.store.ledger import Ledger
from llmctl.store.price_rows import price_row
from llmctl.store.revision import Seller, Wanted
from llmctl.store.sql import run
from tests.support.ledgers import DOLLAR, Books, closing, opening
from tests.support.older import copy_as, schema_before

AT_S = calendar.timegm((2026, 11, 25, 15, 0, 0))
CALL_NANO_USD = 1_500_000  # of `closing()`
MINE = {"azure": {"my-gpt5": "gpt-5"}}


@pytest.fixture
async def ledger(books: Books) -> AsyncIterator[Ledger]:
    ledger = books.ledger(clock_s=lambda: AT_S)
    await ledger.start()
    yield ledger
    await ledger.close()


async def hold(
    books: Books, ledger: Ledger, secret: str, model: str = "azure/my-gpt5", *, settle: bool = True
) -> HoldResult:
    provider, _, name = model.partition("/")
    while True:
        wanted = opening(ledger, books.caller(secret), at_ms=AT_S * 1000)
        found = await ledger.hold(msgspec.structs.replace(wanted, provider=provider, model=name))
        if found is not None:  # else the settings changed: asked again, as the handler does
            if isinstance(found, Held) and settle:
                ledger.settle(closing(wanted.call_id))
            return found


async def written(ledger: Ledger) -> None:
    async with asyncio.timeout(5):
        while not ledger.idle:
            await asyncio.sleep(0.001)


def kept(books: Books) -> dict[int, tuple[int, int]]:
    return {row[0]: row[1:] for row in books.rows("SELECT limit_id, sum(settled), sum(held) FROM balances GROUP BY 1")}


def made_anew(books: Books, limit_id: int) -> Standing:
    with books.store.read() as tx:
        limit = limits.get(tx, f"l{limit_id}", default_zone="UTC")
        return run(tx, facts.booked(balances.place_of(limit, 0, AT_S)))


def right(books: Books) -> bool:
    with books.store.read() as tx:
        return not invariants.check(tx, now_s=AT_S)


@pytest.mark.parametrize("window", ["minute", "month"])
async def test_a_limit_on_the_model_binds_its_deployment(books: Books, ledger: Ledger, window: str) -> None:
    secret = books.add_user("m4")
    limit_id = books.limit("user m4", 2, measure="requests", window=window, model_pattern="gpt-5*")
    configured.keep(books.path, MINE, AT_S)
    assert isinstance(await hold(books, ledger, secret), Held)
    assert isinstance(await hold(books, ledger, secret, "azure/MY-GPT5"), Held)
    assert isinstance(await hold(books, ledger, secret, "azure/other"), Held)
    assert isinstance(await hold(books, ledger, secret), Refused)
    assert isinstance(await hold(books, ledger, secret, "openai/gpt-5"), Refused)
    assert isinstance(await hold(books, ledger, secret, "elsewhere/my-gpt5"), Held)
    await written(ledger)
    assert kept(books) == {limit_id: (2, 0)}
    again = made_anew(books, limit_id)
    assert (again.settled, again.held) == (2, 0)
    assert right(books)


@pytest.mark.parametrize("window", ["minute", "day"])
async def test_when_the_configuration_changes_past_and_open_calls_count_by_the_new_one(
    books: Books, ledger: Ledger, window: str
) -> None:
    secret = books.add_user("m4")
    on_model = books.limit("user m4", 9, measure="requests", window=window, model_pattern="gpt-5")
    on_other = books.limit("user m4", 9, measure="requests", window=window, model_pattern="claude*")
    on_all = books.limit("user m4", 9, measure="requests", window=window)
    await hold(books, ledger, secret)
    await hold(books, ledger, secret, settle=False)
    await hold(books, ledger, secret, "openai/gpt-5")
    await written(ledger)
    assert kept(books) == {on_model: (1, 0), on_all: (2, 1)}
    configured.keep(books.path, MINE, AT_S)
    assert right(books)
    await hold(books, ledger, secret)
    await written(ledger)
    assert kept(books) == {on_model: (3, 1), on_all: (3, 1)}
    configured.keep(books.path, {"azure": {"my-gpt5": "claude-b"}}, AT_S)
    await hold(books, ledger, secret, settle=False)
    await written(ledger)
    found = kept(books)
    assert (found[on_other], found[on_all]) == ((2, 2), (3, 2))
    assert made_anew(books, on_model).settled == 1
    assert right(books)


async def test_a_list_of_all_members_of_a_limit_per_minute_follows_too(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("m4")
    limit_id = books.limit("org", 9, measure="requests", window="minute", each="user", model_pattern="gpt-5")
    await hold(books, ledger, secret)
    await written(ledger)
    configured.keep(books.path, MINE, AT_S)
    with books.store.read() as tx:
        (one,) = standings.members(tx, limits.get(tx, f"l{limit_id}", default_zone="UTC"), AT_S)
    assert (one.member, one.standing.settled) == ("m4", 1)


async def test_what_is_the_same_changes_nothing_and_other_providers_keep_theirs(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("m4")
    limit_id = books.limit("user m4", 9, measure="requests", model_pattern="gpt-5")
    configured.keep(books.path, MINE, AT_S)
    await hold(books, ledger, secret)
    await written(ledger)
    before = books.rows("SELECT * FROM settings")
    configured.keep(books.path, MINE, AT_S)
    configured.keep(books.path, {"openai": {}}, AT_S)  # a gateway without Azure
    assert books.rows("SELECT * FROM settings") == before
    assert kept(books) == {limit_id: (1, 0)}
    configured.keep(books.path, {"azure": {}}, AT_S)
    assert books.rows("SELECT * FROM deployments") == []
    assert made_anew(books, limit_id).settled == 0


async def test_repricing_moves_the_balance_of_a_limit_on_the_model(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("m4")
    limit_id = books.limit("user m4", DOLLAR, model_pattern="gpt-5")
    configured.keep(books.path, MINE, AT_S)
    await hold(books, ledger, secret)
    await written(ledger)
    assert kept(books) == {limit_id: (CALL_NANO_USD, 0)}
    with books.store.write() as tx:
        dearer = {"input": 2 * DOLLAR, "output": 20 * DOLLAR}
        prices.put(tx, price_row("azure", "gpt-5", dearer), "admin", now_s=AT_S)
    assert repricing.reprice(books.path, books.author, Wanted(0), {"azure": Seller("", MINE["azure"])}, pause_s=0) == 1
    assert kept(books) == {limit_id: (2 * CALL_NANO_USD, 0)}
    assert made_anew(books, limit_id).settled == 2 * CALL_NANO_USD


async def test_an_older_database_counts_the_deployments_of_its_past_calls_once_a_gateway_starts(
    books: Books, tmp_path: Path
) -> None:
    secret = books.add_user("m4")
    limit_id = books.limit("user m4", 3, measure="requests", model_pattern="gpt-5")
    before = books.ledger(clock_s=lambda: AT_S)
    await before.start()
    for model in ("azure/my-gpt5", "azure/my-gpt5", "openai/gpt-5"):
        await hold(books, before, secret, model)
    await before.close()
    path = tmp_path / "old.db"
    copy_as(schema_before("CREATE TABLE deployments"), books.path, path)
    migrate_file(path)
    books.store.close()
    books.path, books.store = path, Store(path)
    assert books.rows("SELECT count(*) FROM calls") == [(3,)]
    assert kept(books) == {limit_id: (1, 0)}
    assert right(books)
    configured.keep(books.path, MINE, AT_S)
    after = books.ledger(clock_s=lambda: AT_S)
    await after.start()
    assert isinstance(await hold(books, after, secret, "openai/gpt-4"), Held)
    assert isinstance(await hold(books, after, secret), Refused)
    await after.close()
    assert made_anew(books, limit_id).settled == 3
    assert right(books)
