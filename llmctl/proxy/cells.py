"""Counters in memory that all workers share: each writes its own block, whoever is scraped reads all of them.

A block outlives its worker: the one that is started in its place counts on where it ended, so that a sum over all
blocks is exact after a death too, and never goes backwards. Adding is as cheap as with a list; nothing is locked,
because each cell has one writer, and whole numbers of 64 bits are written in one piece.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import msgspec

CELLS = 16_384
NAMES_BYTES = 1 << 20  # as much as is used of it takes memory, no more
BLOCK_BYTES = CELLS * 8 + NAMES_BYTES

Series = tuple[str, ...]  # a family and the values of its labels

_decoder = msgspec.json.Decoder(tuple[int, Series])


def shared_memory(workers: int) -> list[memoryview]:
    """Of each worker a block; made before they are started, and theirs too."""
    memory = memoryview(mmap.mmap(-1, workers * BLOCK_BYTES))
    return [memory[number * BLOCK_BYTES :][:BLOCK_BYTES] for number in range(workers)]


class Block:
    """One worker's counters. `cells[place]` is the first of a series, `cells[place + 1]` its second, and so on."""

    def __init__(self, memory: memoryview) -> None:
        """With what is in it."""
        self.cells = memory[: CELLS * 8].cast("q")
        self._names = memory[CELLS * 8 :]
        self._places: dict[Series, int] = {}
        self._next = 1  # the first cell says how many bytes of names count
        for width, series in _names(self.cells, self._names):
            self._places[series] = self._next
            self._next += width

    def place(self, series: Series, width: int = 1) -> int | None:
        """Where a series is counted, from now on if it was not; None: there is no room."""
        found = self._places.get(series)
        if found is not None:
            return found
        name = msgspec.json.encode((width, series)) + b"\n"
        used = self.cells[0]
        if self._next + width > CELLS or used + len(name) > NAMES_BYTES:
            return None
        self._names[used : used + len(name)] = name
        self.cells[0] = used + len(name)  # only now is it there
        self._places[series] = place = self._next
        self._next += width
        return place


class Names:
    """The series of one family in all blocks."""

    def __init__(self, blocks: Sequence[memoryview], family: str) -> None:
        self._blocks = [(memory[: CELLS * 8].cast("q"), memory[CELLS * 8 :]) for memory in blocks]
        self._read = [0] * len(blocks)  # bytes of each block's names: they only become more
        self._family = family
        self._found: set[Series] = set()

    def now(self) -> set[Series]:
        """Without the family. Of names that were there before, nothing is read again."""
        for number, (cells, names) in enumerate(self._blocks):
            read, self._read[number] = self._read[number], cells[0]
            if read < self._read[number]:
                added = _decoded(names[read : self._read[number]])
                self._found.update(series[1:] for _, series in added if series[0] == self._family)
        return self._found


def sums(blocks: Sequence[memoryview]) -> dict[Series, list[int]]:
    """Every series, over all blocks."""
    found: dict[Series, list[int]] = {}
    for memory in blocks:
        cells, place = memory[: CELLS * 8].cast("q"), 1
        for width, series in _names(cells, memory[CELLS * 8 :]):
            counted = cells[place : place + width].tolist()
            place += width
            before = found.get(series)
            found[series] = counted if before is None else [a + b for a, b in zip(before, counted, strict=True)]
    return found


def _names(cells: memoryview, names: memoryview) -> list[tuple[int, Series]]:
    return _decoded(names[: cells[0]])


def _decoded(names: memoryview) -> list[tuple[int, Series]]:
    return [_decoder.decode(line) for line in bytes(names).splitlines()]
