"""What providers keep: whose it is; and calls that go on there."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmctl.store import deferred, objects, prune
from llmctl.store.booking import Deferral, Held, Kept
from llmctl.store.ledger import Ledger
from tests.support.ledgers import DOLLAR, Books, closing, differences, opening

DAY_S = 86_400
KEPT = Kept("resp_1", "f1")


async def idle(ledger: Ledger) -> None:
    while not ledger.idle:
        await asyncio.sleep(0.005)


async def begun(books: Books, ledger: Ledger, secret: str) -> int:
    wanted = opening(ledger, books.caller(secret), at_ms=int(ledger._clock_s() * 1000))
    assert isinstance(await ledger.hold(wanted), Held)
    return wanted.call_id


async def test_an_object_is_its_users_from_the_settle_on(books: Books, ledger: Ledger) -> None:
    alice, bob = books.add_user("alice"), books.add_user("bob")
    call_id = await begun(books, ledger, alice)
    ledger.settle(closing(call_id, kept=KEPT))
    await idle(ledger)
    owner, other = books.caller(alice).user_id, books.caller(bob).user_id
    found = objects.find(books.store.connection, "resp_1", owner)
    assert found == objects.StoredObject("resp_1", call_id, "openai", "gpt-test", "f1", deferred=False)
    assert objects.find(books.store.connection, "resp_1", other) is None
    again = await begun(books, ledger, bob)  # of two providers, both may use one id
    ledger.settle(closing(again, kept=Kept("resp_1", "f2")))
    last = await begun(books, ledger, alice)
    ledger.settle(closing(last, deleted=call_id))
    await idle(ledger)
    assert objects.find(books.store.connection, "resp_1", owner) is None
    assert objects.find(books.store.connection, "resp_1", other).credential == "f2"


async def test_what_is_in_an_object_is_its_users_and_goes_with_it(books: Books, ledger: Ledger) -> None:
    alice, bob = books.add_user("alice"), books.add_user("bob")
    call_id = await begun(books, ledger, alice)
    ledger.settle(closing(call_id, kept=KEPT, part_ids=("msg_1", "cntr_1")))
    await idle(ledger)
    owner, other = books.caller(alice).user_id, books.caller(bob).user_id
    for part in ("msg_1", "cntr_1"):
        assert objects.with_part(books.store.connection, part, owner).id == "resp_1"
        assert objects.with_part(books.store.connection, part, other) is None
    assert objects.with_part(books.store.connection, "resp_1", owner) is None
    with books.store.write() as tx:
        objects.forget_old(tx, int(time.time()))
    assert books.rows("SELECT count(*) FROM object_parts") == [(2,)]
    with books.store.write() as tx:
        objects.forget_old(tx, int(time.time()) + objects.RETENTION_S + 60)
    assert books.rows("SELECT count(*) FROM object_parts") == [(0,)]


async def test_what_goes_on_is_nobodys_and_settled_once_by_whoever_learns_of_it(books: Books, ledger: Ledger) -> None:
    secret = books.add_user("alice")
    books.limit("user alice", 10 * DOLLAR)
    call_id = await begun(books, ledger, secret)
    ledger.defer(Deferral(call_id, KEPT, 200))
    ledger.defer(Deferral(call_id, KEPT, 200))
    await idle(ledger)
    assert ledger.open_calls == 0
    assert books.rows("SELECT state, owner, status FROM calls") == [("open", objects.DEFERRED, 200)]
    (waiting,) = deferred.listing(books.store.connection)
    assert waiting[0] == call_id
    call = deferred.one(books.store.connection, call_id)
    assert (call.object_id, call.credential, call.held_output_tokens) == ("resp_1", "f1", 1_000)
    assert objects.find(books.store.connection, "resp_1", books.caller(secret).user_id).deferred
    await ledger.close()

    first, second = books.ledger(), books.ledger()  # its process is gone: nobody books it as interrupted
    await first.start()
    await second.start()
    try:
        assert [row[0] for row in books.rows("SELECT state FROM calls")] == ["open"]
        assert differences(books) == []
        first.settle(closing(call_id))  # a settle of this process's own calls is none of this one's
        await idle(first)
        assert [row[0] for row in books.rows("SELECT state FROM calls")] == ["open"]
        for ledger_ in (first, second, first):
            ledger_.settle(closing(call_id, deferred=True))
            ledger_.settle(closing(call_id, deferred=True, input_tokens=7))
        await idle(first)
        await idle(second)
    finally:
        await first.close()
        await second.close()
    assert len(books.rows("SELECT 1 FROM calls WHERE state = 'settled' AND owner IS NULL")) == 1
    assert books.rows("SELECT sum(calls) FROM rollups") == [(1,)]
    assert deferred.listing(books.store.connection) == []
    assert differences(books) == []


async def test_a_deferral_and_the_end_may_come_in_one_batch(books: Books, ledger: Ledger) -> None:
    call_id = await begun(books, ledger, books.add_user("alice"))
    ledger.defer(Deferral(call_id, KEPT, 200))
    ledger.settle(closing(call_id, kept=KEPT, deferred=True))
    await idle(ledger)
    assert books.rows("SELECT state, owner FROM calls") == [("settled", None)]
    assert books.rows("SELECT id FROM objects") == [("resp_1",)]
    assert differences(books) == []


async def test_what_providers_have_forgotten_is_forgotten_here_too(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FORGOTTEN_PER_STEP", 3)
    secret = books.add_user("alice")
    now_s = time.time() - 40 * DAY_S
    ledger = books.ledger(clock_s=lambda: now_s)
    await ledger.start()
    for number in range(8):
        ledger.settle(closing(await begun(books, ledger, secret), kept=Kept(f"old_{number}", "f")))
    now_s += 35 * DAY_S
    ledger.settle(closing(await begun(books, ledger, secret), kept=Kept("young", "f")))
    await idle(ledger)
    await ledger.close()
    assert len(books.rows("SELECT id FROM objects")) == 9
    prune.prune(books.path, books.author, int(time.time()) - 3 * DAY_S, pause_s=0)  # calls may go sooner
    assert books.rows("SELECT id FROM objects") == [("young",)]
    assert books.rows("SELECT count(*) FROM calls") == [(0,)]
    assert not objects.find(books.store.connection, "young", books.caller(secret).user_id).deferred

    with books.store.write() as tx:
        tx.execute("UPDATE objects SET call_id = 1")
    serving = books.ledger()
    await serving.start()  # the daemon does it by itself, too
    serving.settle(closing(await begun(books, serving, secret)))
    while books.rows("SELECT id FROM objects"):
        await asyncio.sleep(0.01)
    await serving.close()
