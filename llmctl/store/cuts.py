"""Open calls that are to end now, whoever's they are: those of a key, a user, a group and all below it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from . import audit, groups, keys, users
from .audit import Author

REMEMBERED_MS = 86_400_000  # no call is open for longer


def of_key(tx: sqlite3.Connection, author: Author, reference: str) -> None:
    """Raises NotFound."""
    key = keys.get(tx, reference, revoked=True)
    _cut(tx, author, key.label, "id = :principal", key.row_id)


def of_user(tx: sqlite3.Connection, author: Author, name: str) -> None:
    """Raises NotFound."""
    user = users.get(tx, name)
    _cut(tx, author, user.name, "user_id = :principal", user.id)


def of_group(tx: sqlite3.Connection, author: Author, name: str) -> None:
    """Raises NotFound."""
    group = groups.get(tx, name)
    where = """
        user_id IN (
            WITH RECURSIVE down (id) AS (
                VALUES (:principal) UNION ALL SELECT g.id FROM groups g JOIN down ON g.parent_id = down.id
            )
            SELECT users.id FROM users JOIN down ON users.group_id = down.id
        )
    """
    _cut(tx, author, group.name, where, group.id)


def in_force(reader: sqlite3.Connection, now_ms: int) -> Mapping[int, int]:
    """Key id -> the moment; calls that began before it are to end."""
    sql = "SELECT id, cut_at_ms FROM keys WHERE cut_at_ms > ?"
    return dict(reader.execute(sql, (now_ms - REMEMBERED_MS,)).fetchall())


def _cut(tx: sqlite3.Connection, author: Author, subject: str, where: str, principal: int) -> None:
    # This second's calls too: nobody is let in any more.
    at_ms = (author.at_s + 1) * 1_000
    tx.execute(f"UPDATE keys SET cut_at_ms = :at_ms WHERE {where}", {"at_ms": at_ms, "principal": principal})
    audit.record(tx, author, "calls cut", subject)
