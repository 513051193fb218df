"""Costs worked out anew: calls, roll-ups, summaries and balances say the new figure, and the old one is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llmctl.domain.scope import ORGANISATION
from llmctl.domain.usage import Usage
from llmctl.store import balances, calls, facts, fold, limits, price_edit, prices, repricing, revision
from llmctl.store.audit import Author
from llmctl.store.calls import Call, CallFilters
from llmctl.store.database import Store, create
from llmctl.store.price_rows import price_row
from llmctl.store.prune import prune
from llmctl.store.revision import Looked, Wanted
from llmctl.store.sql import run
from tests.cli.shop import DAY_S, DOLLAR, NOW_S, ZONE, Shop
from tests.support.ledgers import Books, differences

MILLION = Usage(input_tokens=1_000_000)
SELLERS = {"openai": revision.Seller("openai")}
AUTHOR = Author("tester", NOW_S + 1)  # after the prices were set
ALWAYS = Wanted(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "llmctl.db")
    return tmp_path / "llmctl.db"


def price(path: Path, usd: int, *, model: str = "gpt-5", from_s: int = 0, now_s: int = NOW_S) -> int:
    """Sets USD per million input tokens; returns the price's id."""
    store = Store(path)
    with store.write() as tx:
        row = price_row("openai", model, {"input": usd * DOLLAR}, effective_from_s=from_s)
        _, set_ = prices.put(tx, row, "admin", now_s=now_s)
    store.close()
    return set_.id


def reprice(path: Path, wanted: Wanted = ALWAYS) -> int:
    return repricing.reprice(path, AUTHOR, wanted, SELLERS, pause_s=0)


def seen(path: Path) -> dict[int, Call]:
    store = Store(path, readonly=True)
    found = calls.newest(store.connection, CallFilters(), calls_max=100)
    store.close()
    return {call.call_id: call for call in found}


def disagreements(path: Path) -> list[str]:
    books = Books.__new__(Books)
    books.path, books.store = path, Store(path)
    with books:
        return differences(books)


async def some_calls(
    path: Path, *days_ago: int, fold_all: bool = False, used: Usage = MILLION, **facts: object
) -> list[int]:
    async with Shop(path) as shop:
        shop.group("sales")
        shop.user("alice", "sales")
        made = [
            await shop.call("alice", at_s=NOW_S - days * DAY_S, usage=used, cost=DOLLAR, **{"price_id": 1, **facts})
            for days in days_ago
        ]
    if fold_all:
        store = Store(path)
        fold.everything(store, default_zone=ZONE, now_s=NOW_S)
        store.close()
    return made


async def test_a_call_is_repriced_by_the_price_of_its_own_time_and_everything_follows(path: Path) -> None:
    old, new = await some_calls(path, 20, 1, fold_all=True)
    store = Store(path)
    with store.write() as tx:
        put = limits.put(tx, AUTHOR, ORGANISATION, measure="cost", window="month", amount=9 * DOLLAR, default_zone=ZONE)
        place = balances.place_of(put.limit, 0, NOW_S - DAY_S)
        balances.write(tx, {place.row: run(tx, facts.booked(place))})
    price(path, 2)
    price(path, 5, from_s=NOW_S - 10 * DAY_S)
    assert reprice(path) == 2
    after = seen(path)
    assert (after[old].cost_nano_usd, after[new].cost_nano_usd) == (2 * DOLLAR, 5 * DOLLAR)
    assert after[new].price_source == "admin"
    assert disagreements(path) == []
    ((settled,),) = store.connection.execute("SELECT settled FROM balances").fetchall()
    assert settled == 7 * DOLLAR
    (change,) = repricing.history(store.connection, new)
    assert (change.old_cost_nano_usd, change.new_cost_nano_usd, change.new_source) == (DOLLAR, 5 * DOLLAR, "admin")
    (told,) = store.connection.execute("SELECT after FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    assert '"calls":2,"old_cost_usd":"2.000000000","new_cost_usd":"7.000000000"' in told
    store.close()


async def test_the_second_time_nothing_changes(path: Path) -> None:
    await some_calls(path, 1)
    price(path, 3)
    assert (reprice(path), reprice(path)) == (1, 0)


async def test_only_the_calls_of_that_time_and_model_are_touched(path: Path) -> None:
    early, late = await some_calls(path, 5, 1)
    async with Shop(path) as shop:
        shop.knows("alice")
        other = await shop.call("alice", model="o9", usage=MILLION, cost=DOLLAR, price_id=1)
    price(path, 3)
    price(path, 3, model="o9")
    assert reprice(path, Wanted(NOW_S - 2 * DAY_S, None, "gpt-*")) == 1
    costs = {call_id: call.cost_nano_usd for call_id, call in seen(path).items()}
    assert costs == {early: DOLLAR, late: 3 * DOLLAR, other: DOLLAR}
    assert reprice(path, Wanted(0, NOW_S - 2 * DAY_S)) == 1


async def test_what_was_unpriced_gets_its_cost_and_is_no_longer_counted_as_unpriced(path: Path) -> None:
    (one,) = await some_calls(path, 1, cost_nano_usd=None, price_id=None)
    assert reprice(path) == 0  # there still is no price
    price(path, 4)
    assert reprice(path) == 1
    assert seen(path)[one].cost_nano_usd == 4 * DOLLAR
    store = Store(path, readonly=True)
    assert store.connection.execute("SELECT unpriced_calls, cost_nano FROM rollups").fetchall() == [(0, 4 * DOLLAR)]
    (change,) = repricing.history(store.connection, one)
    assert (change.old_cost_nano_usd, change.old_source) == (None, None)
    store.close()


async def test_what_a_provider_stated_stays_and_our_own_figure_beside_it_follows(path: Path) -> None:
    first = price(path, 1)
    (one,) = await some_calls(
        path, 1, cost_nano_usd=7 * DOLLAR, price_id=None, own_cost_nano_usd=DOLLAR, own_price_id=first
    )
    price(path, 2)
    assert reprice(path) == 1
    call = seen(path)[one]
    assert (call.cost_nano_usd, call.price_source) == (7 * DOLLAR, "provider")
    assert (call.own_cost_nano_usd, call.own_price_source) == (2 * DOLLAR, "admin")
    assert disagreements(path) == []


async def test_what_nobody_bills_stays_free_and_what_has_a_price_never_loses_it(path: Path) -> None:
    (free,) = await some_calls(path, 1, cost_nano_usd=0, price_id=None)
    async with Shop(path) as shop:
        shop.knows("alice")
        gone = await shop.call("alice", model="gone", usage=MILLION, cost=DOLLAR, price_id=1)
    price(path, 2)
    assert reprice(path) == 0
    assert (seen(path)[free].cost_nano_usd, seen(path)[gone].cost_nano_usd) == (0, DOLLAR)


async def test_an_estimate_is_repriced_by_its_usage_but_not_by_the_price_it_was_held_at(path: Path) -> None:
    same = price(path, 1)
    (held,) = await some_calls(path, 1, usage_source="estimated", cost_nano_usd=9 * DOLLAR, price_id=same)
    assert reprice(path) == 0
    price(path, 2)
    assert reprice(path) == 1
    assert seen(path)[held].cost_nano_usd == 2 * DOLLAR


async def test_the_tier_that_was_served_and_all_classes_of_usage_are_priced_again(path: Path) -> None:
    usage = Usage(input_tokens=1_000_000, images=3, audio_seconds=60, web_search_calls=2)
    (one,) = await some_calls(path, 1, used=usage, service_tier="priority")
    store = Store(path)
    with store.write() as tx:
        rates = {"input": DOLLAR, "images": 1_000_000 * DOLLAR, "audio_seconds": DOLLAR, "web_search": 1_000 * DOLLAR}
        prices.put(tx, price_row("openai", "gpt-5", rates), "admin", now_s=NOW_S)
        price_edit.amend_price(
            tx,
            provider="openai",
            catalogue="",
            model="gpt-5",
            rates={"input": 4 * DOLLAR},
            tier="priority",
            now_s=NOW_S,
        )
    store.close()
    assert reprice(path) == 1
    assert seen(path)[one].cost_nano_usd == 4 * DOLLAR + 3 * DOLLAR + 60_000 + 2_000_000


async def test_a_run_that_was_interrupted_goes_on_where_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await some_calls(path, 9, 8, 7, 6, 5)
    price(path, 3)
    monkeypatch.setattr(revision, "PAGE_CALLS", 2)

    def killed(_: Sequence[Looked]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repricing.reprice(path, AUTHOR, ALWAYS, SELLERS, tell=killed)
    costs = [seen(path)[call_id].cost_nano_usd for call_id in made]
    assert costs == [3 * DOLLAR, 3 * DOLLAR, DOLLAR, DOLLAR, DOLLAR]
    assert disagreements(path) == []
    store = Store(path, readonly=True)
    with store.read() as tx:
        assert tx.execute("SELECT count(*) FROM audit WHERE action = 'usage reprice'").fetchone() == (1,)
        assert repricing.unfinished(tx, ALWAYS)
        assert not repricing.unfinished(tx, Wanted(5))
    rest: list[int] = []
    changed = repricing.reprice(
        path,
        AUTHOR,
        ALWAYS,
        SELLERS,
        tell=lambda page: rest.extend(one.call.call_id for one in page),
    )
    assert (changed, rest) == (5, made[2:])  # over both parts; only the rest was looked at
    assert {call.cost_nano_usd for call in seen(path).values()} == {3 * DOLLAR}
    assert store.connection.execute("SELECT count(*), count(ended_at) FROM repricings").fetchone() == (1, 1)
    store.close()


async def test_a_run_that_was_interrupted_begins_anew_when_a_price_was_put_right_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await some_calls(path, 9, 8, 7, 6, 5)
    price(path, 30)
    monkeypatch.setattr(revision, "PAGE_CALLS", 2)

    def killed(_: Sequence[Looked]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repricing.reprice(path, AUTHOR, ALWAYS, SELLERS, tell=killed)
    price(path, 3, now_s=AUTHOR.at_s)
    reprice(path)
    assert [seen(path)[call_id].cost_nano_usd for call_id in made] == [3 * DOLLAR] * 5
    assert disagreements(path) == []


async def test_a_limit_on_each_end_user_and_the_calls_agree_afterwards(path: Path) -> None:
    async with Shop(path) as shop:
        shop.user("alice")
    store = Store(path)
    with store.write() as tx:
        limits.put(
            tx,
            AUTHOR,
            ORGANISATION,
            measure="cost",
            window="month",
            amount=90 * DOLLAR,
            each="end_user",
            default_zone=ZONE,
        )
    async with Shop(path) as shop:
        shop.knows("alice")
        await shop.call("alice", usage=MILLION, cost=DOLLAR, price_id=1, end_user="customer")
    price(path, 6)
    assert reprice(path) == 1
    assert disagreements(path) == []
    rows = store.connection.execute("SELECT end_user_id <> 0, cost_nano FROM rollups").fetchall()
    assert rows == [(1, 6 * DOLLAR)]
    store.close()


async def test_the_history_of_a_forgotten_call_is_forgotten_too(path: Path) -> None:
    await some_calls(path, 20)
    price(path, 2)
    reprice(path)
    prune(path, AUTHOR, NOW_S - DAY_S)
    store = Store(path, readonly=True)
    assert store.connection.execute("SELECT count(*) FROM repriced_calls").fetchone() == (0,)
    store.close()
