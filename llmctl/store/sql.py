"""Whole batches in one statement, however many rows: each step of SQLite gives the interpreter's lock away and has to
win it back from a busy event loop.

`as_json` passes rows as one parameter to `... FROM json_each(?)`. `Bulk` binds each value by itself, which is half the
work for wide rows (measured for 32 rows of 16 columns: 4 us a row instead of 10), but needs a statement per size.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

T = TypeVar("T")
ROWS_MAX = 512  # in one statement: SQLite takes 32,766 values
# A reading as steps: it yields statements, is sent their rows, and returns what they mean. So the same reading runs on
# the ledger's connection inside a transaction, and on the daemon's reader beside its event loop.
Reading = Generator[tuple[str, Sequence[object] | Mapping[str, object]], list[Any], T]


def run(tx: sqlite3.Connection, reading: Reading[T]) -> T:
    try:
        sql, parameters = next(reading)
        while True:
            sql, parameters = reading.send(tx.execute(sql, parameters).fetchall())
    except StopIteration as done:
        result: T = done.value
        return result


def as_json(rows: Sequence[object]) -> str:
    import msgspec  # late: most commands come without it, and start the sooner

    return msgspec.json.encode(rows).decode()


def from_json(text: str) -> list[list[int]]:
    """Rows of integers that came as one JSON value."""
    import msgspec

    return msgspec.json.decode(text, type=list[list[int]])


def picked(columns: Sequence[str]) -> str:
    """`value ->> 0 AS id, value ->> 1 AS ...`: the columns of a row that came through `as_json`."""
    return ", ".join(f"value ->> {place} AS {name}" for place, name in enumerate(columns))


class Bulk:
    """A statement over rows that it calls `{rows}`: `INSERT INTO ... SELECT ... FROM {rows} AS j WHERE j.id > 0`.

    Rows are filled up to a power of two, with rows of NULLs: few statements serve all sizes.
    """

    def __init__(self, columns: Sequence[str], statement: str) -> None:
        self._width = len(columns)
        self._names = ", ".join(f"column{place} AS {name}" for place, name in enumerate(columns, 1))
        self._statement = statement
        self._by_size: dict[int, str] = {}

    def execute(self, tx: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> int:
        """Returns how many rows of the database were changed."""
        if len(rows) > ROWS_MAX:
            return sum(self.execute(tx, rows[at : at + ROWS_MAX]) for at in range(0, len(rows), ROWS_MAX))
        size = 1 << (len(rows) - 1).bit_length()
        sql = self._by_size.get(size)
        if sql is None:
            values = ", ".join([f"({', '.join('?' * self._width)})"] * size)
            sql = self._statement.format(rows=f"(SELECT {self._names} FROM (VALUES {values}))")
            self._by_size[size] = sql
        missing = repeat(None, (size - len(rows)) * self._width)
        return tx.execute(sql, [*chain.from_iterable(rows), *missing]).rowcount
