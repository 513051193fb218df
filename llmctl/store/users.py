"""Users: a person or an app. Each belongs to at most one group."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import AlreadyExists, BadInput

from . import audit, balances, groups
from .audit import Author
from .names import check_name, column, unknown

EMAIL_CHARS_MAX = 254  # RFC 5321, 4.5.3.1.3


SUGGESTED_FROM_MAX = 10_000


@dataclass(frozen=True, slots=True)
class User:
    """A user, also one who was disabled or removed."""

    id: int
    name: str
    group: str | None
    email: str | None
    active_keys: int
    created_at_s: int
    disabled: bool
    disabled_group: str | None  # theirs, or one above it: their keys do not work either
    removed: bool = False

    @property
    def disabled_by(self) -> str | None:
        """`user alice` or `group sales`; None while their keys work."""
        if self.disabled:
            return f"user {self.name}"
        return f"group {self.disabled_group}" if self.disabled_group else None


_SELECT = f"""
    SELECT u.id, u.name, g.name, u.email,
           (SELECT count(*) FROM keys k WHERE k.user_id = u.id AND k.revoked_at IS NULL),
           u.created_at, u.disabled_at IS NOT NULL, {groups.shut_by_sql("u.group_id")}, u.removed_at IS NOT NULL
    FROM users u LEFT JOIN groups g ON g.id = u.group_id
"""
_LIVING = f"{_SELECT} WHERE u.removed_at IS NULL"


def add(tx: sqlite3.Connection, author: Author, name: str, *, group: str | None, email: str | None) -> User:
    """A new user, without a key. Raises BadInput, AlreadyExists, NotFound (the group)."""
    check_name("user", name)
    if find(tx, name) is not None:
        raise AlreadyExists(f'user "{name}" exists already', hint=f"llmctl user show {name}")
    check_email(email)
    group_id = groups.get(tx, group).id if group is not None else None
    tx.execute(
        "INSERT INTO users (name, group_id, email, created_at) VALUES (?, ?, ?, ?)",
        (name, group_id, email, author.at_s),
    )
    audit.record(tx, author, "user add", name, after={"group": group, "email": email})
    return get(tx, name)


def find(tx: sqlite3.Connection, name: str) -> User | None:
    row = tx.execute(f"{_LIVING} AND u.name = ?", (name,)).fetchone()
    return None if row is None else _user(row)


def get(tx: sqlite3.Connection, name: str) -> User:
    """Raises NotFound, with a suggestion."""
    user = find(tx, name)
    if user is None:
        raise unknown("user", name, names(tx))
    return user


def get_past(tx: sqlite3.Connection, name: str) -> User:
    """For reports: where nobody has this name, the last of those removed who had it. Raises NotFound."""
    found = find(tx, name)
    if found is not None:
        return found
    row = tx.execute(f"{_SELECT} WHERE u.name = ? ORDER BY u.removed_at DESC, u.id DESC LIMIT 1", (name,)).fetchone()
    return get(tx, name) if row is None else _user(row)


def names(tx: sqlite3.Connection) -> list[str]:
    """For a suggestion only: not of more users than can be compared at once."""
    return column(tx, "SELECT name FROM users WHERE removed_at IS NULL LIMIT ?", SUGGESTED_FROM_MAX)


def listing(tx: sqlite3.Connection, *, group: str | None = None) -> list[User]:
    """All users by name; with `group`, those directly in it. Raises NotFound (the group)."""
    if group is None:
        return [_user(row) for row in tx.execute(f"{_LIVING} ORDER BY u.name")]
    group_id = groups.get(tx, group).id
    return [_user(row) for row in tx.execute(f"{_LIVING} AND u.group_id = ? ORDER BY u.name", (group_id,))]


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


def change(tx: sqlite3.Connection, author: Author, name: str, *, group: str | None, email: str | None) -> User:
    """Moves a user to a group (None: to none) and sets the address. What was spent stays booked where it was spent.

    Raises BadInput, NotFound (user, group).
    """
    user = get(tx, name)
    check_email(email)
    group_id = None if group is None else groups.get(tx, group).id
    tx.execute("UPDATE users SET group_id = ?, email = ? WHERE id = ?", (group_id, email, user.id))
    changed = get(tx, name)
    if user.group != changed.group:
        balances.forget_of_user(tx, user.id)
        audit.record(tx, author, "user move", user.name, before={"group": user.group}, after={"group": changed.group})
    if user.email != changed.email:
        audit.record(tx, author, "user set", user.name, before={"email": user.email}, after={"email": changed.email})
    return changed


def rename(tx: sqlite3.Connection, author: Author, name: str, new: str) -> User:
    """Another name for the same user: keys, limits and history stay. Raises BadInput, AlreadyExists, NotFound."""
    user = get(tx, name)
    check_name("user", new)
    if new == user.name:
        return user
    other = find(tx, new)
    if other is not None and other.id != user.id:
        raise AlreadyExists(f'user "{other.name}" exists already', hint=f"llmctl user show {other.name}")
    tx.execute("UPDATE users SET name = ? WHERE id = ?", (new, user.id))
    audit.record(tx, author, "user rename", user.name, before={"name": user.name}, after={"name": new})
    return get(tx, new)


def remove(tx: sqlite3.Connection, author: Author, name: str) -> User:
    """Ends a user and revokes all their keys. The name stays in the history, and is free again. Raises NotFound."""
    user = get(tx, name)
    tx.execute("UPDATE keys SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", (author.at_s, user.id))
    tx.execute("UPDATE users SET removed_at = ? WHERE id = ?", (author.at_s, user.id))
    before: dict[str, object] = {"group": user.group, "email": user.email, "keys_revoked": user.active_keys}
    audit.record(tx, author, "user remove", user.name, before=before)
    return user


def check_email(email: str | None) -> None:
    if email is not None and ("@" not in email or len(email) > EMAIL_CHARS_MAX or not email.isprintable()):
        raise BadInput(f"{email!r} is not an e-mail address", hint="write it as name@example.org")


def _user(row: tuple[int, str, str | None, str | None, int, int, int, str | None, int]) -> User:
    return User(*row[:6], disabled=bool(row[6]), disabled_group=row[7], removed=bool(row[8]))
