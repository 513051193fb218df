"""Connections to a provider whose answers come in more pieces than aiohttp takes at once: it pauses, and reads on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from yarl import URL

from llmctl.proxy.connections import READ_BUFFER_BYTES, REST_S, Outgoing, Pool
from llmctl.proxy.receiver import Connector

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
PIECES_MAX = READ_BUFFER_BYTES // 16  # aiohttp's
PAUSE_S = 0.1


def chunks(text: bytes) -> bytes:
    """Each byte by itself."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in text)


# What a server sends at once, each time after a pause, and the body that it is.
MANY = b"x" * PIECES_MAX
ANSWERS = {
    "the limit with the last piece of a packet": ([HEAD + chunks(b"a"), chunks(MANY), chunks(b"bc") + END], b"bc"),
    "the limit with the last piece of the answer": ([HEAD + chunks(b"a"), chunks(MANY) + END], b""),
    "far beyond the limit": ([HEAD + chunks(b"a"), chunks(3 * MANY) + END], 2 * MANY),
}
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"


class Server:
    """Answers the first request in many pieces, the others in two."""

    def __init__(self, packets: list[bytes]) -> None:
        self.connections = 0
        self.ended = asyncio.Event()
        self._packets = [packets]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            first, *others = self._packets.pop() if self._packets else [WHOLE + b"abc", b"def"]
            writer.write(first)
            for packet in others:
                await writer.drain()
                await asyncio.sleep(PAUSE_S)
                writer.write(packet)
        writer.close()
        self.ended.set()


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    connector = Connector()
    yield connector
    await connector.close()


async def body_of(pool: Pool) -> bytes:
    connection = pool.take() or await pool.connect()
    answer = await connection.ask(Outgoing(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""))
    body = b""
    while piece := await answer.content.readany():
        body += piece
    return body


@pytest.mark.parametrize("which", ANSWERS)
async def test_all_of_an_answer_comes_and_of_the_next_on_its_connection(connector: Connector, which: str) -> None:
    packets, rest = ANSWERS[which]
    server = Server(packets)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    pool = Pool(connector, URL(f"http://127.0.0.1:{port}"), connect_s=5)
    async with asyncio.timeout(10):
        assert await body_of(pool) == b"a" + MANY + rest
        for _ in range(3):
            await asyncio.sleep(2 * REST_S)
            assert await body_of(pool) == b"abcdef"
    assert server.connections == 1
    pool.close()
    await server.ended.wait()
    listening.close()
