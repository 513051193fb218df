"""Connections to one provider: aiohttp's connector and HTTP parser, without its session between them and a call."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

from .headers import RawHeaders
from .uploads import Edited

# Shorter than the other side's, for one that it closes first costs a failed call. Without TLS it is a server of one's
# own, and these give up after 5 s (uvicorn, Node, cpp-httplib); a new connection to it costs next to nothing.
KEEPALIVE_S = 10.0
KEEPALIVE_PLAIN_S = 4.0
# A kept connection's, before its next request: long enough for a server that hangs up after its answer (llama.cpp after
# streams) and has a busy machine. Costs some more connections, no time.
REST_S = 0.02
INTERIM_ANSWERS_MAX = 16  # "100 Continue" and its kind, before the one that counts
FIELD_BYTES_MAX = 64 << 10
READ_BUFFER_BYTES = 64 << 10
ONE_PIECE_BYTES_MAX = 128 << 10  # head and body of a request are joined up to here, and sent at once


class ConnectionBroken(Exception):
    """The provider ended the connection, or answered with what is no HTTP."""


def let_go(error: BaseException) -> None:
    """Of an error that was dealt with. aiohttp's streams and futures keep what they raised, it keeps its traceback, and
    that keeps them and all of the call: a circle, that only the garbage collector would open."""
    told: BaseException | None = error
    while told is not None:
        told.__traceback__ = None
        told = told.__cause__ or told.__context__


class Outgoing(Struct, eq=False):
    """A request as bytes; with an `upload`, that is its body. `sent_at_s`: when it began to leave, by the monotonic
    clock; None: nothing of it has left."""

    head: bytes
    body: bytes
    upload: Edited | None = None
    sent_at_s: float | None = None

    __repr__ = object.__repr__  # our credential must not slip into a log or a traceback


class ProviderAnswer:
    """A provider's answer, whose head has come. `content` is its body, as it comes."""

    __slots__ = ("_connection", "content", "headers", "raw_headers", "status")

    def __init__(
        self,
        status: int,
        headers: CIMultiDictProxy[str],
        raw_headers: RawHeaders,
        content: StreamReader,
        connection: KeptConnection,
    ) -> None:
        self.status = status
        self.headers = headers
        self.raw_headers = raw_headers
        self.content = content
        self._connection: KeptConnection | None = connection
        content.on_eof(self._whole)

    async def whole(self, bytes_max: int) -> bytes | None:
        """All of its body; None if it broke off, or has no end."""
        body = b""
        try:
            while len(body) <= bytes_max:
                chunk = await self.content.readany()
                if not chunk:
                    return body
                body += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            let_go(error)
        return None

    def close(self) -> None:
        """Cuts what has not come yet; the connection of an answer that is whole has been given back already."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self.content.set_exception(aiohttp.ClientConnectionError("closed"))
            connection.close()

    def _whole(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.give_back()


class KeptConnection:
    """One connection, for one request at a time."""

    __slots__ = ("_connection", "_content", "_half_sent", "_pool", "_protocol", "_transport", "since_s")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        assert connection.protocol is not None
        assert connection.transport is not None
        self._pool = pool
        self._connection = connection
        self._protocol: ResponseHandler = connection.protocol
        self._transport: asyncio.Transport = connection.transport
        self.since_s = 0.0
        self._half_sent = False  # answered before all was sent: what comes next would be taken for the rest
        self._content: aiohttp.StreamReader | None = None  # of the answer that came last
        if (closed := self._protocol.closed) is not None:
            closed.add_done_callback(self._lost)
        self._protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,  # bytes pass as they come
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
        )

    @property
    def is_usable(self) -> bool:
        """False if the provider hung up, or if something came after the last answer: it would be taken for the answer
        to the next request, and be handed to somebody whom it does not belong to."""
        return not (self._transport.is_closing() or self._protocol.should_close or self._half_sent)

    async def ask(self, outgoing: Outgoing) -> ProviderAnswer:
        """Raises aiohttp.ClientError, OSError, ConnectionBroken; the connection is closed then. Waits for ever: a timer
        for each piece of each answer would be dear, so the watch over all calls tells who waits too long."""
        protocol, body = self._protocol, outgoing.body
        sending: asyncio.Task[None] | None = None
        try:
            outgoing.sent_at_s = time.monotonic()
            if outgoing.upload is not None:
                self._transport.write(outgoing.head)
                sending = asyncio.create_task(self._send(outgoing.upload))
            elif len(body) <= ONE_PIECE_BYTES_MAX:
                self._transport.write(outgoing.head + body)
            else:
                self._transport.write(outgoing.head)
                self._transport.write(body)
            for _ in range(INTERIM_ANSWERS_MAX):
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    self._half_sent = sending is not None and not sending.done()
                    self._content = content
                    return ProviderAnswer(message.code, message.headers, message.raw_headers, content, self)
            raise ConnectionBroken("only interim answers")
        except HttpProcessingError as error:
            self.close()
            raise ConnectionBroken(type(error).__name__) from None
        except BaseException:
            self.close()
            raise
        finally:
            if sending is not None:
                sending.cancel()

    async def _send(self, upload: Edited) -> None:
        """As fast as the provider takes it. Whoever waits for the answer hears of what goes wrong."""
        try:
            async for piece in upload.pieces():
                self._transport.write(piece)
                await self._protocol._drain_helper()
        except (aiohttp.ClientError, OSError):  # it hung up, or the temporary file cannot be read
            self.close()

    def give_back(self) -> None:
        if self.is_usable and not self._transport.get_write_buffer_size():
            self._pool.keep(self)
        else:
            self.close()

    def close(self) -> None:
        self._connection.close()

    def _lost(self, closed: asyncio.Future[None]) -> None:
        """Garbage in the middle of an answer closes the connection, and aiohttp's parser in C forgets to tell who waits
        for the rest."""
        if not closed.cancelled():
            closed.exception()  # else it is logged as one that nobody looked at
        content = self._content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the answer broke off"))


class Pool:
    """The connections to one provider. They rest between two requests: providers that hang up after an answer do so a
    moment later, and a request that is sent into that moment is lost."""

    def __init__(self, connector: aiohttp.TCPConnector, base_url: URL, *, connect_s: float) -> None:
        self._connector = connector
        self._where = ClientRequest("GET", base_url, loop=asyncio.get_running_loop())
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, ceil_threshold=60)
        self._kept: deque[KeptConnection] = deque()
        self._keepalive_s = KEEPALIVE_S if base_url.scheme == "https" else KEEPALIVE_PLAIN_S

    def take(self) -> KeptConnection | None:
        """One that is there; None: there is none that has rested."""
        kept = self._kept
        while kept:
            rested_s = time.monotonic() - kept[0].since_s
            if rested_s < REST_S:
                break
            connection = kept.popleft()
            if rested_s < self._keepalive_s and connection.is_usable:
                return connection
            connection.close()
        return None

    async def connect(self) -> KeptConnection:
        """A new one. Raises TimeoutError, aiohttp.ClientConnectorError, OSError: nothing was sent."""
        return KeptConnection(self, await self._connector.connect(self._where, [], self._timeout))

    def keep(self, connection: KeptConnection) -> None:
        """For the next request."""
        connection.since_s = time.monotonic()
        self._kept.append(connection)

    def prune(self) -> None:
        """Closes those that nobody used for long."""
        oldest_s = time.monotonic() - self._keepalive_s
        while self._kept and self._kept[0].since_s < oldest_s:
            self._kept.popleft().close()

    def close(self) -> None:
        while self._kept:
            self._kept.popleft().close()
