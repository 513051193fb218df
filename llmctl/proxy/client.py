"""The client's side of a call: what it gets is written as bytes, and its leaving changes nothing else."""

from __future__ import annotations

import time
from functools import lru_cache
from http import HTTPStatus

import aiohttp
from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

BODILESS = (204, 304)  # RFC 9110, 6.4.1
LAST_CHUNK = b"0\r\n\r\n"
UNSENT_BYTES_MAX = 64 << 10  # of what was written to a client that takes it slowly; then its writer waits


class ClientAnswer(web.StreamResponse):
    """For aiohttp, which wants one from each handler, to write it: bytes that may have been written already."""

    def __init__(self, status: int, unwritten: bytes = b"", *, keep_alive: bool = False) -> None:
        # Not the base's __init__: it prepares headers and state, for each call, that nothing here reads.
        self._status = status
        self._unwritten = unwritten
        self._keeps_alive = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._keeps_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        unwritten, self._unwritten = self._unwritten, b""
        if unwritten:
            await request.writer.write(unwritten)
        return request.writer

    async def write_eof(self, data: object = b"") -> None:
        """All is written."""


class Client:
    """Once it is gone, or takes nothing for too long, writing is a no-op."""

    def __init__(self, http: web.BaseRequest) -> None:
        self._writer = http.writer
        self._connection = http.protocol
        self._status = 502
        self._headers = b""
        self._keep_alive = http.keep_alive
        self._chunked = http.version != HttpVersion10
        self.started = False  # the head is written
        self.gone = False
        # Some of the answer was not handed over. SDKs hang up at a stream's end mark: gone, and nothing missed.
        self.missed = False
        self.writing_since_s: float | None = None  # for the watch over stalled writes
        self.gone_since_s = 0.0

    @property
    def answer(self) -> ClientAnswer:
        """Of which nothing is left to write."""
        return ClientAnswer(self._status, keep_alive=self._keep_alive and not self.gone)

    def head(self, status: int, headers: bytes) -> None:
        """What the answer will begin with; `headers` are lines, each with its end."""
        self._status = status
        self._headers = headers

    def start(self) -> None:
        """Sends the head of an answer of unknown length: a stream's client waits for it."""
        if not self.started:
            self.write(b"")

    def write(self, data: bytes, *, last: bool = False) -> bool:
        """True: the client takes it slowly, `until_taken` is to be awaited before more is written."""
        if self.gone:
            self.missed = True
            return False
        if data and self._chunked:
            data = b"%x\r\n%b\r\n%b" % (len(data), data, LAST_CHUNK if last else b"")
        if not self.started:
            self.started = True
            if not self._chunked:
                self._keep_alive = False  # its end is the connection's
            data = self._head(b"Transfer-Encoding: chunked\r\n" if self._chunked else b"") + data
        return self._send(data)

    async def finish(self, rest: bytes) -> ClientAnswer:
        """The end of a whole answer. One of which nothing was sent yet goes in one piece, with its length."""
        missed, only_its_end = self.missed, self.started and not rest
        if not self.started and not self.gone:
            self.started = True
            slow = self._send(self._whole(rest))
        elif rest:
            slow = self.write(rest, last=True)
        else:
            slow = self._chunked and not self.gone and self._send(LAST_CHUNK)
        if slow:
            await self.until_taken()
        if only_its_end:
            self.missed = missed
        return self.answer

    async def until_taken(self) -> None:
        self.writing_since_s = time.monotonic()
        try:
            await self._writer.drain()
        except (ConnectionError, aiohttp.ClientError):
            self.missed = True
            self.leave()
        finally:
            self.writing_since_s = None

    def unsent(self, body: bytes) -> ClientAnswer:
        """A whole answer that another one may take the place of."""
        return self.answer if self.gone else ClientAnswer(self._status, self._whole(body), keep_alive=self._keep_alive)

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            self.gone_since_s = time.monotonic()

    def check_connection(self) -> None:
        """Notices a client that left while nothing was written to it."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            self.leave()

    def abort(self) -> None:
        """Cuts the connection, so that a truncated answer never looks like a whole one."""
        transport = self._connection.transport
        if transport is not None:
            transport.abort()
        self.missed = True
        self.leave()

    def _whole(self, body: bytes) -> bytes:
        length = b"" if self._status in BODILESS else b"Content-Length: %d\r\n" % len(body)
        return self._head(length) + body

    def _head(self, framing: bytes) -> bytes:
        old = not self._chunked
        kept = b"Connection: keep-alive\r\n" if old and self._keep_alive else b""
        connection = kept if self._keep_alive else b"Connection: close\r\n"
        return b"%b%b%b%b\r\n" % (_status_line(self._status, old=old), self._headers, framing, connection)

    def _send(self, data: bytes) -> bool:
        """Past aiohttp's writer, which would look once more at what is HTTP already."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            self.missed = True
            self.leave()
            return False
        transport.write(data)
        self._writer.output_size += len(data)
        return transport.get_write_buffer_size() > UNSENT_BYTES_MAX


@lru_cache(maxsize=256)
def _status_line(status: int, *, old: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # some providers' own
        phrase = ""
    return f"HTTP/1.{0 if old else 1} {status} {phrase}\r\n".encode()
