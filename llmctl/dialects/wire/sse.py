"""Server-sent events, cut out of a byte stream without changing a byte.

The rules of https://html.spec.whatwg.org/multipage/server-sent-events.html, and what recorded streams do beside them:
chunks end anywhere, CRLF and CR end lines too, the last blank line may be missing.
"""

from __future__ import annotations

import re

EVENT_BYTES_MAX = 16 << 20  # answers with images as base64 in one event; a longer one passes unread

_CR = 13
_BOM = b"\xef\xbb\xbf"
# A line's end and an empty line. Atomic: CRLF is one end, never a CR and an LF.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_END_BYTES_MAX = 4


class Event:
    """One event: `raw` with its blank line, as it came. `oversized`: a piece of an event too long to be read."""

    __slots__ = ("oversized", "raw")

    def __init__(self, raw: bytes, oversized: bool = False) -> None:
        self.raw = raw
        self.oversized = oversized

    @property
    def data(self) -> bytes:
        """The lines of `data`, joined; empty for comments."""
        raw = self.raw
        if raw.startswith(b"data: "):
            end = raw.find(b"\n")
            if end >= len(raw) - 2 and _CR not in raw:
                return raw[6:end] if end > 0 else raw[6:]
            if end == len(raw) - 3 and raw.endswith(b"\r\n\r\n") and raw.count(b"\r") == 2:
                return raw[6:-4]
        return b"\n".join(self._values(b"data"))

    @property
    def name(self) -> bytes:
        return (self._values(b"event") or [b""])[-1]

    @property
    def error(self) -> bytes:
        """`error: {...}` is no field of the standard; some servers write it."""
        return b"\n".join(self._values(b"error"))

    def _values(self, field: bytes) -> list[bytes]:
        values = []
        for line in self.raw.removeprefix(_BOM).splitlines():
            name, _, value = line.partition(b":")
            if name == field:
                values.append(value.removeprefix(b" "))
        return values


class Splitter:
    """Takes chunks, gives whole events. All `raw` together are the bytes that went in."""

    __slots__ = ("_carriage_returns", "_held", "_oversized")

    def __init__(self) -> None:
        self._held = bytearray()
        self._oversized = False
        self._carriage_returns = False  # seen: lines end otherwise than in LF

    @property
    def held(self) -> int:
        """Bytes of an event that has not ended yet."""
        return len(self._held)

    def feed(self, chunk: bytes) -> list[Event]:
        self._carriage_returns = self._carriage_returns or _CR in chunk
        if self._held:
            search_from = max(0, len(self._held) - _END_BYTES_MAX + 1)
            self._held += chunk
            return self._cut(self._held, search_from)
        return self._cut(chunk, 0)

    def close(self) -> list[Event]:
        """What is left of an event without its blank line."""
        events = [Event(bytes(self._held), self._oversized)] if self._held else []
        self._held = bytearray()
        return events

    def _cut(self, buffer: bytes | bytearray, search_from: int) -> list[Event]:
        events: list[Event] = []
        start = 0
        while (end := self._end(buffer, search_from)) > 0:
            events.append(Event(bytes(buffer[start:end]), self._oversized or end - start > EVENT_BYTES_MAX))
            self._oversized = False
            start = search_from = end
        if self._oversized or len(buffer) - start > EVENT_BYTES_MAX:
            end = len(buffer) - _END_BYTES_MAX + 1
            if end > start:
                events.append(Event(bytes(buffer[start:end]), oversized=True))
                self._oversized = True
                start = end
        if start < len(buffer):
            if start or buffer is not self._held:
                self._held = bytearray(buffer[start:])
        elif self._held:
            self._held = bytearray()
        return events

    def _end(self, buffer: bytes | bytearray, search_from: int) -> int:
        """Where the event ends that is under way; -1 if its end is not there yet."""
        if not self._carriage_returns:
            found = buffer.find(b"\n\n", search_from)
            return found + 2 if found >= 0 else -1
        match = _END.search(buffer, search_from)
        if match is None or (match.end() == len(buffer) and buffer[-1] == _CR):  # its LF may still come
            return -1
        return match.end()
