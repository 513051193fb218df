"""Says what `hostile` made, on connections from many addresses, and counts what comes back."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .hostile import Keys, Talk, last_question, talk

WAIT_S = 60.0  # longer than any pause that the gateway grants, also on a machine that is busy
ADDRESSES = 200  # of loopback; wrong keys make the answers late for each alone


@dataclass(slots=True)
class Heard:
    """What one connection heard. `whole`: it ended between two answers."""

    statuses: list[int] = field(default_factory=list)
    raw: bytes = b""
    whole: bool = True
    closed: bool = True  # by the gateway
    took_s: float = 0.0


async def say(host: str, port: int, said: Talk, keys: Keys, number: int, patience_s: float) -> Heard:
    rng = random.Random(number)
    source = f"127.0.{number % ADDRESSES // 250}.{2 + number % ADDRESSES % 250}"
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0), limit=1 << 22)
    data = b"".join(unit.data for unit in said.units)
    if said.ends == "asks":
        data += last_question(keys)
    try:
        with suppress(ConnectionError):  # it has heard enough before all is said
            await _send(writer, data, said.pieces, rng)
        if said.ends == "reset":
            raw: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # the gateway was quicker
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return Heard()
        if said.ends == "close":
            return Heard()
        if said.ends == "half-close" and writer.can_write_eof():
            with suppress(OSError):
                writer.write_eof()
        return await _listen(reader, WAIT_S if said.is_good else patience_s)
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes, pieces: int, rng: random.Random) -> None:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(pieces - 1))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        writer.write(data[begin:end])
        await writer.drain()
        if pieces > 1:
            await asyncio.sleep(rng.choice((0, 0.002, 0.02)))


async def _listen(reader: asyncio.StreamReader, wait_s: float) -> Heard:
    heard = Heard()
    data = bytearray()
    try:
        async with asyncio.timeout(wait_s):
            while piece := await reader.read(1 << 16):
                data += piece
    except TimeoutError:
        heard.closed = False
    except ConnectionError:
        pass
    heard.raw = bytes(data)
    heard.statuses, heard.whole = answers(heard.raw)
    return heard


def answers(data: bytes) -> tuple[list[int], bool]:
    """The statuses of the final answers in it, and whether the last one is whole."""
    statuses, at = [], 0
    while at < len(data):
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return statuses, False
        first, *lines = data[at:end].split(b"\r\n")
        assert first.startswith(b"HTTP/1."), first[:200]
        status, at = int(first.split(b" ", 2)[1]), end + 4
        if status < 200:
            continue
        statuses.append(status)
        names = dict(line.lower().split(b": ", 1) for line in lines if b": " in line)
        if b"chunked" in names.get(b"transfer-encoding", b""):
            at = _after_chunks(data, at)
            if at < 0:
                return statuses, False
        elif b"content-length" in names:
            at += int(names[b"content-length"])
            if at > len(data):
                return statuses, False
        elif status not in (204, 304):
            return statuses, True  # ends with the connection
    return statuses, True


def _after_chunks(data: bytes, at: int) -> int:
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        at = end + 2 + size + 2
        if size == 0:
            return at if at <= len(data) else -1
    return -1


async def say_all(
    url: str,
    keys: Keys,
    check: Callable[[int, Talk, Heard], None],
    *,
    seed: int,
    first: int,
    count: int,
    at_once: int,
    patience_s: float = WAIT_S,
) -> int:
    """Conversations from `first` on, until they have held `count` requests. Returns the number of the next.
    `patience_s`: with the gateway, where what was said is not good."""
    place = urlsplit(url)
    host, port = str(place.hostname), int(place.port or 0)
    numbers = iter(range(first, 1 << 60))
    left = count
    last = first

    async def one_after_another() -> None:
        nonlocal left, last
        while left > 0:
            number = next(numbers)
            last = max(last, number)
            said = talk(seed, number, keys)
            left -= len(said.units)
            began_s = time.monotonic()
            heard = await say(host, port, said, keys, number, patience_s)
            heard.took_s = time.monotonic() - began_s
            check(number, said, heard)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_another())
    return last + 1
