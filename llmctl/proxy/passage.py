"""The bytes of an answer on their way from the provider to the client, with a reader beside them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
from msgspec import Struct

from llmctl.dialects.base import AnswerReader

from .call import Call
from .compression import Unreadable
from .connections import let_go
from .relay import Mask
from .watch import Flight


class Passage(Struct, eq=False):
    """Of one answer. It waits at aiohttp's stream in a future's place (`done`, `set_result`, `set_exception`), and
    takes what came by a callback: a task would have to be woken for each event."""

    _call: Call
    _flight: Flight
    _content: Any  # aiohttp's StreamReader: it has no words for who waits there, and whether it is empty
    _reader: AnswerReader
    _mask: Mask
    _streamed: bool
    _ended: asyncio.Future[tuple[str, bytes]] | None = None
    _slow: asyncio.Task[None] | None = None  # waits for the client to take what was written

    async def run(self) -> tuple[str, bytes]:
        """Until there are no more. Returns why the answer broke off, "" if it is whole; and what is left of it for the
        client, to go with its end."""
        if self._content.is_eof():  # most answers come in one piece
            end = self._take()
            assert end is not None
            return end
        if self._streamed and not self._content.total_bytes:
            self._flight.client.start()
        self._ended = asyncio.get_running_loop().create_future()
        self._go_on()
        try:
            return await self._ended
        finally:
            self._content._waiter = None
            if self._slow is not None:
                self._slow.cancel()

    def done(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        """Something came, or the end. What more comes at once is taken with it."""
        assert self._ended is not None
        self._ended.get_loop().call_soon(self._go_on)

    def set_exception(self, _: BaseException) -> None:
        """It broke off: taking says why."""
        self.set_result(None)

    def _go_on(self) -> None:
        ended = self._ended
        assert ended is not None
        if ended.done():
            return
        try:
            end = self._take()
        except Exception as error:  # a bug: it ends this call, and nobody waits for ever
            ended.set_exception(error)
            return
        if end is not None:
            ended.set_result(end)
        elif self._slow is None:
            self._flight.waiting_since_s = time.monotonic()
            self._content._waiter = self

    def _take(self) -> tuple[str, bytes] | None:
        """Passes what is there. Returns the end, if this was the last of it."""
        client, content = self._flight.client, self._content
        try:
            while self._slow is None:
                chunk = content.read_nowait()
                passed = self._read(chunk) if chunk else b""
                if content.at_eof():
                    return "", passed
                if passed:
                    if client.write(passed):
                        self._slow = asyncio.create_task(self._until_taken())
                elif self._streamed:
                    client.start()
                if not content._buffer:
                    break
        except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as error:
            let_go(error)
            silent = isinstance(error, TimeoutError)
            return self._flight.cut or ("provider_timeout" if silent else "provider_failed"), b""
        return None

    def _read(self, chunk: bytes) -> bytes:
        """What the client is to get of it now."""
        call = self._call
        if call.first_byte_s is None:
            call.first_byte_s = time.perf_counter()
        if call.kept is not None:
            call.kept.take(chunk)
        passed = self._mask.feed(self._reader.feed(chunk))
        if self._streamed and call.first_token_s is None and self._reader.first_output:
            call.first_token_s = time.perf_counter()
        return passed

    async def _until_taken(self) -> None:
        try:
            await self._flight.client.until_taken()
        finally:
            self._slow = None
            self._go_on()
