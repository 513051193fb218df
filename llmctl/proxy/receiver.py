"""How our connections to providers read on: as aiohttp's, without its work for each piece that was taken."""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Receiver(ResponseHandler):
    """aiohttp's streams ask for more after each piece that is taken from them, and its protocols then parse nothing and
    talk to the transport, whether or not they had paused: a tenth of what an event of a stream takes.

    One that has paused does as aiohttp does from then on: its parser may hold what came after, also when the reading
    itself goes on, and only asking parses that.
    """

    __slots__ = ("_has_paused",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._has_paused = False

    def pause_reading(self) -> None:
        self._has_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._has_paused:
            super().resume_reading(resume_parser)


def _receiver(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return Receiver(loop)


class Connector(aiohttp.TCPConnector):
    """Makes Receivers, on the event loop that runs."""

    def __init__(self) -> None:
        super().__init__(limit=0)  # calls are limited by limits, not by sockets
        self._factory = partial(_receiver, loop=self._loop)
