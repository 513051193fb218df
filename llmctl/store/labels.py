"""What is known of calls before one is looked at: providers, and what callers put on their calls for reports, tags and
the end users whom calls are for. They are kept as names, so that a filter finds the few ids that it wants first.
"""

from __future__ import annotations

import sqlite3

from .names import column


def with_tag(tx: sqlite3.Connection, tag: str) -> list[int]:
    """The ids of every combination of tags with this one among them: a call keeps its tags joined by commas."""
    rows = tx.execute("SELECT id FROM names WHERE instr(',' || name || ',', ?)", (f",{tag},",))
    return [row[0] for row in rows]


def providers(tx: sqlite3.Connection) -> set[str]:
    """Those that calls went to."""
    return set(column(tx, "SELECT DISTINCT provider FROM models"))


def of_end_user(tx: sqlite3.Connection, name: str) -> int | None:
    row = tx.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])
