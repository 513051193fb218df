"""Reading a client's body: bounded in size and time, one by one and together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import ClientConnectionError, StreamReader
from aiohttp.web import BaseRequest, RequestPayloadError
from multidict import istr

from llmctl.config.server import Server
from llmctl.dialects.wire.multipart import FormReader
from llmctl.domain.errors import Refused

from .uploads import Spool, Upload

# What a body may be sent in, and once.
PLAIN_CODINGS = ((istr("content-encoding"), "identity"), (istr("transfer-encoding"), "chunked"))
SMALL_BYTES_MAX = 64 << 10  # what aiohttp buffers of a connection anyway
# RuntimeError: aiohttp's reader, of a connection that closed before it was asked.
BROKEN_OFF = (RequestPayloadError, ClientConnectionError, OSError, RuntimeError)


class Inflight:
    """How many bytes of bodies are in memory: of all, and of each user."""

    __slots__ = ("by_user", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self.by_user: dict[int, int] = {}

    def add(self, user_id: int, size: int) -> None:
        """`size`: below 0 of what is no longer here."""
        self.bytes += size
        own = self.by_user[user_id] = self.by_user.get(user_id, 0) + size
        if not own:
            del self.by_user[user_id]

    def has_room(self, user_id: int, size: int, bytes_max: int) -> bool:
        """Whether `size` bytes of a body, which are counted by now, may stay and be more. A user's bodies may take as
        much room as they leave: however many somebody sends, or how slowly, another user finds some. A body alone may
        take all of it."""
        own, left = self.by_user[user_id], bytes_max - self.bytes
        return size <= SMALL_BYTES_MAX or own <= left or (own == size and left >= 0)


class BodyReader:
    """Reads bodies within `body_bytes_max` each and `body_bytes_inflight_max` together; each for the user whose key
    came with it."""

    def __init__(self, server: Server, inflight: Inflight) -> None:
        self._bytes_max = server.body_bytes_max
        self._inflight_max = server.body_bytes_inflight_max
        self._stall_s = server.timeouts.client_body_stall_s
        self._whole_s = server.timeouts.client_body_s_max
        self._inflight = inflight

    async def read(self, request: BaseRequest, user_id: int, *, plain: bool = False) -> bytes:
        """The whole body; `release` its size when the call is over. `plain`: its head says nothing of how it comes but
        its length. Raises Refused: too large, slow, packed, cut."""
        self._check(request, plain=plain)
        content = request.content
        if content.is_eof() and content.total_bytes == 0:
            return b""
        chunks: list[bytes] = []
        await self._take(content, user_id, chunks.append)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read_form(self, request: BaseRequest, user_id: int) -> Upload:
        """The same of a form, which is read while it comes, and close it too. Raises Refused."""
        kinds = request.headers.getall("content-type")
        reader, spool = FormReader(kinds[0] if len(kinds) == 1 else ""), Spool()

        async def take(chunk: bytes) -> None:
            reader.feed(chunk)
            try:
                await spool.add(chunk)
            except OSError:
                raise _no_space() from None

        self._check(request, plain=False)
        try:
            await self._take(request.content, user_id, take)
            try:
                return await spool.finish(reader.close())
            except BaseException:
                self.release(user_id, spool.size)
                raise
        except BaseException as error:
            spool.close()
            if isinstance(error, OSError):
                raise _no_space() from None
            raise

    def _check(self, request: BaseRequest, *, plain: bool) -> None:
        """What the head says, before anything is read."""
        for name, usual in () if plain else PLAIN_CODINGS:
            coding = ", ".join(request.headers.getall(name, (usual,))).lower()
            if coding != usual:  # aiohttp takes chunks apart, whatever else is named beside them
                raise Refused("bad_request", f"a body with {name} {coding!r}", hint="send it uncompressed")
        announced = request.content_length
        if announced is not None and announced > self._bytes_max:
            raise self._too_large()
        if plain:
            return
        if request.headers.get("expect", "").lower() == "100-continue" and request.transport is not None:
            # aiohttp's low-level server leaves this to its handler.
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _take(self, content: StreamReader, user_id: int, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Hands over what comes, piece by piece."""
        size = 0
        until_s = 0.0
        try:
            whole = False
            while not whole:
                if whole := content.is_eof():  # all of it is here: most bodies come with their headers
                    chunk = content.read_nowait()
                else:
                    now_s = time.monotonic()
                    until_s = until_s or now_s + self._whole_s
                    async with asyncio.timeout(min(self._stall_s, until_s - now_s)):
                        chunk = await content.readany()
                if not chunk:
                    break
                size += len(chunk)
                self._inflight.add(user_id, len(chunk))
                if size > self._bytes_max:
                    raise self._too_large()
                if not self._inflight.has_room(user_id, size, self._inflight_max):
                    raise Refused("overloaded", "too many large requests at once", hint="retry in a moment")
                if (waiting := take(chunk)) is not None:
                    await waiting
        except BaseException as error:
            self.release(user_id, size)
            if isinstance(error, TimeoutError):
                raise Refused("body_timeout", "the request body did not arrive in time", hint="send it again") from None
            if isinstance(error, BROKEN_OFF):
                raise Refused("bad_request", "the request body broke off", hint="send it again") from None
            raise

    def release(self, user_id: int, size: int) -> None:
        """A body of this many bytes is no longer here."""
        self._inflight.add(user_id, -size)

    def _too_large(self) -> Refused:
        return Refused(
            "body_too_large",
            f"the request body is larger than {self._bytes_max:,} bytes",
            hint="send less, or ask your admin to raise body_bytes_max",
        )


def is_form(request: BaseRequest) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/")


def _no_space() -> Refused:
    return Refused("overloaded", "the gateway has no space for this upload", hint="retry in a moment")
