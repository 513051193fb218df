"""Where secrets are used from, and when last: so that a leaked one, or one that nobody changed yet, is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from .sql import BulkInsert

PLACES_MAX = 200  # kept of a secret, the newest: a key in an app's hands is seen from everywhere


@dataclass(frozen=True, slots=True)
class Sighting:
    """Calls with one secret from one place. `client` is the first word of the User-Agent."""

    hash: bytes
    address: str
    client: str
    first_at_s: int
    last_at_s: int
    calls: int


_ADD = BulkInsert(
    "sightings",
    ["hash", "address", "client", "first_at", "last_at", "calls"],
    condition="EXISTS (SELECT 1 FROM secrets WHERE hash = column1)",
    conflict="ON CONFLICT DO UPDATE SET last_at = max(last_at, excluded.last_at), calls = calls + excluded.calls",
)


def add(tx: sqlite3.Connection, found: Sequence[Sighting]) -> None:
    """Adds to what was seen before. Does not bump the settings: no call depends on it."""
    if not found:
        return
    _ADD.execute(tx, [(one.hash, one.address, one.client, one.first_at_s, one.last_at_s, one.calls) for one in found])
    hashes = [*{one.hash for one in found}]
    crowded = tx.execute(
        f"""
        SELECT hash FROM sightings WHERE hash IN ({", ".join("?" * len(hashes))})
        GROUP BY hash HAVING count(*) > {PLACES_MAX}
        """,
        hashes,
    ).fetchall()
    for (one,) in crowded:
        tx.execute(
            """
            DELETE FROM sightings WHERE hash = ?1 AND (address, client) IN (
                SELECT address, client FROM sightings WHERE hash = ?1 ORDER BY last_at DESC LIMIT -1 OFFSET ?2
            )
            """,
            (one, PLACES_MAX),
        )


def of_key(tx: sqlite3.Connection, key_id: int) -> list[Sighting]:
    """Of all secrets of a key, the newest sighting first."""
    rows = tx.execute(
        """
        SELECT g.hash, g.address, g.client, g.first_at, g.last_at, g.calls
        FROM secrets s JOIN sightings g ON g.hash = s.hash WHERE s.key_id = ? ORDER BY g.last_at DESC
        """,
        (key_id,),
    )
    return [Sighting(*row) for row in rows]


def last_of_keys(tx: sqlite3.Connection) -> dict[int, int]:
    """When each key was last used, by the id of its row; keys that never were are not in it."""
    rows = tx.execute(
        "SELECT s.key_id, max(g.last_at) FROM sightings g JOIN secrets s ON s.hash = g.hash GROUP BY s.key_id"
    )
    return dict(rows.fetchall())


def last_of_users(tx: sqlite3.Connection) -> dict[int, int]:
    """The same by the id of the user's row."""
    rows = tx.execute(
        """
        SELECT k.user_id, max(g.last_at) FROM sightings g
        JOIN secrets s ON s.hash = g.hash JOIN keys k ON k.id = s.key_id GROUP BY k.user_id
        """
    )
    return dict(rows.fetchall())
