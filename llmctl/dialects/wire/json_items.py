"""The objects of a JSON list that comes in pieces, cut out without changing a byte."""

from __future__ import annotations

import re

from .sse import EVENT_BYTES_MAX, Event

_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["{}]')


class Item(Event):
    """An object of the list; what stands between two belongs to the later one's `raw`."""

    __slots__ = ()

    @property
    def data(self) -> bytes:
        start = self.raw.find(b"{")
        return self.raw[start:] if start > 0 else self.raw

    @property
    def name(self) -> bytes:
        return b""

    @property
    def error(self) -> bytes:
        return b""


class ItemSplitter:
    """Takes chunks, gives whole items. Lists need not be counted: between braces they come out even."""

    __slots__ = ("_depth", "_held", "_in_string", "_oversized", "_position")

    def __init__(self) -> None:
        self._held = bytearray()
        self._position = 0  # up to here `_held` is looked through
        self._depth = 0
        self._in_string = False
        self._oversized = False

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, chunk: bytes) -> list[Event]:
        self._held += chunk
        held, position, start = self._held, self._position, 0
        items: list[Event] = []
        while found := (_IN_STRING if self._in_string else _OUTSIDE).search(held, position):
            mark, position = found[0], found.end()
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                if position == len(held):  # what it escapes has not come yet
                    position -= 1
                    break
                position += 1
            elif mark == b"{":
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    items.append(Item(bytes(held[start:position]), self._oversized or position > EVENT_BYTES_MAX))
                    self._oversized, start = False, position
        else:
            position = len(held)
        if position - start > EVENT_BYTES_MAX:
            items.append(Item(bytes(held[start:position]), oversized=True))
            self._oversized, start = True, position
        del held[:start]
        self._position = position - start
        return items

    def close(self) -> list[Event]:
        """What is left behind the last whole item."""
        items: list[Event] = [Item(bytes(self._held), self._oversized)] if self._held else []
        self._held = bytearray()
        return items
