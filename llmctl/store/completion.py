"""Names for the shell's completion: few, quickly, by how they begin."""

from __future__ import annotations

import sqlite3

NAMES_MAX = 50

_SQL = {
    "GROUP": "SELECT name FROM groups WHERE removed_at IS NULL",
    "USER": "SELECT name FROM users WHERE removed_at IS NULL",
    "KEY": """
        SELECT u.name || '/' || k.name AS name FROM keys k JOIN users u ON u.id = k.user_id WHERE k.revoked_at IS NULL
        """,
    "LIMIT": "SELECT 'l' || id AS name FROM limits",
    "MODEL": "SELECT DISTINCT provider || '/' || model AS name FROM models WHERE provider <> ''",
    "PATTERN": "SELECT DISTINCT provider || '/' || model AS name FROM models WHERE provider <> ''",
}


def names(tx: sqlite3.Connection, kind: str, begin: str) -> list[str]:
    """The first names of this kind that begin so, in any letter case; none for kinds without names."""
    sql = _SQL.get(kind)
    if sql is None:
        return []
    rows = tx.execute(
        f"SELECT name FROM ({sql}) WHERE substr(name, 1, ?2) = ?1 COLLATE NOCASE ORDER BY name LIMIT ?3",
        (begin, len(begin), NAMES_MAX),
    )
    return [row[0] for row in rows]
