"""The clients' side of HTTP: aiohttp's low-level server, with answers of ours to what is no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web import BaseRequest, StreamResponse

logger = logging.getLogger(__name__)

Malformed = Callable[[str], web.Response]


class HttpServer(web.Server):
    """`malformed` makes the answer to a request that cannot be read, from the reason; `header_s` is how long a new
    connection may take for the head of its first request."""

    def __init__(
        self,
        handler: Callable[[BaseRequest], Awaitable[StreamResponse]],
        *,
        malformed: Malformed,
        header_s: float,
        **more: Any,
    ) -> None:
        super().__init__(handler, **more)
        self._malformed = malformed
        self._header_s = header_s

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._malformed, self._header_s, loop=self._loop, **self._kwargs)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_header_s", "_malformed", "_silence")

    def __init__(self, server: web.Server, malformed: Malformed, header_s: float, **more: Any) -> None:
        super().__init__(server, **more)
        self._malformed = malformed
        self._header_s = header_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # On a connection that was used already, the shorter of patience and keep-alive is the keep-alive's.
        self._silence = self._loop.call_later(self._header_s, self._end_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

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
        answer = self._malformed("a line of its head is too long" if too_long else "it is not valid HTTP/1.1")
        answer.force_close()
        return answer

    def _end_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()
