"""One provider's exchanges through a daemon of its own, and what became of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from llmctl.proxy.compression import decoded
from tests.dialects.test_corpus import expected, states_usage
from tests.support.daemon import Daemon

from . import providers
from .recording import Exchange
from .upstream import HEADER, MANNERS, Replayer

AT_ONCE = 16
CALLS_MAX = "1000000"


@dataclass(frozen=True, slots=True)
class Result:
    """`booked`: exact, none stated, refused or WRONG; `why`: of a refusal or of what is wrong."""

    exchange: Exchange
    manner: str
    booked: str
    identical: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    call_id: str
    streamed_whole: bool


async def replay(provider: str, exchanges: Sequence[Exchange], directory: Path) -> list[Result]:
    by_id = {exchange.id: exchange for exchange in exchanges}
    credential = directory / "credential"
    credential.write_text("sk-of-the-provider\n")
    async with Replayer(by_id) as upstream:
        daemon = Daemon(directory, providers.toml(provider, upstream.url, credential))
        key = daemon.add_user("replay")
        await asyncio.to_thread(daemon.start)
        try:
            replies = await _send_all(daemon.url, key, exchanges)
        finally:
            await asyncio.to_thread(daemon.stop)  # books all that is open
        rows = {row["id"]: row for row in daemon.json("calls", "-n", CALLS_MAX)}
    return [
        _result(by_id[exchange_id], manner, reply, rows.get(reply.call_id))
        for (manner, exchange_id), reply in replies.items()
    ]


async def _send_all(url: str, key: str, exchanges: Sequence[Exchange]) -> dict[tuple[str, str], _Reply]:
    replies: dict[tuple[str, str], _Reply] = {}
    turns = asyncio.Semaphore(AT_ONCE)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def one(exchange: Exchange, manner: str) -> None:
            async with turns:
                replies[manner, exchange.id] = await _send(session, url, key, exchange, manner)

        await asyncio.gather(*(one(exchange, manner.name) for exchange in exchanges for manner in MANNERS))
    return replies


async def _send(session: aiohttp.ClientSession, url: str, key: str, exchange: Exchange, manner: str) -> _Reply:
    headers = {
        **exchange.request_headers,
        "Authorization": f"Bearer {key}",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        HEADER.decode(): f"{manner}/{exchange.id}",
    }
    target = URL(url + exchange.path, encoded=True)
    body = exchange.request or None
    async with session.request(exchange.method, target, data=body, headers=headers, allow_redirects=False) as answer:
        try:
            packed, whole = await answer.read(), True
        except aiohttp.ClientError:
            packed, whole = b"", False
        plain = decoded(packed, answer.headers.get("Content-Encoding", ""))
        return _Reply(answer.status, plain, answer.headers.get("x-llmctl-call-id", ""), whole)


def _result(exchange: Exchange, manner: str, reply: _Reply, row: Mapping[str, Any] | None) -> Result:
    identical = reply.streamed_whole and reply.status == exchange.status and reply.body == exchange.body
    if row is None or row["state"] == "refused":
        return Result(exchange, manner, "refused", identical, _message(reply))
    if exchange.status >= 400 and reply.status in (502, 424) and "the gateway's credential" in _message(reply):
        return Result(exchange, manner, "none stated", True, "")  # about our credential: our own error
    if row["state"] != "settled":
        return Result(exchange, manner, "WRONG", identical, f"{row['state']} {row['error']}")
    if not exchange.truth or exchange.status >= 400 or not states_usage(dict(exchange.truth["usage_raw"])):
        stated = row["usage_source"] == "reported"
        return Result(
            exchange, manner, "WRONG" if stated else "none stated", identical, "usage out of nowhere" * stated
        )
    wanted = expected(dict(exchange.record))
    different = {name: (row[name], value) for name, value in wanted.items() if row[name] != value}
    if row["usage_source"] != "reported" or different:
        return Result(exchange, manner, "WRONG", identical, f"{row['usage_source']} (booked, true): {different}")
    return Result(exchange, manner, "exact", identical)


def _message(reply: _Reply) -> str:
    try:
        answer = json.loads(reply.body)
        error = answer.get("error", answer)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status}"
