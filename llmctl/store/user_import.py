"""Many users at once, each with a key: a handful of statements, however many there are. Calls wait while they are
added, so all that can be is done before."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmctl.domain.errors import BadInput

from . import audit, groups, keys
from .audit import Author
from .names import check_name, column
from .secrets import hash_of, new_secret, shown
from .users import check_email

CACHE_KB = 64 << 10  # what does not fit is written to the disk more than once


@dataclass(frozen=True, slots=True)
class NewUser:
    """One line of a list. `line`: where it stands, for messages."""

    line: int
    name: str
    group: str | None
    email: str | None
    key: str
    expires_at_s: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line of the file cannot be taken."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Made:
    """A user's new key: the only time that the secret exists outside its holder's hands."""

    user: NewUser
    key_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Import:
    """Users as they will be written, with their keys."""

    users: Sequence[NewUser]
    new_groups: Sequence[str]
    made: Sequence[Made]
    users_added: Sequence[audit.Change]
    keys_made: Sequence[audit.Change]
    secrets: Sequence[tuple[bytes, int, str]]  # hash, place among `made`, prefix


def existing(tx: sqlite3.Connection, users: Iterable[NewUser]) -> set[str]:
    """The names among these that are taken, in lower case."""
    taken = {name.lower() for name in column(tx, "SELECT name FROM users WHERE removed_at IS NULL")}
    return {user.name.lower() for user in users if user.name.lower() in taken}


def missing_groups(tx: sqlite3.Connection, users: Iterable[NewUser]) -> list[str]:
    """The groups that these users name and that are not there, in the order of the list."""
    known = {name.lower() for name in column(tx, "SELECT name FROM groups WHERE removed_at IS NULL")}
    wanted = {user.group.lower(): user.group for user in users if user.group is not None}
    return [name for lower, name in wanted.items() if lower not in known]


def problems(tx: sqlite3.Connection, users: Sequence[NewUser], *, with_groups: bool) -> list[Problem]:
    """Why these users cannot be added, by line; empty if they can. `with_groups`: missing groups will be made."""
    found: list[Problem] = []
    taken, missing = existing(tx, users), {name.lower() for name in missing_groups(tx, users)}
    known_groups = column(tx, "SELECT name FROM groups WHERE removed_at IS NULL")
    lines: dict[str, int] = {}
    for user in users:
        found += [Problem(user.line, str(error)) for error in _malformed(user)]
        name = user.name.lower()
        if name in taken:
            found.append(Problem(user.line, f'user "{user.name}" exists already'))
        elif name in lines:
            found.append(Problem(user.line, f'user "{user.name}" stands in line {lines[name]} already'))
        lines.setdefault(name, user.line)
        if user.group is not None and user.group.lower() in missing and not with_groups:
            close = difflib.get_close_matches(user.group.lower(), known_groups, n=1)
            found.append(
                Problem(user.line, f'no group "{user.group}"' + (f'; did you mean "{close[0]}"?' if close else ""))
            )
    return found


def prepare(tx: sqlite3.Connection, users: Sequence[NewUser], *, with_keys: bool) -> Import:
    """All that takes long of adding users that have no `problems`: calls wait for what is left. It holds until a
    setting is changed."""
    with_key = users if with_keys else []
    ids = keys.new_ids(tx, len(with_key))
    made = [Made(user, key_id, new_secret()) for user, key_id in zip(with_key, ids, strict=True)]
    return Import(
        users,
        missing_groups(tx, users),
        made,
        [audit.change(user.name, after={"group": user.group, "email": user.email, "imported": True}) for user in users],
        [
            audit.change(
                f"{one.user.name}/{one.user.key}", after={"id": one.key_id, "expires_at": one.user.expires_at_s}
            )
            for one in made
        ],
        # As the table is ordered.
        sorted((hash_of(one.secret), place, shown(one.secret)) for place, one in enumerate(made)),
    )


def add(tx: sqlite3.Connection, author: Author, prepared: Import) -> None:
    """Adds the users, and what groups of theirs are missing."""
    for name in prepared.new_groups:
        groups.add(tx, author, name, parent=None, timezone=None)
    group_ids = {
        name.lower(): row_id for row_id, name in tx.execute("SELECT id, name FROM groups WHERE removed_at IS NULL")
    }
    tx.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    first_id = _next_id(tx, "users")
    tx.executemany(
        "INSERT INTO users (id, name, group_id, email, created_at) VALUES (?, ?, ?, ?, ?)",
        [
            (row_id, user.name, None if user.group is None else group_ids[user.group.lower()], user.email, author.at_s)
            for row_id, user in enumerate(prepared.users, first_id)
        ],
    )
    audit.record_many(tx, author, "user add", prepared.users_added)
    if prepared.made:
        _add_keys(tx, author, prepared, first_id)


def _add_keys(tx: sqlite3.Connection, author: Author, prepared: Import, first_user_id: int) -> None:
    first_id = _next_id(tx, "keys")
    tx.executemany(
        """
        INSERT INTO keys (id, public_id, user_id, name, note, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (
                first_id + place,
                one.key_id,
                first_user_id + place,
                one.user.key,
                one.user.note,
                author.at_s,
                one.user.expires_at_s,
            )
            for place, one in enumerate(prepared.made)
        ],
    )
    tx.executemany(
        "INSERT INTO secrets (hash, key_id, prefix, created_at) VALUES (?, ?, ?, ?)",
        [(digest, first_id + place, prefix, author.at_s) for digest, place, prefix in prepared.secrets],
    )
    audit.record_many(tx, author, "key create", prepared.keys_made)


def _next_id(tx: sqlite3.Connection, table: str) -> int:
    (last,) = tx.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    return int(last) + 1


def _malformed(user: NewUser) -> Iterable[BadInput]:
    for check, arguments in (
        (check_name, ("user", user.name)),
        (check_name, ("group", user.group or "x")),
        (check_name, ("key", user.key)),
        (check_email, (user.email,)),
        (keys.check_note, (user.note,)),
    ):
        try:
            check(*arguments)
        except BadInput as error:
            yield error
