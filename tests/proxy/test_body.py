"""Reading bodies: whose client is gone, and that come together."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from llmctl.config import Server
from llmctl.config.server import Address
from llmctl.domain.errors import Refused
from llmctl.proxy.body import BodyReader, Inflight


async def test_a_connection_that_closed_before_its_body_was_asked_for_is_no_failure_of_ours() -> None:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 1 << 16, loop=loop)  # never connected
    content.feed_data(b"the beginning")
    inflight = Inflight()
    request = make_mocked_request("POST", "/v1/chat/completions", payload=content)
    with pytest.raises(Refused, match="broke off"):
        await BodyReader(Server(Address("127.0.0.1", 0)), inflight).read(request, 1)
    assert (inflight.bytes, inflight.by_user) == (0, {})


ALICE, BOB, CAROL = 1, 2, 3
MIB = 1 << 20


class Gateway:
    """Takes bodies and keeps them, within so many bytes."""

    def __init__(self, bytes_max: int) -> None:
        self.inflight = Inflight()
        self.bodies = BodyReader(Server(Address("127.0.0.1", 0), body_bytes_inflight_max=bytes_max), self.inflight)

    async def takes(self, user_id: int, size: int) -> bool:
        content = StreamReader(BaseProtocol(asyncio.get_running_loop()), size)  # never paused
        content.feed_data(bytes(size))
        content.feed_eof()
        try:
            await self.bodies.read(make_mocked_request("POST", "/v1/chat/completions", payload=content), user_id)
        except Refused as refused:
            assert refused.code == "overloaded"
            return False
        return True


async def test_one_user_s_bodies_leave_room_for_another_s() -> None:
    gateway = Gateway(16 * MIB)
    assert [await gateway.takes(ALICE, 2 * MIB) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [await gateway.takes(BOB, 2 * MIB) for _ in range(3)] == [True, True, False]
    assert await gateway.takes(CAROL, 2 * MIB)
    gateway.bodies.release(BOB, 2 * MIB)
    gateway.bodies.release(BOB, 2 * MIB)
    assert not await gateway.takes(ALICE, 2 * MIB)  # it is not left to those who have the most
    assert await gateway.takes(BOB, 2 * MIB)


async def test_a_small_body_is_taken_whatever_the_others_hold_and_a_body_alone_may_take_all() -> None:
    gateway = Gateway(MIB)
    assert await gateway.takes(ALICE, MIB)
    assert not await gateway.takes(BOB, 65 << 10)
    assert await gateway.takes(BOB, 64 << 10)
    assert await gateway.takes(ALICE, 64 << 10)
    gateway.bodies.release(ALICE, MIB)
    assert gateway.inflight.by_user == {ALICE: 64 << 10, BOB: 64 << 10}
