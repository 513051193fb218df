"""The ledger on real files: never above a limit, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from llmctl.domain.errors import NotFound, Refused, SchemaMismatch, StoreBroken, StoreUnavailable
from llmctl.domain.principal import Caller
from llmctl.store import balances, database, facts, ids, intake, limits, users, writer
from llmctl.store.booking import Closing, Held, HoldResult, Opening, Refusal
from llmctl.store.database import migrations, transaction
from llmctl.store.ledger import Ledger
from llmctl.store.owners import Owner
from llmctl.store.sql import run
from tests.support.ledgers import DOLLAR, Books, closing, demand, differences, opening

CALL_NANO = 11_000_000  # the worst case of `demand()`: 1,000 tokens in at USD 1, 1,000 out at USD 10 per million
CALL_TOKENS = 2_000


async def settled(ledger: Ledger) -> None:
    """Waits until everything that was asked of the ledger is on disk."""
    while ledger.open_calls or not ledger.idle:
        await asyncio.sleep(0.005)


async def test_a_call_is_on_disk_as_open_before_it_may_go_and_settled_after(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice", "sales"))
    wanted = opening(ledger, caller)
    result = await ledger.hold(wanted)
    assert result == Held(1_000, False, CALL_NANO)
    assert books.rows("SELECT state, held_nano, cost_nano FROM calls") == [("open", CALL_NANO, None)]
    ledger.settle(closing(wanted.call_id))
    await settled(ledger)
    assert books.rows("SELECT state, cost_nano, input_tokens, output_tokens, owner FROM calls") == [
        ("settled", 1_500_000, 500, 100, None)
    ]
    assert differences(books) == []


async def test_a_hard_limit_never_admits_more_than_it_has_however_many_ask_at_once(
    books: Books, ledger: Ledger
) -> None:
    secret = books.add_user("alice", "sales")
    books.limit("org", 10 * CALL_NANO)
    caller = books.caller(secret)
    results = await asyncio.gather(*(ledger.hold(opening(ledger, caller)) for _ in range(100)))
    granted = [result for result in results if isinstance(result, Held)]
    refused = [result for result in results if isinstance(result, Refused)]
    assert len(granted) == 10
    assert {result.code for result in refused} == {"limit_held"}
    assert sum(result.held_nano_usd for result in granted) <= 10 * CALL_NANO


async def test_what_open_calls_do_not_use_is_given_back(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 2 * CALL_NANO)
    caller = books.caller(secret)
    done = 0
    for _ in range(8):  # each settles at 1.5 of 11 million
        wanted = opening(ledger, caller)
        assert isinstance(await ledger.hold(wanted), Held)
        ledger.settle(closing(wanted.call_id))
        await settled(ledger)
        done += 1
    assert books.rows("SELECT settled, held FROM balances") == [(done * 1_500_000, 0)]


async def test_settles_that_wait_for_company_count_for_the_next_hold(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SETTLE_WAIT_S", 60.0)
    secret = books.add_user("alice")
    books.limit("user alice", CALL_NANO * 3 // 2)
    caller = books.caller(secret)
    for done in range(4):  # beside what two of them hold is no room for a third
        wanted = opening(ledger, caller)
        assert await ledger.hold(wanted) == Held(1_000, False, CALL_NANO), done
        ledger.settle(closing(wanted.call_id))
    assert not ledger.idle
    assert books.rows("SELECT state, count(*) FROM calls GROUP BY state ORDER BY state") == [
        ("open", 1),
        ("settled", 3),
    ]
    await ledger.close()
    assert books.rows("SELECT settled, held FROM balances") == [(4 * 1_500_000, 0)]
    assert differences(books) == []


@pytest.mark.parametrize(
    ("measure", "amount", "used"),
    [
        ("cost", 4 * CALL_NANO, {"cost_nano_usd": 4 * CALL_NANO - 1}),
        ("tokens", 4 * CALL_TOKENS, {"output_tokens": 4 * CALL_TOKENS - 1, "input_tokens": 0, "cost_nano_usd": 0}),
    ],
)
async def test_a_settle_above_its_hold_waits_for_nobody(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, measure: str, amount: int, used: dict[str, int]
) -> None:
    monkeypatch.setattr(intake, "SETTLE_WAIT_S", 60.0)
    secret = books.add_user("alice")
    books.limit("user alice", amount, measure=measure)
    caller = books.caller(secret)
    wanted = opening(ledger, caller)
    assert isinstance(await ledger.hold(wanted), Held)
    ledger.settle(closing(wanted.call_id, **used))
    refused = await ledger.hold(opening(ledger, caller))
    assert isinstance(refused, Refused)
    assert refused.code == "limit_spent"


@pytest.mark.parametrize(
    ("amount", "soft", "written"),
    [
        (3 * CALL_NANO, False, 0),  # room for both
        (2 * CALL_NANO - 1, False, 1),  # the second would be capped
        (CALL_NANO, True, 1),  # the second would be counted as one after the limit was spent
    ],
)
async def test_settles_that_wait_are_written_where_they_change_what_a_hold_gets(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, amount: int, soft: bool, written: int
) -> None:
    monkeypatch.setattr(intake, "SETTLE_WAIT_S", 60.0)
    secret = books.add_user("alice")
    books.limit("user alice", amount, soft=soft)
    caller = books.caller(secret)
    first, second = opening(ledger, caller), opening(ledger, caller, demand(least=1))
    assert await ledger.hold(first) == Held(1_000, False, CALL_NANO)
    ledger.settle(closing(first.call_id))
    assert await ledger.hold(second) == Held(1_000, False, CALL_NANO)
    assert books.rows("SELECT count(*) FROM calls WHERE state = 'settled'") == [(written,)]


def test_settles_that_waited_for_the_database_and_settles_kept_back_both_count(books: Books) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 2 * CALL_NANO + 1_000_000)
    caller = books.caller(secret)
    results: list[object] = []
    owner, store = Owner.claim(books.path), database.Store(books.path)
    one = writer.Writer(
        books.path,
        owner,
        default_zone="UTC",
        share_percent=25,
        synchronous="FULL",
        lock_timeout_s=1.0,
        clock_s=time.time,
        deliver=lambda delivered: results.extend(result for _, result in delivered),
        stats=writer.LedgerStats(),
    )
    one._begin(store)

    ids_of = SimpleNamespace(new_call_id=lambda: one.ids.next(time.time_ns() // 1_000))

    def wanted() -> intake.Waiting:
        return intake.Waiting(opening(ids_of, caller), None)  # type: ignore[arg-type]  # nobody waits here

    first, second = wanted(), wanted()
    one._commit(store, intake.Taken(holds=[first, second]))
    one.intake.unsettled.append(closing(first.opening.call_id))
    one.intake._kept_back = [closing(second.opening.call_id)]
    one._commit(store, intake.Taken(holds=[wanted()]))  # fits only when both are settled
    assert results == 3 * [Held(1_000, False, CALL_NANO)]
    assert books.rows("SELECT state, count(*) FROM calls GROUP BY state ORDER BY state") == [
        ("open", 1),
        ("settled", 2),
    ]
    assert one.intake.idle
    store.close()
    owner.release()


async def test_near_the_end_of_a_limit_the_output_is_capped_and_then_refused_as_spent(
    books: Books, ledger: Ledger
) -> None:
    secret = books.add_user("alice")
    books.limit("org", 3_000_000)
    caller = books.caller(secret)
    wanted = opening(ledger, caller, demand(input_tokens=100, output_tokens=100_000, least=50))
    result = await ledger.hold(wanted)
    assert isinstance(result, Held)
    assert result.capped
    assert result.output_tokens == (3_000_000 // 4 - 100_000) // 10_000  # a quarter of what is left
    ledger.settle(closing(wanted.call_id, input_tokens=0, output_tokens=285))
    await settled(ledger)
    refused = await ledger.hold(opening(ledger, caller, demand(input_tokens=100, output_tokens=100_000, least=50)))
    assert isinstance(refused, Refused)
    assert refused.code == "limit_spent"


async def test_all_limits_bind_at_once_the_tightest_decides(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice", "sales")
    books.limit("org", 100 * CALL_NANO)
    books.limit("group sales", 5 * CALL_NANO, window="day")
    books.limit("key alice/default", 50 * CALL_NANO, window="total")
    caller = books.caller(secret)
    results = await asyncio.gather(*(ledger.hold(opening(ledger, caller)) for _ in range(20)))
    assert sum(isinstance(result, Held) for result in results) == 5
    assert differences(books) == []


async def test_each_user_of_a_group_has_an_amount_of_their_own(books: Books, ledger: Ledger) -> None:
    alice, bob = books.add_user("alice", "sales"), books.add_user("bob", "sales")
    books.limit("group sales", 2 * CALL_NANO, each="user")
    for secret in (alice, bob):
        caller = books.caller(secret)
        results = await asyncio.gather(*(ledger.hold(opening(ledger, caller)) for _ in range(5)))
        assert sum(isinstance(result, Held) for result in results) == 2


async def test_concurrency_and_requests_are_limits_like_any_other(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 3, measure="concurrency", window="total")
    books.limit("user alice", 5, measure="requests", window="day")
    caller = books.caller(secret)
    wanted = [opening(ledger, caller) for _ in range(4)]
    results = await asyncio.gather(*(ledger.hold(one) for one in wanted))
    assert [getattr(result, "code", "granted") for result in results] == [*["granted"] * 3, "rate_limited"]
    for one in wanted[:3]:
        ledger.settle(closing(one.call_id))
    await settled(ledger)
    results = [await ledger.hold(opening(ledger, caller)) for _ in range(3)]
    assert [getattr(result, "code", "granted") for result in results] == ["granted", "granted", "limit_spent"]
    assert differences(books) == []


async def test_a_limit_set_today_counts_what_was_spent_and_is_open_already(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice", "sales")
    caller = books.caller(secret)
    first, second = opening(ledger, caller), opening(ledger, caller)
    await ledger.hold(first)
    await ledger.hold(second)
    ledger.settle(closing(first.call_id))
    while ledger.open_calls > 1:
        await asyncio.sleep(0.005)
    books.limit("group sales", 1_500_000 + 2 * CALL_NANO)  # what is settled, what is held, and one more
    caller = books.caller(secret)
    assert isinstance(await ledger.hold(opening(ledger, caller)), Held)
    assert isinstance(await ledger.hold(opening(ledger, caller)), Refused)
    ledger.settle(closing(second.call_id))  # it was open before the limit was: it moves the new balance all the same
    while ledger.open_calls > 1:
        await asyncio.sleep(0.005)
    assert differences(books) == []


async def test_no_other_spelling_of_a_model_evades_a_limit_on_it(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    limit_id = books.limit("org", 3, measure="requests", window="day", model_pattern="gpt-5*")
    caller = books.caller(secret)

    async def hold(provider: str, model: str) -> HoldResult:
        return await ledger.hold(msgspec.structs.replace(opening(ledger, caller), provider=provider, model=model))

    assert isinstance(await hold("openai", "gpt-4"), Held)
    for provider, model in (("openai", "gpt-5"), ("openrouter", "openai/gpt-5"), ("openrouter", "openai/gpt-5:nitro")):
        assert isinstance(await hold(provider, model), Held)
    assert isinstance(await hold("openrouter", "openai/gpt-5"), Refused)
    with books.store.read() as tx:  # also in a balance made anew
        limit = limits.get(tx, f"l{limit_id}", default_zone="UTC")
        assert run(tx, facts.booked(balances.place_of(limit, 0, int(time.time())))).held == 3


def test_balances_of_limits_on_models_are_made_anew_since_they_count_other_spellings() -> None:
    number = next(one for one, sql in migrations() if "DELETE FROM balances" in sql)
    old = sqlite3.connect(":memory:")
    for one, sql in migrations():
        if one == number:
            for limit_id, window, pattern in ((1, "day", "gpt-5*"), (2, "day", ""), (3, "minute", "gpt-5*")):
                old.execute(
                    "INSERT INTO limits (id, window, model_pattern, principal, principal_id, measure, amount,"
                    " created_at) VALUES (?, ?, ?, 'org', 0, 'cost', 1, 1)",
                    (limit_id, window, pattern),
                )
                old.execute("INSERT INTO balances VALUES (?, 0, 0, 5, 5)", (limit_id,))
            old.commit()
        old.executescript(sql)
    assert old.execute("SELECT limit_id FROM balances ORDER BY 1").fetchall() == [(2,), (3,)]
    old.close()


async def test_editing_or_setting_a_limit_again_never_resets_what_is_spent(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    limit_id = books.limit("org", 20 * CALL_NANO)
    wanted = opening(ledger, books.caller(secret))
    await ledger.hold(wanted)
    ledger.settle(closing(wanted.call_id))
    await settled(ledger)
    books.limit("org", 1_500_000 + CALL_NANO)
    assert isinstance(await ledger.hold(opening(ledger, books.caller(secret))), Held)
    with books.store.write() as tx:
        limits.remove(tx, books.author, f"l{limit_id}", default_zone="UTC")
    books.limit("org", 1_500_000 + CALL_NANO)
    refused = await ledger.hold(opening(ledger, books.caller(secret)))
    assert isinstance(refused, Refused)


async def test_a_change_of_settings_makes_the_waiting_call_be_judged_anew(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    stale = books.caller(secret)
    with books.store.write() as tx:
        users.set_disabled(tx, books.author, "alice", disabled=True)
    assert await ledger.hold(opening(ledger, stale)) is None
    assert books.rows("SELECT count(*) FROM calls") == [(0,)]


async def test_a_settle_that_comes_twice_counts_once(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("org", 100 * CALL_NANO)
    wanted = opening(ledger, books.caller(secret))
    await ledger.hold(wanted)
    for _ in range(3):
        ledger.settle(closing(wanted.call_id))
    await settled(ledger)
    ledger.settle(closing(wanted.call_id, input_tokens=9_999))
    await settled(ledger)
    assert books.rows("SELECT sum(calls), sum(cost_nano) FROM rollups") == [(1, 1_500_000)]
    assert differences(books) == []


async def test_a_released_call_costs_nothing_and_holds_nothing(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("org", CALL_NANO)
    caller = books.caller(secret)
    for _ in range(3):
        wanted = opening(ledger, caller)
        assert isinstance(await ledger.hold(wanted), Held)
        ledger.settle(Closing(wanted.call_id, "released", 502, "provider_unreachable"))
        await settled(ledger)
    assert books.rows("SELECT calls, errors, cost_nano FROM rollups") == [(0, 3, 0)]
    assert books.rows("SELECT settled, held FROM balances") == [(0, 0)]


async def test_a_call_above_its_hold_is_recorded_in_full_and_counted(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("org", 2 * CALL_NANO)
    wanted = opening(ledger, books.caller(secret))
    await ledger.hold(wanted)
    ledger.settle(closing(wanted.call_id, input_tokens=0, output_tokens=5_000))
    await settled(ledger)
    assert books.rows("SELECT settled, held FROM balances") == [(50_000_000, 0)]
    assert ledger.stats.settled_above_hold == 1


async def test_what_only_some_calls_have_is_kept_with_them_alone(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    stated, tiered, plain = (opening(ledger, caller) for _ in range(3))
    await asyncio.gather(*(ledger.hold(one) for one in (stated, tiered, plain)))
    ledger.settle(closing(stated.call_id, price_id=None, own_cost_nano_usd=7, own_price_id=1))
    ledger.settle(closing(tiered.call_id, service_tier="flex"))
    ledger.settle(closing(plain.call_id))
    await settled(ledger)
    noted = (
        "SELECT own_cost_nano, own_price_id, name FROM calls LEFT JOIN names ON names.id = service_tier_id ORDER BY "
    )
    assert books.rows(f"{noted} calls.id") == [(7, 1, None), (None, None, "flex"), (None, None, None)]


async def test_a_waiter_that_vanished_holds_nothing(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    task = asyncio.create_task(ledger.hold(opening(ledger, caller)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    await settled(ledger)
    assert books.rows("SELECT state FROM calls") in ([("released",)], [])


async def test_the_providers_usage_object_is_kept_byte_for_byte(books: Books, ledger: Ledger) -> None:
    from llmctl.store.interned import raw_usage

    caller = books.caller(books.add_user("alice"))
    raws = [
        '{"a": 1,  "b":-2.5e-3, "c": {"d": null, "e5": "12x"}}',
        '{"a": 7,  "b":-0.25e-12, "c": {"d": null, "e5": "9x"}}',
        "[]",
    ]
    for raw in raws:
        wanted = opening(ledger, caller)
        await ledger.hold(wanted)
        ledger.settle(closing(wanted.call_id, raw_usage=raw))
    await settled(ledger)
    rows = books.rows(
        "SELECT s.shape, c.usage_values FROM calls c LEFT JOIN usage_shapes s ON s.id = c.usage_shape_id ORDER BY c.id"
    )
    assert [raw_usage(*row) for row in rows] == raws
    assert books.rows("SELECT count(*) FROM usage_shapes") == [(2,)]


def refuse(ledger: Ledger, caller: Caller, started_at_ms: int, model: str = "x") -> None:
    spent = Refused("limit_spent", "spent")
    call_id = ledger.new_call_id()
    ledger.refuse(Refusal(call_id, started_at_ms, caller, "openai", "chat.completions", model, False, spent, 429))


async def test_a_flood_of_refusals_makes_twenty_rows_a_minute_and_a_count(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    now_ms = int(time.time() * 1000) // 60_000 * 60_000
    for _ in range(50):
        refuse(ledger, caller, now_ms)
    await ledger.close()
    assert books.rows("SELECT count(*) FROM calls WHERE state = 'refused'") == [(20,)]
    assert books.rows("SELECT calls FROM refusal_counts") == [(30,)]


async def test_calls_of_two_minutes_that_are_refused_in_turn_make_twenty_rows_of_each(
    books: Books, ledger: Ledger
) -> None:
    """Those whose bodies stalled began a minute before those that are refused at once."""
    caller = books.caller(books.add_user("alice"))
    now_ms = int(time.time() * 1000) // 60_000 * 60_000
    for number in range(100):
        refuse(ledger, caller, now_ms - number % 2 * 60_000)
    await ledger.close()
    assert books.rows("SELECT count(*) FROM calls WHERE state = 'refused'") == [(40,)]
    assert books.rows("SELECT calls FROM refusal_counts") == [(30,), (30,)]


async def test_refusals_of_a_batch_that_is_repeated_are_counted_once(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    now_ms = int(time.time() * 1000) // 60_000 * 60_000
    for _ in range(15):
        refuse(ledger, caller, now_ms)
    refuse(ledger, caller, now_ms, model="\ud800")  # no UTF-8: SQLite cannot take it
    await ledger.close()
    assert books.rows("SELECT count(*) FROM calls WHERE state = 'refused'") == [(15,)]
    assert books.rows("SELECT calls FROM refusal_counts") == []


async def test_a_locked_database_refuses_holds_and_keeps_settles_until_it_is_back(books: Books) -> None:
    ledger = books.ledger(lock_timeout_s=0.1)
    await ledger.start()
    caller = books.caller(books.add_user("alice"))
    wanted = opening(ledger, caller)
    await ledger.hold(wanted)
    with books.store.write():
        ledger.settle(closing(wanted.call_id))
        with pytest.raises(StoreUnavailable):
            await ledger.hold(opening(ledger, caller))
        assert ledger.unavailable is not None
    await settled(ledger)
    assert books.rows("SELECT state FROM calls") == [("settled",)]
    assert ledger.unavailable is None
    await ledger.close()


async def test_one_poisoned_call_fails_alone(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    good, bad, worse = (opening(ledger, caller) for _ in range(3))
    await asyncio.gather(*(ledger.hold(one) for one in (good, bad, worse)))
    ledger.settle(closing(bad.call_id, response_model="\ud800"))  # no UTF-8: SQLite cannot take it
    ledger.settle(closing(worse.call_id, cost_nano_usd=1 << 70))
    ledger.settle(closing(good.call_id))
    await settled(ledger)
    # What no transaction takes is booked without its words, or at the hold: no call stays open, and holds, for ever.
    rows = books.rows("SELECT id, state, usage_source, cost_nano FROM calls ORDER BY id")
    assert rows == [
        (good.call_id, "settled", "reported", 1_500_000),
        (bad.call_id, "settled", "reported", 1_500_000),
        (worse.call_id, "settled", "estimated", CALL_NANO),
    ]
    assert differences(books) == []
    assert isinstance(await ledger.hold(opening(ledger, caller)), Held)


async def test_a_newer_schema_stops_the_daemon_for_good(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    books.store.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaMismatch):
        await ledger.hold(opening(ledger, caller))
    assert isinstance(ledger.failed, SchemaMismatch)
    books.store.connection.execute("PRAGMA user_version = 1")


async def test_a_database_that_is_removed_while_it_is_open_stops_the_daemon(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RECOVER_EVERY_S", 0.05)
    ledger = books.ledger()
    await ledger.start()
    caller = books.caller(books.add_user("alice"))
    assert isinstance(await ledger.hold(opening(ledger, caller)), Held)
    books.path.rename(books.path.with_name("elsewhere.db"))
    while ledger.failed is None:
        await asyncio.sleep(0.01)
    with pytest.raises(StoreBroken, match="removed or replaced"):
        await ledger.hold(opening(ledger, caller))
    books.path.with_name("elsewhere.db").rename(books.path)
    await ledger.close()


async def test_the_ledger_does_not_start_without_a_database(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none.db", default_zone="UTC", share_percent=25)
    with pytest.raises(NotFound):
        await ledger.start()
    assert not (tmp_path / "none.db").exists()


PROJECT = Path(__file__).parents[2]
CRASHING = """
import asyncio, os, sys, time
from pathlib import Path
from llmctl.store import callers
from llmctl.store.database import Store
from llmctl.store.ledger import Ledger
from llmctl.store.owners import Owner
from tests.support.ledgers import closing, opening

async def main(path, secret):
    ledger = Ledger(path, default_zone="UTC", share_percent=25)
    await ledger.start()
    caller = callers.load(Store(path).connection, secret, now_s=int(time.time()))
    async def calls():
        while True:
            wanted = opening(ledger, caller)
            await ledger.hold(wanted)
            print(wanted.call_id, flush=True)  # what a provider would see
            await asyncio.sleep(0.002)
            ledger.settle(closing(wanted.call_id))
    await asyncio.gather(*(calls() for _ in range(20)))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


MOMENTS_S = [0.05, 0.3, 0.31]
SOAK_MOMENTS_S = [random.Random(moment).uniform(0, 1) for moment in range(100)]


@pytest.mark.parametrize(
    "moment_s", [*MOMENTS_S, *(pytest.param(moment_s, marks=pytest.mark.soak) for moment_s in SOAK_MOMENTS_S)]
)
async def test_after_kill_9_every_call_that_was_let_through_is_booked_and_none_is_open(
    books: Books, moment_s: float
) -> None:
    secret = books.add_user("alice", "sales")
    books.limit("group sales", 1_000_000 * DOLLAR)
    process = subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(books.path), secret], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(moment_s)
    process.send_signal(signal.SIGKILL)
    seen = {int(line) for line in [first, *process.stdout.read().split("\n")[:-1]]}
    process.wait()
    process.stdout.close()
    ledger = books.ledger()
    await ledger.start()
    booked = dict(books.rows("SELECT id, state FROM calls"))
    assert seen <= set(booked)
    assert set(booked.values()) == {"settled"}
    assert books.rows("SELECT count(*) FROM calls WHERE usage_source = 'estimated' AND cost_nano < held_nano") == [(0,)]
    assert ledger.stats.recovered > 0
    assert differences(books) == []
    await ledger.close()


async def test_a_living_process_keeps_its_calls_when_another_starts(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    await ledger.hold(opening(ledger, caller))
    other = books.ledger()
    await other.start()
    assert books.rows("SELECT state FROM calls") == [("open",)]
    await other.close()


async def test_two_ledgers_on_one_file_are_exact_together(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("org", 20 * CALL_NANO)
    other = books.ledger()
    await other.start()
    caller = books.caller(secret)
    results = await asyncio.gather(*(one.hold(opening(one, caller)) for one in (ledger, other) for _ in range(50)))
    assert sum(isinstance(result, Held) for result in results) == 20
    assert len({row[0] for row in books.rows("SELECT id FROM calls")}) == 20
    await other.close()
    assert differences(books) == []


async def test_the_log_does_not_grow_without_end(books: Books, ledger: Ledger) -> None:
    caller = books.caller(books.add_user("alice"))
    for _ in range(20):
        wanted = [opening(ledger, caller) for _ in range(500)]
        await asyncio.gather(*(ledger.hold(one) for one in wanted))
        for one in wanted:
            ledger.settle(closing(one.call_id))
        await settled(ledger)
    assert books.store.wal_bytes() < 24 << 20


def test_call_ids_rise_and_read_back() -> None:
    made = ids.CallIds(slot=3, last_id=0)
    numbers = [made.next(1_800_000_000_000_000) for _ in range(3)] + [made.next(1_700_000_000_000_000)]
    assert numbers == sorted(set(numbers))
    assert [ids.parsed(ids.shown(number)) for number in numbers] == numbers
    assert ids.shown(numbers[0]).startswith("c_")


def test_a_failed_commit_leaves_no_transaction_open(books: Books) -> None:
    with pytest.raises(sqlite3.IntegrityError), transaction(books.store.connection):
        books.store.connection.execute(
            "INSERT INTO settings (id, settings_version, prices_version, timezone) VALUES (2, 1, 1, 'UTC')"
        )
    assert not books.store.connection.in_transaction


@pytest.mark.parametrize("written", [False, True], ids=["not-written", "written-and-not-told"])
async def test_a_settle_whose_commit_fails_once_counts_once(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    caller = books.caller(books.add_user("alice"))
    books.limit("org", 10 * DOLLAR)
    wanted = opening(ledger, books.caller(books.add_user("bob")))
    assert isinstance(await ledger.hold(wanted), Held)
    real, failures = database.transaction, []

    @contextmanager
    def failing(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with real(connection, begin):
            yield
            if not failures and not written:
                failures.append(1)
                raise _busy()
        if not failures:
            failures.append(1)
            raise _busy()

    monkeypatch.setattr(database, "transaction", failing)
    ledger.settle(closing(wanted.call_id))
    later = opening(ledger, caller)
    while not isinstance(await _held(ledger, later), Held):
        later = opening(ledger, books.caller(books.add_user(f"u{later.call_id}")))
    await ledger.close()
    assert failures
    assert books.rows("SELECT state, count(*) FROM calls GROUP BY 1 ORDER BY 1") == [("open", 1), ("settled", 1)]
    assert books.rows("SELECT sum(calls), sum(cost_nano) FROM rollups") == [(1, 1_500_000)]
    assert differences(books) == []


async def test_names_that_were_rolled_back_are_not_remembered(
    books: Books, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = books.caller(books.add_user("alice"))
    real, failures = database.transaction, []

    @contextmanager
    def failing(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with real(connection, begin):
            yield
            if not failures:
                failures.append(1)
                raise _busy()

    def named(model: str) -> Opening:
        return msgspec.structs.replace(
            opening(ledger, caller), provider=f"p-{model}", model=model, request_model=f"asked-{model}"
        )

    monkeypatch.setattr(database, "transaction", failing)
    assert isinstance(await _held(ledger, named("lost")), StoreUnavailable)
    for model in ("first", "lost", "first"):
        assert isinstance(await ledger.hold(named(model)), Held)
    assert books.rows(
        "SELECT provider, model, names.name FROM calls JOIN models ON models.id = model_id "
        "JOIN names ON names.id = request_model_id ORDER BY calls.id"
    ) == [(f"p-{model}", model, f"asked-{model}") for model in ("first", "lost", "first")]


async def _held(ledger: Ledger, wanted: Opening) -> object:
    try:
        return await ledger.hold(wanted)
    except StoreUnavailable as error:
        return error


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O is busy")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error
