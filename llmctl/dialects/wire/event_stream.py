"""Frames of AWS's binary event streams (application/vnd.amazon.eventstream), cut out of a byte stream.

https://smithy.io/2.0/aws/amazon-eventstream.html: lengths of the frame and of its headers and a CRC of these two, the
headers, the payload, a CRC of all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

CONTENT_TYPE = "application/vnd.amazon.eventstream"
FRAME_BYTES_MAX = (24 << 20) + (128 << 10) + 16  # 24 MB of payload, 128 KB of headers

_PRELUDE = struct.Struct("!III")
_CRC = struct.Struct("!I")
_OVERHEAD_BYTES = _PRELUDE.size + _CRC.size
# Types of header values by number: bytes of the value; None: its length stands before it, in two.
_VALUE_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, 7: None, 8: 8, 9: 16}
_STRING = 7


class Damaged(Exception):
    """What came is no frame, or was changed on its way: nothing after it can be read."""


class Frame(NamedTuple):
    """`kind`: event, exception or error; `name`: of the event, the exception or the error."""

    kind: str
    name: str
    payload: bytes


class FrameSplitter:
    """Takes chunks, gives whole frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._held)

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Raises Damaged."""
        self._held += chunk
        start = 0
        while (size := self._size(start)) and start + size <= len(self._held):
            frame = bytes(self._held[start : start + size])
            start += size
            yield _frame(frame)
        del self._held[:start]

    def _size(self, start: int) -> int:
        """Of the frame that begins at `start`; 0 if that is not known yet."""
        if len(self._held) - start < _PRELUDE.size:
            return 0
        size, headers_size, crc = _PRELUDE.unpack_from(self._held, start)
        if zlib.crc32(self._held[start : start + 8]) != crc:
            raise Damaged("the lengths of a frame do not fit their checksum")
        if not _OVERHEAD_BYTES + headers_size <= size <= FRAME_BYTES_MAX:
            raise Damaged("a frame of an impossible length")
        return int(size)


def _frame(frame: bytes) -> Frame:
    if zlib.crc32(frame[: -_CRC.size]) != _CRC.unpack_from(frame, len(frame) - _CRC.size)[0]:
        raise Damaged("a frame does not fit its checksum")
    headers_end = _PRELUDE.size + _PRELUDE.unpack_from(frame)[1]
    headers = _headers(frame[_PRELUDE.size : headers_end])
    kind = headers.get(":message-type", "event")
    name = headers.get({"exception": ":exception-type", "error": ":error-code"}.get(kind, ":event-type"), "")
    return Frame(kind, name, frame[headers_end : -_CRC.size])


def _headers(block: bytes) -> dict[str, str]:
    """Those that are strings."""
    headers, position = {}, 0
    try:
        while position < len(block):
            name_end = position + 1 + block[position]
            kind, value_start = block[name_end], name_end + 1
            size = _VALUE_BYTES[kind]
            if size is None:
                size = int.from_bytes(block[value_start : value_start + 2])
                value_start += 2
            if kind == _STRING:
                name = block[position + 1 : name_end].decode("utf-8", "replace")
                headers[name] = block[value_start : value_start + size].decode("utf-8", "replace")
            position = value_start + size
    except (IndexError, KeyError):
        raise Damaged("headers of a frame that cannot be read") from None
    return headers
