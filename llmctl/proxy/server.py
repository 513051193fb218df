"""HTTP as clients and the admin meet it: aiohttp's low-level server, with answers of ours to what is no HTTP, and with
bounds on who may have how many connections, and for how long without a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web import BaseRequest, StreamResponse

from llmctl.config.server import Server
from llmctl.domain.network import address_of, is_within

from .client import ClientAnswer

if TYPE_CHECKING:
    from .heads import Head

logger = logging.getLogger(__name__)

Handle = Callable[[BaseRequest], Awaitable[StreamResponse]]
Malformed = Callable[[str], web.Response]

# Nobody has asked for anything yet: the shortest that every client understands.
VERSIONS = (HttpVersion11, HttpVersion10)
CROWDED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpServer(web.Server):
    """`malformed` makes the answer to a request that cannot be read, from the reason."""

    def __init__(
        self,
        handler: Handle,
        *,
        malformed: Malformed,
        server: Server,
        crowded: Callable[[], None],
        **more: Any,
    ) -> None:
        """`crowded` is told of each connection that is one too many."""

        async def refuse() -> StreamResponse:
            return _as_http_1_1(malformed("its version is neither HTTP/1.1 nor HTTP/1.0"))

        def checked(request: BaseRequest) -> Awaitable[StreamResponse]:
            """aiohttp's parser takes others too, and answers in them: "HTTP/0.9 404 Not Found"."""
            return handler(request) if request.version in VERSIONS else refuse()

        super().__init__(checked, **more)
        self.crowded = crowded
        self.malformed = malformed
        self.crowd = Crowd(server)
        self.configure(server)

    def configure(self, server: Server) -> None:
        """For connections from now on."""
        self.header_s = server.timeouts.client_header_s
        self._kwargs["keepalive_timeout"] = server.timeouts.client_idle_s
        self.crowd.configure(server)

    def __call__(self) -> web.RequestHandler:
        return Connection(self, None, loop=self._loop, **self._kwargs)

    def let_in(self, host: str) -> Connection | None:
        """One that counts before it is made. None: it is one too many."""
        if self.crowd.enter(host):
            return Connection(self, host, loop=self._loop, **self._kwargs)
        self.crowd.leave(host)
        self.crowded()
        return None


class Crowd:
    """How many connections there are, in all and from each address."""

    def __init__(self, server: Server) -> None:
        self._count = 0
        self._by_address: dict[str, int] = {}
        self.configure(server)

    def configure(self, server: Server) -> None:
        self._max = server.connections_max
        self._per_address_max = server.connections_per_address_max
        self._trusted = server.trusted_proxies.networks

    def enter(self, address: str) -> bool:
        """Whether one more is let in; each that enters, also in vain, leaves once."""
        self._count += 1
        there = self._by_address[address] = self._by_address.get(address, 0) + 1
        if self._count > self._max:
            return False
        return there <= self._per_address_max or not address or is_within(address_of(address), self._trusted)

    def leave(self, address: str) -> None:
        self._count -= 1
        there = self._by_address[address] - 1
        if there:
            self._by_address[address] = there
        else:
            del self._by_address[address]


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_counted", "_host", "_http", "_silence", "head")

    def __init__(self, server: HttpServer, host: str | None, **more: Any) -> None:
        """`host`: of one that counts already."""
        super().__init__(server, **more)
        self.head: Head | None = None  # of its last request
        self._http = server
        self._host = host or ""
        self._counted = host is not None
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # On a connection that was used already, the shorter of patience and keep-alive is the keep-alive's.
        self._silence = self._loop.call_later(self._http.header_s, self._end_if_silent)
        if self._counted:
            return
        self._host = host_of(transport.get_extra_info("peername"))
        if not self._http.crowd.enter(self._host) and self.transport is not None:
            self._http.crowded()
            self.transport.write(CROWDED)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self._silence is not None
        self._silence.cancel()
        self._http.crowd.leave(self._host)
        super().connection_lost(exc)

    def leave_unless_made(self) -> None:
        """Of one that counted before it was made, and may never have been."""
        if self._silence is None:
            self._http.crowd.leave(self._host)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """aiohttp's own logs the line that it could not read, and sends it back: with the key or the prompt in it."""
        if status >= 500:
            logger.error("an answer could not be sent: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way: the connection is cut")
        too_long = isinstance(exc, LineTooLong)
        answer = self._http.malformed("a line of its head is too long" if too_long else "it is not valid HTTP/1.1")
        answer.force_close()
        return answer

    def _end_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()


def host_of(peer: object) -> str:
    """Of a socket's address; empty: it is no host's."""
    return str(peer[0]) if isinstance(peer, (tuple, list)) else ""


def _as_http_1_1(response: web.Response) -> StreamResponse:
    """As bytes, and the last of its connection."""
    body = response.body
    assert isinstance(body, bytes)
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = (f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items()))
    return ClientAnswer(response.status, "\r\n".join((*lines, "", "")).encode() + body)
