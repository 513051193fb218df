"""What calls leave behind in the process."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl import config
from llmctl.proxy.app import Gateway
from llmctl.proxy.call import Call
from llmctl.proxy.cells import shared_memory
from llmctl.proxy.connections import Outgoing, ProviderAnswer
from tests.support.faulty import FAULTS, Faulty
from tests.support.faulty_more import MORE
from tests.support.ledgers import Books
from tests.support.wire import CHAT, ask, request_bytes

# Each way to fail that aiohttp has an error for: it could not connect (plain and with TLS), or the answer broke off
# (before it, in its head, in a body or a stream, with a stop or with garbage), or was cut by us.
WAYS = (
    "no_tls",
    "reset_on_accept",
    "reset_in_headers",
    "reset_after_headers",
    "reset_in_event",
    "stream_cut_short",
    "stall_in_stream",
    "garbage",
    "bad_chunk",
    "error_broken",
    "half_close_in_stream",
    "garbage_in_stream",
)
KINDS = (Call, Outgoing, ProviderAnswer)
TIMEOUTS = "[server.timeouts]\nread_s = 0.1\n"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector does nothing meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def call(listening: socket.socket, request: bytes) -> None:
    """Once, until the gateway ends the answer or the connection."""
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    writer.write(request)
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        pass
    writer.close()


def still_there() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


@pytest.mark.usefixtures("uncollected")
async def test_calls_that_fail_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    faults = {name: fault for name, fault in {**FAULTS, **MORE}.items() if name in WAYS}
    with Faulty(faults) as faulty, socket.create_server(("127.0.0.1", 0)) as listening:
        with Books(tmp_path / "llmctl.db") as books:
            key = books.add_user("alice")
        (tmp_path / "config.toml").write_text(f'database = "llmctl.db"\n{TIMEOUTS}{faulty.providers(tmp_path)}')
        gateway = Gateway(config.load(tmp_path / "config.toml"), shared_memory(1), 0)
        await gateway.start([listening], None)
        try:
            for name in (*WAYS, "refused"):
                await call(listening, request_bytes(CHAT, ask(f"{name}/m", stream=True), key))
                for _ in range(40):
                    await asyncio.sleep(0.05)
                    if not (left := still_there()):
                        break
                assert left == {}, name
        finally:
            await gateway.stop()
