"""A provider that answers as recorded: cut into pieces and packed as it is told."""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import brotli

from .recording import Exchange

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEADER = b"x-replay-id"
EVERY_BYTE_BYTES_MAX = 30_000  # longer bodies are cut into pieces of up to 40 bytes instead
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: bytes(brotli.compress(body, quality=4)),
    "zstd": zstd.compress,
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer comes: in which encoding, and cut where."""

    name: str
    encoding: str = ""
    every_byte: bool = False
    pieces: bool = False


MANNERS = (
    Manner("whole"),
    Manner("every byte", every_byte=True),
    Manner("pieces", pieces=True),
    *(Manner(encoding, encoding, pieces=True) for encoding in PACKERS),
)


class Replayer:
    """Serves exchanges by the id in the request's x-replay-id: MANNER/ID."""

    def __init__(self, exchanges: Mapping[str, Exchange]) -> None:
        self._exchanges = exchanges
        self._manners = {manner.name: manner for manner in MANNERS}
        self.asked: dict[str, bytes] = {}  # by x-replay-id: the body that arrived

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(_fields(head))
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                await self._answer(fields, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, fields: dict[bytes, bytes], body: bytes, writer: asyncio.StreamWriter) -> None:
        wanted = fields.get(HEADER, b"").decode()
        name, _, exchange_id = wanted.partition("/")
        if not exchange_id:  # the gateway's own look at the models
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self.asked[wanted] = body
        exchange, manner = self._exchanges[exchange_id], self._manners[name]
        packed, encoding = exchange.body, ""
        if manner.encoding and fields.get(b"accept-encoding") != b"identity":
            packed, encoding = PACKERS[manner.encoding](exchange.body), manner.encoding
        lines = [f"HTTP/1.1 {exchange.status} X"]
        lines += [f"{field}: {value}" for field, value in exchange.headers.items()]
        lines += [f"Content-Encoding: {encoding}"] if encoding else []
        writer.write("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode("utf-8"))
        for piece in _cut(packed, manner, exchange_id):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if manner.every_byte or manner.pieces:
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _cut(body: bytes, manner: Manner, seed: str) -> Iterator[bytes]:
    if not body:
        return
    if not (manner.every_byte or manner.pieces):
        yield body
        return
    chance, position = random.Random(seed), 0
    sizes = [1, 2, 5, 17, 100, 1_400, 5_000]
    if manner.every_byte:
        sizes = [1] if len(body) <= EVERY_BYTE_BYTES_MAX else [40]
    while position < len(body):
        size = chance.choice(sizes)
        yield body[position : position + size]
        position += size


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.lower(), value.strip()
