"""Reading a body whose client is gone."""

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
        await BodyReader(Server(Address("127.0.0.1", 0)), inflight).read(request)
    assert inflight.bytes == 0
