"""Names for the shell's completion: few, quickly, by how they begin."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

NAMES_MAX = 50

_SQL = {
    "GROUP": "SELECT name FROM groups WHERE removed_at IS NULL",
    "USER": "SELECT name FROM users WHERE removed_at IS NULL",
    "KEY": """
        SELECT u.name || '/' || k.name AS name FROM keys k JOIN users u ON u.id = k.user_id WHERE k.revoked_at IS NULL
        UNION ALL
        SELECT public_id FROM keys WHERE revoked_at IS NULL AND ?1 LIKE 'k%'
        """,
    "LIMIT": "SELECT 'l' || id AS name FROM limits",
    "MODEL": """
        WITH known (provider, model) AS (
            SELECT provider, model FROM models WHERE provider <> ''
            UNION
            SELECT provider, model FROM prices
            WHERE superseded_at IS NULL AND model NOT LIKE '%*%' AND provider IN (SELECT value FROM json_each(?4))
        )
        SELECT provider || '/' || model AS name FROM known
        UNION
        SELECT model FROM known WHERE ?1 <> ''
        """,
    "ACTION": "SELECT DISTINCT action AS name FROM audit",
    "PATTERN": "SELECT DISTINCT provider || '/' || model AS name FROM models WHERE provider <> ''",
}


def names(tx: sqlite3.Connection, kind: str, begin: str, catalogues: Sequence[str] = ()) -> list[str]:
    """The first names of this kind that begin so, in any letter case; none for kinds without names. `catalogues`: whose
    priced models are known too."""
    sql = _SQL.get(kind)
    if sql is None:
        return []
    rows = tx.execute(
        f"SELECT name FROM ({sql}) WHERE substr(name, 1, ?2) = ?1 COLLATE NOCASE ORDER BY name LIMIT ?3",
        (begin, len(begin), NAMES_MAX, json.dumps(list(catalogues)))[: 4 if "?4" in sql else 3],
    )
    return [row[0] for row in rows]
