from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from llmctl.store.sql import FEW_ROWS, ROWS_MAX, Bulk, BulkDelete, BulkInsert, BulkUpdate

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


@pytest.mark.parametrize("count", SIZES)
def test_a_condition_keeps_rows_out(tx: sqlite3.Connection, count: int) -> None:
    some = BulkInsert("facts", ["key", "word", "number"], condition="column1 % 2 = 0")
    assert some.execute(tx, [(key, "new", key) for key in range(count)]) == (count + 1) // 2
    assert tx.execute("SELECT count(*), max(key % 2) FROM facts").fetchone() == ((count + 1) // 2, 0)


@pytest.mark.parametrize("count", SIZES)
def test_the_rows_named_are_deleted_and_counted(tx: sqlite3.Connection, count: int) -> None:
    tx.execute("CREATE TABLE pairs (a INTEGER, b INTEGER, PRIMARY KEY (a, b)) STRICT, WITHOUT ROWID")
    BulkInsert("pairs", ["a", "b"]).execute(tx, [(a, b) for a in range(count) for b in (0, 1)])
    said: list[str] = []
    tx.set_trace_callback(said.append)
    assert BulkDelete("pairs", ["a", "b"]).execute(tx, [(a, 1) for a in range(count)] + [(count, 0)]) == count
    tx.set_trace_callback(None)
    assert tx.execute("SELECT a, b FROM pairs ORDER BY a").fetchall() == [(a, 0) for a in range(count)]
    plan = [step for *_, step in tx.execute(f"EXPLAIN QUERY PLAN {said[0]}")]
    assert plan[0] == "SEARCH pairs USING PRIMARY KEY (a=? AND b=?)"


@pytest.mark.parametrize("bulk", [INSERT, UPDATE, BulkDelete("facts", ["key"])])
def test_no_rows_change_nothing(tx: sqlite3.Connection, bulk: Bulk) -> None:
    assert bulk.execute(tx, []) == 0
