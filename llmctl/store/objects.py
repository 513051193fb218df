"""What a provider keeps and gives out by its id: stored responses. Many people share the provider's account, so whoever
knows an id could read it there: here each id belongs to somebody.

The owner is the user of the key that made it. Not the key: the one who created a response on a laptop reads it with the
key of another machine, or after a rotation. Not the group: colleagues do not read each other's prompts. Not the end
user that a key names: an app that acts for end users polls from workers that serve all of them, and keeps them apart
itself, as it does with everything else that it knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from . import ids
from .booking import Kept
from .interned import Interned
from .sql import BulkInsert

RETENTION_S = 30 * 86_400  # OpenAI: https://developers.openai.com/api/docs/guides/conversation-state
FORGOTTEN_PER_STEP = 500
DEFERRED = -1  # as the owner of a call: no process has it open, it goes on at the provider


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of somebody's. `deferred`: the call that made it is still open, and waits for its usage."""

    id: str
    call_id: int
    provider: str
    model: str  # upstream model
    credential: str  # fingerprint
    deferred: bool


_SELECT = """
    SELECT o.id, o.call_id, m.provider, m.model, n.name, coalesce(c.state = 'open' AND c.owner = ?3, 0)
    FROM objects o JOIN models m ON m.id = o.model_id JOIN names n ON n.id = o.credential_id
    LEFT JOIN calls c ON c.id = o.call_id
"""


def find(reader: sqlite3.Connection, object_id: str, user_id: int) -> StoredObject | None:
    """The user's own object of this id; None also for somebody else's."""
    return _one(reader, "WHERE o.id = ?1 AND o.user_id = ?2", object_id, user_id)


def with_part(reader: sqlite3.Connection, part_id: str, user_id: int) -> StoredObject | None:
    """The user's own object that something with this id is in; None also for somebody else's."""
    where = "WHERE o.call_id IN (SELECT call_id FROM object_parts WHERE id = ?1) AND o.user_id = ?2"
    return _one(reader, where, part_id, user_id)


def is_part(reader: sqlite3.Connection, part_id: str) -> bool:
    """Whether something with this id is in an object of anybody's."""
    return reader.execute("SELECT 1 FROM object_parts WHERE id = ? LIMIT 1", (part_id,)).fetchone() is not None


def _one(reader: sqlite3.Connection, where: str, object_id: str, user_id: int) -> StoredObject | None:
    row = reader.execute(
        f"{_SELECT} {where} ORDER BY o.call_id DESC LIMIT 1", (object_id, user_id, DEFERRED)
    ).fetchone()
    if row is None:
        return None
    object_id, call_id, provider, model, credential, deferred = row
    return StoredObject(object_id, call_id, provider, model, credential, bool(deferred))


def remember(tx: sqlite3.Connection, interned: Interned, made: Sequence[tuple[int, int, int, Kept]]) -> None:
    """Notes objects, each with the call, user and model that it is of. A second note of one changes nothing."""
    rows = [
        (call_id, kept.id, user_id, model_id, interned.name(tx, kept.credential))
        for call_id, user_id, model_id, kept in made
    ]
    _REMEMBER.execute(tx, rows)


def remember_parts(tx: sqlite3.Connection, parts: Sequence[tuple[int, str]]) -> None:
    """Notes what is in objects: the call that made one, and the id."""
    _REMEMBER_PARTS.execute(tx, parts)


def forget(tx: sqlite3.Connection, call_id: int) -> None:
    """The one that this call made: it was deleted at the provider."""
    tx.execute("DELETE FROM objects WHERE call_id = ?", (call_id,))
    tx.execute("DELETE FROM object_parts WHERE call_id = ?", (call_id,))


def forget_old(tx: sqlite3.Connection, now_s: int) -> bool:
    """Some of those that the provider has forgotten too; True if there may be more."""
    end = ids.at_or_after(now_s - RETENTION_S)
    gone = tx.execute(
        "DELETE FROM objects WHERE call_id IN (SELECT call_id FROM objects WHERE call_id < ? ORDER BY call_id LIMIT ?)",
        (end, FORGOTTEN_PER_STEP),
    ).rowcount
    tx.execute(
        "DELETE FROM object_parts WHERE call_id < (SELECT coalesce(min(call_id), ?1) FROM objects) AND call_id < ?1",
        (end,),
    )
    return gone == FORGOTTEN_PER_STEP


def has_old(reader: sqlite3.Connection, now_s: int) -> bool:
    (oldest,) = reader.execute("SELECT min(call_id) FROM objects").fetchone()
    return oldest is not None and oldest < ids.at_or_after(now_s - RETENTION_S)


_REMEMBER_PARTS = BulkInsert("object_parts", ["call_id", "id"], verb="INSERT OR IGNORE")
_REMEMBER = BulkInsert("objects", ["call_id", "id", "user_id", "model_id", "credential_id"], verb="INSERT OR IGNORE")
