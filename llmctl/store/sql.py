"""Whole batches in one statement, however many rows: each step of SQLite gives the interpreter's lock away and has to
win it back from a busy event loop.

`as_json` passes rows as one parameter to `... FROM json_each(?)`. A `Bulk` binds each value by itself, which takes half
as long (measured for 32 rows of 16 columns: 4 us a row instead of 10), but needs a statement per size.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

# `sqlite3` looks in vain for how each None wants to be stored, which takes five times as long as to store it.
sqlite3.register_adapter(type(None), lambda none: none)

T = TypeVar("T")
ROWS_MAX = 512  # in one statement: SQLite takes 32,766 values
FEW_ROWS = 8  # up to which each size has a statement of its own
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


class Bulk(ABC):
    """One statement for many rows: a few as they are, more filled up with rows that begin with NULL, so that few
    statements serve all sizes."""

    def __init__(self, width: int) -> None:
        self._row = f"({', '.join('?' * width)})"
        self._filling = (None, *repeat(0, width - 1))  # NULLs are slow to bind
        self._by_size: dict[int, str] = {}

    @abstractmethod
    def _statement(self, values: str, *, filled: bool) -> str:
        """`values`: the rows, of `column1` and so on; `filled`: some may be no rows."""

    def execute(self, tx: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> int:
        """Returns how many rows of the database were changed."""
        count = len(rows)
        if not count:
            return 0
        if count > ROWS_MAX:
            return sum(self.execute(tx, rows[at : at + ROWS_MAX]) for at in range(0, count, ROWS_MAX))
        size = _size_for(count)
        sql = self._by_size.get(size)
        if sql is None:
            values = f"VALUES {', '.join([self._row] * size)}"
            sql = self._by_size[size] = self._statement(values, filled=size > FEW_ROWS)
        missing = repeat(self._filling, size - count)
        return tx.execute(sql, [*chain.from_iterable(chain(rows, missing))]).rowcount


class BulkInsert(Bulk):
    """`condition`: which rows are put in, of `column1` and so on."""

    def __init__(
        self, table: str, columns: Sequence[str], *, verb: str = "INSERT", conflict: str = "", condition: str = ""
    ) -> None:
        super().__init__(len(columns))
        self._into = f"{verb} INTO {table} ({', '.join(columns)})"
        self._conflict = conflict
        self._condition = condition

    def _statement(self, values: str, *, filled: bool) -> str:
        conditions = [one for one in ("column1 IS NOT NULL" if filled else "", self._condition) if one]
        rows = f"SELECT * FROM ({values}) WHERE {' AND '.join(conditions)}" if conditions else values
        return f"{self._into} {rows} {self._conflict}"


class BulkUpdate(Bulk):
    """The first column says which row; `changes` and `condition` are the same for all."""

    def __init__(self, table: str, columns: Sequence[str], *, changes: str = "", condition: str = "true") -> None:
        super().__init__(len(columns))
        key, *others = columns
        changed = ", ".join(f"{name} = j.column{place}" for place, name in enumerate(others, 2))
        self._update = f"UPDATE {table} SET {changes}{changed}"
        self._where = f"WHERE {table}.{key} = j.column1 AND {condition}"
        # One row needs no table of rows, which takes half of the time.
        one = ", ".join(f"{name} = ?{place}" for place, name in enumerate(others, 2))
        self._by_size[1] = f"UPDATE {table} SET {changes}{one} WHERE {key} = ?1 AND {condition}"

    def _statement(self, values: str, *, filled: bool) -> str:
        return f"{self._update} FROM ({values}) AS j {self._where}"  # a NULL is no row's key


class BulkDelete(Bulk):
    """The rows with these values of the columns."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        super().__init__(len(columns))
        self._delete = f"DELETE FROM {table} WHERE ({', '.join(columns)})"

    def _statement(self, values: str, *, filled: bool) -> str:
        # A NULL is equal to no row. Of a bare VALUES with several columns SQLite makes no use of an index.
        return f"{self._delete} IN (SELECT * FROM ({values}))"


def _size_for(count: int) -> int:
    """How many rows a statement for so many has: of four sizes up to each power of two."""
    step = 1 if count <= FEW_ROWS else 1 << (count - 1).bit_length() - 3
    return -(-count // step) * step
