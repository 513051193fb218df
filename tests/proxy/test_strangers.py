"""Keys that do not exist, shown again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from llmctl.proxy import strangers
from llmctl.proxy.strangers import ADDRESSES_MAX, DELAY_S_MAX, FREE, WAITING_PER_ADDRESS_MAX, Strangers, delay_of
from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Faulty
from tests.support.wire import CHAT, Wire, ask, post, request_bytes


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("strangers")
    with Faulty({"fine": FAULTS["fine"]}) as faulty, Daemon(directory, faulty.providers(directory)) as daemon:
        yield daemon


def test_each_wrong_key_of_a_minute_waits_longer_up_to_a_bound() -> None:
    delays = [delay_of(tries) for tries in range(FREE + 8)]
    assert delays[: FREE + 1] == [0.0] * (FREE + 1)
    assert delays[FREE + 1 :] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert delay_of(10**9) == DELAY_S_MAX


async def test_a_minute_later_an_address_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    clock = Clock()
    known = Strangers(clock_s=clock)
    for number in range(FREE + 2):
        await known.delay("192.0.2.1", f"key {number}")
    await known.delay("192.0.2.2", "key 0")
    assert slept == [0.1, 0.2]
    clock.now_s += 60
    await known.delay("192.0.2.1", "key 0")
    assert slept == [0.1, 0.2]


async def test_one_old_key_shown_for_ever_is_no_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    known = Strangers()
    for _ in range(500):
        await known.delay("192.0.2.1", "revoked long ago")
    assert slept == []


async def test_a_flood_takes_bounded_memory_and_holds_few_answers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "DELAY_S", 0.3)
    known = Strangers()
    began_s = time.monotonic()
    waits = [asyncio.create_task(known.delay("192.0.2.1", f"key {number}")) for number in range(500)]
    await asyncio.sleep(0.05)
    assert sum(not wait.done() for wait in waits) == WAITING_PER_ADDRESS_MAX
    assert [await wait for wait in waits if wait.done()].count(False) == 500 - FREE - WAITING_PER_ADDRESS_MAX
    for number in range(ADDRESSES_MAX + 100):
        await known.delay(f"2001:db8::{number:x}", "key")
    assert len(known._known) == ADDRESSES_MAX
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert time.monotonic() - began_s < 5


def test_who_tries_keys_waits_or_has_to_connect_anew_and_who_has_one_does_not(gateway: Daemon) -> None:
    key = gateway.add_user("alice")
    with ExitStack() as opened:
        wires = [opened.enter_context(Wire(gateway.url)) for _ in range(FREE + WAITING_PER_ADDRESS_MAX + 30)]
        began_s = time.monotonic()
        for number, wire in enumerate(wires):
            wire.send(request_bytes(CHAT, ask("fine/m"), f"sk-llmctl-{number:048d}"))
        took = []
        for _ in range(10):
            one_s = time.monotonic()
            assert post(gateway.url, CHAT, ask("fine/m"), key).status == 200
            took.append(time.monotonic() - one_s)
        replies = [wire.reply() for wire in wires]
        assert time.monotonic() - began_s >= DELAY_S_MAX
    assert {reply.status for reply in replies} == {401}
    assert sorted(took)[len(took) // 2] < 0.5
    assert 10 <= [reply.headers.get("connection") for reply in replies].count("close") <= 30
    assert len([line for line in gateway.log if "wrong keys from 127.0.0.1" in line]) == 1
