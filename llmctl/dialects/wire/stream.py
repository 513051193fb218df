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
_STATED = (b'"usage"', b'"error"')  # worth reading, unless null: some servers write these into every event
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
        if between and chunk.endswith(_ENDS) and not self._matters(chunk):
            self.first_output = self.first_output or self.output_mark.search(chunk) is not None
            return chunk
        passed = chunk[: self._place_of_change(chunk)] if between else b""
        if passed:
            self.first_output = self.first_output or self.output_mark.search(passed) is not None
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
            elif self._matters(event.raw) and self.take(event):
                continue
            kept.append(event.raw)
        return kept

    def _matters(self, raw: bytes) -> bool:
        for word in self.end_words:
            if word in raw:
                return True
        if b'"usage"' not in raw and b"error" not in raw:  # of most events
            return False
        for word in _STATED:
            found = raw.find(word)
            while found >= 0:
                if not raw.startswith(_NULLS, found + len(word)):
                    return True
                found = raw.find(word, found + 1)
        return b"\nerror:" in raw or raw.startswith(b"error:")

    def _place_of_change(self, chunk: bytes) -> int:
        """Where its first event begins that may matter, or has not ended; 0 where that is not soon said."""
        if not 0 <= chunk.find(_END) < len(chunk) - len(_END) or b"\n\n\n" in chunk:  # one event, or odd ends
            return 0
        first = len(chunk)
        for word in (*self.end_words, *_STATED, b"error:"):
            place = chunk.find(word, 0, first)
            first = place if place >= 0 else first
        last_end = chunk.rfind(_END, 0, first)
        return last_end + len(_END) if last_end >= 0 else 0

    def _retain(self, chunk: bytes) -> None:
        piece = chunk[: RETAINED_BYTES - self._beginning_bytes]
        self._beginning.append(piece)
        self._beginning_bytes += len(piece)
