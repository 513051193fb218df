"""Calls that go on at a provider after their exchange has ended: open, with their hold, until somebody learns of their
usage."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .objects import DEFERRED


@dataclass(frozen=True, slots=True)
class DeferredCall:
    """What asking for it, booking it and telling of it need. `object_id`: "" once its object is forgotten."""

    call_id: int
    started_at_ms: int
    user_name: str
    dialect: str
    provider: str
    model: str  # upstream model
    object_id: str
    credential: str  # fingerprint
    price_id: int | None
    held_nano: int
    held_input_tokens: int
    held_output_tokens: int
    status: int | None


def listing(reader: sqlite3.Connection) -> list[tuple[int, int]]:
    """Ids and starting times (ms) of all of them."""
    sql = "SELECT id, started_at_ms FROM calls WHERE state = 'open' AND owner = ?"
    return reader.execute(sql, (DEFERRED,)).fetchall()


def one(reader: sqlite3.Connection, call_id: int) -> DeferredCall | None:
    """None: it has ended."""
    row = reader.execute(f"{_SELECT} AND c.id = ?", (DEFERRED, call_id)).fetchone()
    return None if row is None else DeferredCall(*row)


_SELECT = """
    SELECT c.id, c.started_at_ms, u.name, e.dialect, m.provider, m.model, coalesce(o.id, ''), coalesce(n.name, ''),
           c.price_id, c.held_nano, c.held_input_tokens, c.held_output_tokens, c.status
    FROM calls c JOIN models m ON m.id = c.model_id JOIN endpoints e ON e.id = c.endpoint_id
    JOIN users u ON u.id = c.user_id
    LEFT JOIN objects o ON o.call_id = c.id LEFT JOIN names n ON n.id = o.credential_id
    WHERE c.state = 'open' AND c.owner = ?
"""
