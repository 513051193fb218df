"""Users: a person or an app. Each belongs to at most one group."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import AlreadyExists, BadInput

from . import audit, groups
from .audit import Author
from .names import check_name, column, unknown

EMAIL_CHARS_MAX = 254  # RFC 5321, 4.5.3.1.3


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    group: str | None
    email: str | None
    active_keys: int
    created_at_s: int
    disabled: bool


_SELECT = """
    SELECT u.id, u.name, g.name, u.email,
           (SELECT count(*) FROM keys k WHERE k.user_id = u.id AND k.revoked_at IS NULL),
           u.created_at, u.disabled_at IS NOT NULL
    FROM users u LEFT JOIN groups g ON g.id = u.group_id
    WHERE u.removed_at IS NULL
"""


def add(tx: sqlite3.Connection, author: Author, name: str, *, group: str | None, email: str | None) -> User:
    """A new user, without a key. Raises BadInput, AlreadyExists, NotFound (the group)."""
    check_name("user", name)
    if find(tx, name) is not None:
        raise AlreadyExists(f'user "{name}" exists already', hint=f"llmctl user show {name}")
    if email is not None and ("@" not in email or len(email) > EMAIL_CHARS_MAX or not email.isprintable()):
        raise BadInput(f"{email!r} is not an e-mail address", hint="write it as name@example.org")
    group_id = groups.get(tx, group).id if group is not None else None
    tx.execute(
        "INSERT INTO users (name, group_id, email, created_at) VALUES (?, ?, ?, ?)",
        (name, group_id, email, author.at_s),
    )
    audit.record(tx, author, "user add", name, after={"group": group, "email": email})
    return get(tx, name)


def find(tx: sqlite3.Connection, name: str) -> User | None:
    row = tx.execute(f"{_SELECT} AND u.name = ?", (name,)).fetchone()
    return None if row is None else _user(row)


def get(tx: sqlite3.Connection, name: str) -> User:
    """Raises NotFound, with a suggestion."""
    user = find(tx, name)
    if user is None:
        raise unknown("user", name, column(tx, "SELECT name FROM users WHERE removed_at IS NULL"))
    return user


def listing(tx: sqlite3.Connection, *, group: str | None = None) -> list[User]:
    """All users by name; with `group`, those directly in it. Raises NotFound (the group)."""
    if group is None:
        return [_user(row) for row in tx.execute(f"{_SELECT} ORDER BY u.name")]
    group_id = groups.get(tx, group).id
    return [_user(row) for row in tx.execute(f"{_SELECT} AND u.group_id = ? ORDER BY u.name", (group_id,))]


def set_disabled(tx: sqlite3.Connection, author: Author, name: str, *, disabled: bool) -> bool:
    """Stops or restores all keys of a user. False: it was so already. Raises NotFound."""
    user = get(tx, name)
    if user.disabled == disabled:
        return False
    tx.execute("UPDATE users SET disabled_at = ? WHERE id = ?", (author.at_s if disabled else None, user.id))
    audit.record(
        tx,
        author,
        "user disable" if disabled else "user enable",
        user.name,
        before={"disabled": user.disabled},
        after={"disabled": disabled},
    )
    return True


def _user(row: tuple[int, str, str | None, str | None, int, int, int]) -> User:
    return User(*row[:6], disabled=bool(row[6]))
