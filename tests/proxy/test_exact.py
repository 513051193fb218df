"""A hard limit under a crowd: two worker processes never spend more than it says, and nearly all of it can be spent."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import aiohttp
import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import INPUT_TOKENS, OUTPUT_TOKENS, Faulty
from tests.support.wire import CHAT, Wire, ask, request_bytes

AT_ONCE = 500
HELD, SPENT = "rate_limit_exceeded", "insufficient_quota"  # as OpenAI says it
CALL_USD = Decimal(INPUT_TOKENS * 1 + OUTPUT_TOKENS * 10) / 1_000_000
LIMIT_USD = 1_000 * CALL_USD


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("exact")
    with Faulty() as faulty, Daemon(directory, faulty.providers(directory), args=["--workers", "2"]) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon


async def spend_all(daemon: Daemon, key: str, codes: Counter[str]) -> None:
    """Calls again and again until a limit is spent; what is only held is waited for."""
    body = ask("fine/m", max_tokens=OUTPUT_TOKENS)
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(daemon.url, connector=connector, headers=headers) as session:

        async def one() -> None:
            while True:
                async with session.post(CHAT, json=body) as answer:
                    text = await answer.read()
                    code = "ok" if answer.status == 200 else json.loads(text)["error"]["code"]
                codes[code] += 1
                if code not in ("ok", HELD):
                    return
                if code != "ok":
                    await asyncio.sleep(0.2)

        async with asyncio.timeout(90):
            await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def spent_usd(daemon: Daemon, user: str) -> Decimal:
    return sum((Decimal(str(row["cost_usd"])) for row in daemon.json("usage", "--user", user)), Decimal(0))


@pytest.mark.parametrize("scope", ["user", "group", "each"])
def test_five_hundred_calls_at_once_never_pass_a_limit_and_use_nearly_all_of_it(gateway: Daemon, scope: str) -> None:
    key = gateway.add_user(f"{scope}-spender", f"{scope}-team")
    on = {
        "user": ["--user", f"{scope}-spender"],
        "group": ["--group", f"{scope}-team"],
        "each": ["--group", f"{scope}-team", "--each", "user"],
    }[scope]
    gateway.here("limit", "set", *on, "--cost", f"{LIMIT_USD:f}", "--per", "month")
    codes: Counter[str] = Counter()
    asyncio.run(spend_all(gateway, key, codes))
    spent = spent_usd(gateway, f"{scope}-spender")
    assert codes[SPENT] == AT_ONCE, codes
    assert codes["ok"] * CALL_USD == spent
    assert LIMIT_USD * 95 / 100 <= spent <= LIMIT_USD


def test_calls_at_once_are_counted_over_all_workers(gateway: Daemon) -> None:
    key = gateway.add_user("parallel")
    gateway.here("limit", "set", "--user", "parallel", "--concurrency", "20")
    gateway.here("limit", "set", "--user", "parallel", "--requests", "300", "--per", "day")
    codes: Counter[str] = Counter()
    asyncio.run(spend_all(gateway, key, codes))
    assert codes["ok"] == 300
    assert codes[HELD] > 0
    (limit,) = (row for row in gateway.json("limit", "list", "--user", "parallel") if row["measure"] == "concurrency")
    assert limit["held"] == 0


def test_a_call_belongs_to_the_moment_when_all_of_it_is_here(gateway: Daemon) -> None:
    """Else a crowd could begin to send in one minute after the other, and then pass at once."""
    key = gateway.add_user("trickler")
    request = request_bytes(CHAT, ask("fine/m", max_tokens=OUTPUT_TOKENS), key)
    with Wire(gateway.url) as wire:
        wire.send(request[:-1])
        time.sleep(1.2)
        complete_s = time.time()
        wire.send(request[-1:])
        reply = wire.reply()
    assert reply.status == 200
    row = gateway.call(reply.headers["x-llmctl-call-id"])
    assert datetime.fromisoformat(row["started_at"]).timestamp() >= complete_s - 0.01
    assert row["latency_ms"] >= 1_000  # as the client had it
