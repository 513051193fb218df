"""How our connections read on: aiohttp's, without its work for each piece that was taken."""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler


class ReadsOn(BaseProtocol):
    """aiohttp's streams ask for more after each piece that is taken from them, and its protocols then parse nothing and
    talk to the transport, whether or not it was told to pause: a tenth of what an event of a stream takes."""

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Receiver(ReadsOn, ResponseHandler):
    """Of a provider's answers."""

    __slots__ = ()


def _receiver(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return Receiver(loop)


class Connector(aiohttp.TCPConnector):
    """Makes Receivers, on the event loop that runs."""

    def __init__(self) -> None:
        super().__init__(limit=0)  # calls are limited by limits, not by sockets
        self._factory = partial(_receiver, loop=self._loop)
