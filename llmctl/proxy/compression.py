"""Reading compressed answers beside their way: metering needs plain bytes, whatever the client accepts."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import brotli  # type: ignore[import-untyped]  # it ships no types

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES_MAX = 64 << 20  # of plain bytes at once: what packs more into one piece is a bomb, and counts as unreadable


class Unreadable(Exception):
    """What came is not what its encoding says, or is a bomb."""


class Decoder(Protocol):
    def feed(self, data: bytes) -> bytes:
        """The plain bytes that are known now. Raises Unreadable."""


class _Plain:
    """The plain bytes of one piece, over all its members or frames."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.room = PIECE_BYTES_MAX + 1  # never 0, which means without end

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.room -= len(part)
        if self.room <= 0:
            raise Unreadable("too much in one piece")

    def whole(self) -> bytes:
        return b"".join(self._parts)


class _Zlib:
    """gzip, also of several members one after another, and deflate with its header or (as some send it) without."""

    def __init__(self, *, gzip: bool) -> None:
        self._wbits = 16 + zlib.MAX_WBITS if gzip else None
        self._decoder: zlib._Decompress | None = zlib.decompressobj(self._wbits) if self._wbits else None

    def feed(self, data: bytes) -> bytes:
        plain = _Plain()
        try:
            while data:
                if self._decoder is None:
                    headed = data[0] & 0x0F == zlib.DEFLATED  # RFC 1950, 2.2
                    self._decoder = zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)
                elif self._decoder.eof:
                    if self._wbits is None or data[:1] != b"\x1f":
                        return plain.whole()  # padding
                    self._decoder = zlib.decompressobj(self._wbits)
                plain.add(self._decoder.decompress(data, plain.room))
                data = self._decoder.unused_data
        except zlib.error as error:
            raise Unreadable(str(error)) from None
        return plain.whole()


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        try:
            plain: bytes = self._decoder.process(data, output_buffer_limit=PIECE_BYTES_MAX)
            more = not self._decoder.can_accept_more_data()
        except brotli.error as error:
            raise Unreadable(str(error)) from None
        if len(plain) > PIECE_BYTES_MAX or (more and not self._decoder.is_finished()):
            raise Unreadable("too much in one piece")
        return plain


class _Zstd:
    """Frames one after another."""

    def __init__(self) -> None:
        self._decoder: Any = zstd.ZstdDecompressor()

    def feed(self, data: bytes) -> bytes:
        plain = _Plain()
        try:
            while data:
                if self._decoder.eof:
                    self._decoder = zstd.ZstdDecompressor()
                plain.add(self._decoder.decompress(data, plain.room))
                data = self._decoder.unused_data
        except zstd.ZstdError as error:
            raise Unreadable(str(error)) from None
        return plain.whole()


# RFC 9110, 8.4.1; RFC 7932; RFC 8878
_DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "x-gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}
ENCODINGS = ("gzip", "deflate", "br", "zstd")  # what a provider may send


def is_plain(encoding: str) -> bool:
    return encoding in ("", "identity")


def decoder(encoding: str) -> Decoder | None:
    """For one answer in this content-encoding; None: nobody here can read it."""
    make = _DECODERS.get(encoding)
    return make() if make is not None else None


def decoded(body: bytes, encoding: str) -> bytes:
    """The plain bytes of a whole body; empty where it cannot be read."""
    if is_plain(encoding):
        return body
    one = decoder(encoding)
    if one is None:
        return b""
    try:
        return one.feed(body)
    except Unreadable:
        return b""
