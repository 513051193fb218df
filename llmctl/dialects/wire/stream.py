"""The part of a stream reader that all dialects on server-sent events share: what to forward, and which events to read.

Most events carry a few letters of the answer and nothing that we need. They are passed on after a search for a few
words, without being cut out or parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

from ...domain.call import Reading
from .lenient import plain
from .sse import Event, Splitter

RETAINED_BYTES = 8 << 10  # of the beginning, for an estimate when no usage comes; more makes it no better

_BEGINNINGS = (b"data:", b"event:", b":")
_END = b"\n\n"
_ENDS = (_END, b"\r\n\r\n")
_NULLS = (b":null", b": null")


def begins_events(text: bytes) -> bool:
    """Whether this is the beginning of an event stream, whatever was announced."""
    return text.lstrip().startswith(_BEGINNINGS)


class Cutter(Protocol):
    """Takes chunks, gives whole events; `held` are the bytes of one that has not ended."""

    @property
    def held(self) -> int: ...

    def feed(self, chunk: bytes) -> list[Event]: ...

    def close(self) -> list[Event]: ...


def objects_in(stream: bytes, cutter: Cutter) -> Iterator[dict[str, Any]]:
    """What the events of a stream hold; nothing for one that holds no object."""
    return (plain(event.data) for event in cutter.feed(stream) + cutter.close())


class SseReader:
    """Base of the readers. A dialect says which words make an event worth reading, and reads it in `take`."""

    end_words: tuple[bytes, ...]  # of the last events, beside `usage` and `error`
    output_mark: re.Pattern[bytes]  # generated output

    def __init__(self, *, strip: bool = False) -> None:
        self.first_output = False
        self._strip = strip
        self._splitter: Cutter = Splitter()
        self._is_between = True  # no event has begun that has not ended
        self._beginning: list[bytes] = []
        self._beginning_bytes = 0
        self._bytes = 0
        self._oversized = False

    def take(self, event: Event) -> bool:
        """Reads an event that may matter. True: it is not to be forwarded."""
        raise NotImplementedError

    def result(self, beginning: bytes, share: float) -> Reading:
        """The reading at the end. `beginning`: the stream's first bytes, `share` of it."""
        raise NotImplementedError

    def feed(self, chunk: bytes) -> bytes:
        self._bytes += len(chunk)
        if self._beginning_bytes < RETAINED_BYTES:
            self._retain(chunk)
        between = self._is_between
        passed = chunk[: self._unread_bytes(chunk)] if between else b""
        if passed:
            self.first_output = self.first_output or self.output_mark.search(passed) is not None
            if len(passed) == len(chunk):
                return chunk
        events = self._splitter.feed(chunk[len(passed) :] if passed else chunk)
        self._is_between = not self._splitter.held
        kept = self._take_all(events)
        if not self._strip or (between and self._is_between and len(kept) == len(events)):
            return chunk
        return passed + b"".join(kept)

    def close(self) -> bytes:
        rest = b"".join(self._take_all(self._splitter.close()))
        return rest if self._strip else b""

    def reading(self) -> Reading:
        beginning = b"".join(self._beginning)
        return self.result(beginning, len(beginning) / self._bytes if self._bytes else 1.0)

    def read(self, text: bytes) -> Reading:
        """The reading of a stream that is there as a whole."""
        self.feed(text)
        self.close()
        return self.reading()

    @property
    def oversized(self) -> bool:
        """An event was too long to be read."""
        return self._oversized

    def _take_all(self, events: list[Event]) -> list[bytes]:
        """Reads the events that matter; the bytes of those to forward."""
        kept = []
        for event in events:
            self.first_output = self.first_output or self.output_mark.search(event.raw) is not None
            if event.oversized:
                self._oversized = True
            elif self._first_word(event.raw) < len(event.raw) and self.take(event):
                continue
            kept.append(event.raw)
        return kept

    def _unread_bytes(self, chunk: bytes) -> int:
        """How many bytes of it, from its beginning, are whole events that do not matter."""
        first = self._first_word(chunk)
        if first == len(chunk) and chunk.endswith(_ENDS):
            return first
        end = chunk.rfind(_END, 0, first)
        # Of three line ends in a row, the first two are the event's: better not cut here.
        return 0 if end <= 0 or chunk.startswith(b"\n", end - 1) else end + len(_END)

    def _first_word(self, raw: bytes) -> int:
        """Where the first word stands that makes an event worth reading; its length if there is none."""
        # `find`: `in` asks first whether the word is a number, which takes longer than to look for it.
        first = len(raw)
        for word in self.end_words:
            found = raw.find(word, 0, first)
            first = found if found >= 0 else first
        first = _first_stated(raw, b'"usage"', first)
        if raw.find(b"error", 0, first) < 0:  # as in most
            return first
        first = _first_stated(raw, b'"error"', first)
        found = 0 if raw.startswith(b"error:") else raw.find(b"\nerror:", 0, first)
        return found if found >= 0 else first

    def _retain(self, chunk: bytes) -> None:
        piece = chunk[: RETAINED_BYTES - self._beginning_bytes]
        self._beginning.append(piece)
        self._beginning_bytes += len(piece)


def _first_stated(raw: bytes, name: bytes, end: int) -> int:
    """Where this name stands first, before `end`, with something else than null: some servers write it into every
    event."""
    found = raw.find(name, 0, end)
    while found >= 0 and raw.startswith(_NULLS, found + len(name)):
        found = raw.find(name, found + 1, end)
    return found if found >= 0 else end
