"""Finds what limits and model rules are set on, and whose bind whom."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from llmctl.domain.scope import Scope

from . import groups, users


class Chain(NamedTuple):
    """Whose limits and rules bind a principal, its own among them: those of groups, from the root, of the user, and of
    the key; -1 where there is none."""

    lineage: tuple[int, ...]
    user_id: int = -1
    key_id: int = -1


def of_group(tx: sqlite3.Connection, name: str) -> Scope:
    group = groups.get(tx, name)
    return Scope("group", group.id, group.name)


def of_user(tx: sqlite3.Connection, name: str) -> Scope:
    user = users.get(tx, name)
    return Scope("user", user.id, user.name)


def of_key(tx: sqlite3.Connection, reference: str) -> Scope:
    from . import keys  # late: it makes secrets, and most reports need none

    key = keys.get(tx, reference)
    return Scope("key", key.row_id, key.label)


def chain(tx: sqlite3.Connection, scope: Scope) -> Chain:
    if scope.principal == "group":
        return Chain(groups.lineage(tx, scope.id))
    if scope.principal == "org":
        return Chain(())
    user_id, key_id = scope.id, -1
    if scope.principal == "key":
        key_id = scope.id
        (user_id,) = tx.execute("SELECT user_id FROM keys WHERE id = ?", (key_id,)).fetchone()
    (group_id,) = tx.execute("SELECT group_id FROM users WHERE id = ?", (user_id,)).fetchone()
    return Chain(groups.lineage(tx, group_id), user_id, key_id)


# The name of a principal, as an SQL expression over (principal, principal_id).
NAME_SQL = """
    CASE principal
        WHEN 'org' THEN ''
        WHEN 'group' THEN (SELECT name FROM groups WHERE id = principal_id)
        WHEN 'user' THEN (SELECT name FROM users WHERE id = principal_id)
        ELSE (SELECT u.name || '/' || k.name FROM keys k JOIN users u ON u.id = k.user_id WHERE k.id = principal_id)
    END
"""
# Limits and rules of removed groups and users, and of revoked keys, bind nobody and are not shown.
ALIVE_SQL = """
    CASE principal
        WHEN 'org' THEN 1
        WHEN 'group' THEN (SELECT removed_at IS NULL FROM groups WHERE id = principal_id)
        WHEN 'user' THEN (SELECT removed_at IS NULL FROM users WHERE id = principal_id)
        ELSE (SELECT revoked_at IS NULL FROM keys WHERE id = principal_id)
    END
"""
# The principals that a call is booked to: ?1 = JSON array of group ids, ?2 = user id, ?3 = key id.
APPLYING_SQL = """
    (principal = 'org'
     OR (principal = 'group' AND principal_id IN (SELECT value FROM json_each(?1)))
     OR (principal = 'user' AND principal_id = ?2)
     OR (principal = 'key' AND principal_id = ?3))
"""
