"""A bug of ours, made on purpose, does no harm beyond its own call."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest

from llmctl import config
from llmctl.proxy.app import Gateway
from llmctl.proxy.cells import shared_memory
from llmctl.proxy.endings import Endings
from tests.support.faulty import Faulty, Line
from tests.support.ledgers import Books
from tests.support.wire import CHAT, ask, request_bytes

ANSWER = {"id": "1", "model": "m", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


async def answers(line: Line) -> None:
    seen = await line.request()
    if seen.stream:
        await line.start_stream()
        await line.send_event(ANSWER)
        await line.end_stream()
    else:
        await line.send_whole(json.dumps(ANSWER).encode())


async def received_from(listening: socket.socket, request: bytes) -> bytes:
    """All that comes until the connection ends."""
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    writer.write(request)
    received = b""
    try:
        while piece := await reader.read(1 << 16):
            received += piece
    except ConnectionResetError:
        pass
    writer.close()
    return received


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_after_an_answer_no_second_one_follows_that_would_be_read_as_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a bug")

    with Faulty({"fine": answers}) as faulty, socket.create_server(("127.0.0.1", 0)) as listening:
        with Books(tmp_path / "llmctl.db") as books:
            key = books.add_user("alice")
        (tmp_path / "config.toml").write_text(f'database = "llmctl.db"\n{faulty.providers(tmp_path)}')
        gateway = Gateway(config.load(tmp_path / "config.toml"), shared_memory(1), 0)
        await gateway.start([listening], None)
        monkeypatch.setattr(Endings, "ended", fails)
        try:
            received = await asyncio.wait_for(
                received_from(listening, request_bytes(CHAT, ask("fine/m", stream=stream), key)), 5
            )
        finally:
            await gateway.stop()
    assert received.count(b"HTTP/1.1 ") <= 1
    assert b"internal_error" not in received
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
