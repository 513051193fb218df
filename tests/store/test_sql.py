from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from llmctl.store.sql import FEW_ROWS, ROWS_MAX, BulkInsert, BulkUpdate

SIZES = [*range(1, 5 * FEW_ROWS), ROWS_MAX - 1, ROWS_MAX, ROWS_MAX + 1, 2 * ROWS_MAX + FEW_ROWS + 1]
INSERT = BulkInsert("facts", ["key", "word", "number"])
UPDATE = BulkUpdate("facts", ["key", "word", "number"], changes="changed = 1, ", condition="facts.changed = 0")


@pytest.fixture
def tx() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)) as connection:
        connection.execute(
            "CREATE TABLE facts (key INTEGER PRIMARY KEY, word TEXT, number INTEGER, changed INTEGER DEFAULT 0) STRICT"
        )
        yield connection


@pytest.mark.parametrize("count", SIZES)
def test_all_rows_are_written_and_no_others(tx: sqlite3.Connection, count: int) -> None:
    rows = [(key, None if key % 3 else f"w{key}", key * 7 or None) for key in range(count)]  # 0 is a key as any other
    assert INSERT.execute(tx, rows) == count
    assert tx.execute("SELECT key, word, number FROM facts ORDER BY key").fetchall() == rows


@pytest.mark.parametrize("count", SIZES)
def test_the_rows_named_are_changed_and_counted(tx: sqlite3.Connection, count: int) -> None:
    INSERT.execute(tx, [(key, "old", -1) for key in range(count + 1)])
    tx.execute("UPDATE facts SET changed = 1 WHERE key = 0")  # one that the condition keeps as it is
    rows = [(key, None if key % 2 else "new", key) for key in range(count)]
    assert UPDATE.execute(tx, rows) == count - 1
    expected = [(0, "old", -1, 1), *((*row, 1) for row in rows[1:]), (count, "old", -1, 0)]
    assert tx.execute("SELECT key, word, number, changed FROM facts ORDER BY key").fetchall() == expected
