"""A database as an older llmctl would have left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from llmctl.store.database import migrations


def schema_before(words: str) -> int:
    """The last schema without what the migration that says so made."""
    return next(number for number, sql in migrations() if words in sql) - 1


def copy_as(schema: int, newer: Path, older: Path) -> None:
    """The same rows in that schema, but for what it had no place for."""
    with closing(sqlite3.connect(older, isolation_level=None)) as old:
        for _, sql in migrations()[:schema]:
            old.executescript(sql)
        old.execute(f"PRAGMA user_version = {schema}")
        old.execute("ATTACH ? AS new", (str(newer),))
        for (table,) in old.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"DELETE FROM main.{table}")
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
