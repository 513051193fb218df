"""Bytes from the provider to the client, with a reader beside them, for which the client leaving changes nothing."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from llmctl.domain.call import Reading

WHOLE_BYTES_MAX = 1 << 20  # an answer up to this size is sent in one piece, with its length
ANSWER_BYTES_MAX = 64 << 20  # beyond it a body that is not a stream passes, but is no longer kept for reading
UNREADABLE = "answer_unreadable"  # something was answered, and how much of it is not known


class AnswerReader(Protocol):
    """What a dialect reads from an answer while it passes."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes what came and returns what the client is to get now."""

    def close(self) -> tuple[bytes, Reading]:
        """The rest for the client, and what was read."""


class WholeReader:
    """An answer that is one JSON body: kept until it is whole."""

    def __init__(self, read_answer: Callable[[bytes], Reading], encoding: str) -> None:
        self._read_answer = read_answer
        self._encoding = encoding
        self._chunks: list[bytes] = []
        self._size = 0
        self._sent = 0

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= ANSWER_BYTES_MAX:
            self._chunks.append(chunk)
        if self._size <= WHOLE_BYTES_MAX:
            return b""
        if self._sent == 0:
            self._sent = self._size
            return b"".join(self._chunks)
        self._sent = self._size
        return chunk

    def close(self) -> tuple[bytes, Reading]:
        body = b"".join(self._chunks)
        rest = body if self._sent == 0 else b""
        plain = b"" if self._size > ANSWER_BYTES_MAX else decoded(body, self._encoding)
        if body and not plain:
            return rest, Reading(error=UNREADABLE)
        return rest, self._read_answer(plain)


class DecodingReader:
    """A compressed stream: the client gets the bytes as they came, the dialect's reader the plain ones."""

    def __init__(self, reader: AnswerReader, encoding: str) -> None:
        self._reader = reader
        self._decoder: zlib._Decompress | None = _decoder(encoding)

    def feed(self, chunk: bytes) -> bytes:
        if self._decoder is not None:
            try:
                self._reader.feed(self._decoder.decompress(chunk, ANSWER_BYTES_MAX))
            except zlib.error:
                self._decoder = None
        return chunk

    def close(self) -> tuple[bytes, Reading]:
        _, reading = self._reader.close()
        return b"", reading if self._decoder is not None else replace(reading, error=UNREADABLE)


class Client:
    """The client's side of one call. Once it is gone, or takes nothing for too long, writing is a no-op."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._status = 502
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._stream: web.StreamResponse | None = None
        self.gone = False
        # Some of the answer was not handed over. SDKs hang up at a stream's end mark: gone, and nothing missed.
        self.missed = False
        self.writing_since_s: float | None = None  # for the watch over stalled writes
        self.gone_since_s = 0.0

    @property
    def started(self) -> bool:
        return self._stream is not None

    @property
    def answer(self) -> web.StreamResponse:
        """For aiohttp, which wants one even where nobody is left to read it."""
        return self._stream or web.Response(status=self._status)

    def head(self, status: int, headers: CIMultiDict[str]) -> None:
        """What the answer will begin with."""
        self._status = status
        self._headers = headers

    async def start(self) -> None:
        """Sends the headers: a stream's client waits for them."""
        await self.write(b"")

    async def write(self, data: bytes) -> None:
        if self.gone:
            self.missed = True
            return
        self.writing_since_s = time.monotonic()
        try:
            if self._stream is None:
                self._stream = web.StreamResponse(status=self._status, headers=self._headers)
                await self._stream.prepare(self._request)
            if data:
                await self._stream.write(data)
        except (ConnectionError, aiohttp.ClientError):
            self.missed = True
            self.leave()
        finally:
            self.writing_since_s = None

    async def finish(self, rest: bytes) -> web.StreamResponse:
        """The end of a whole answer. An answer that fits is sent in one piece, with its length."""
        if self._stream is None and not self.gone:
            return web.Response(status=self._status, headers=self._headers, body=rest)
        if rest:
            await self.write(rest)
        if not self.gone and self._stream is not None:
            try:
                await self._stream.write_eof()
            except (ConnectionError, aiohttp.ClientError):
                self.leave()
        return self.answer

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            self.gone_since_s = time.monotonic()

    def check_connection(self) -> None:
        """Notices a client that left while nothing was written to it."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            self.leave()

    def abort(self) -> None:
        """Cuts the connection, so that a truncated answer never looks like a whole one."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()
        self.missed = True
        self.leave()


def decoded(body: bytes, encoding: str) -> bytes:
    """The plain bytes of a compressed body; empty where it cannot be read."""
    if encoding in ("", "identity"):
        return body
    decoder = _decoder(encoding)
    if decoder is None:
        return b""
    try:
        return decoder.decompress(body, ANSWER_BYTES_MAX)
    except zlib.error:
        return b""


def _decoder(encoding: str) -> zlib._Decompress | None:
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return zlib.decompressobj()
    return None


def masked(body: bytes, headers: CIMultiDict[str], secret: str) -> bytes:
    """An error body without our credential, which is taken out of `headers` too. A body that is compressed is unpacked
    for it, if it can be."""
    for name, value in list(headers.items()):
        if secret in value:
            headers[name] = value.replace(secret, "***")
    encoding = headers.get("content-encoding", "").strip().lower()
    plain = decoded(body, encoding) if body else body
    if encoding not in ("", "identity") and plain:
        del headers["content-encoding"]
        body = plain
    return body.replace(secret.encode(), b"***")
