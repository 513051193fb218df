"""Keys: what clients show us. A key keeps its id, limits and access when its secret is rotated."""

from __future__ import annotations

import secrets as random
import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import AlreadyExists, NotFound

from . import audit, users
from .audit import Author
from .names import check_name, column, unknown
from .secrets import hash_of, new_secret, shown

ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that is misread
ID_CHARS = 5
DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Key:
    row_id: int
    id: str  # k_7Q2MX
    user: str
    name: str
    group: str | None
    prefix: str  # of the current secret
    created_at_s: int
    expires_at_s: int | None
    revoked_at_s: int | None
    old_secret_until_s: int | None  # end of the grace of a rotated secret
    acts_for_end_users: bool

    @property
    def label(self) -> str:
        return f"{self.user}/{self.name}"


@dataclass(frozen=True, slots=True)
class NewKey:
    key: Key
    secret: str  # the only time that it exists outside its holder's hands


_SELECT = """
    SELECT k.id, k.public_id, u.name, k.name, g.name,
           coalesce((SELECT s.prefix FROM secrets s WHERE s.key_id = k.id ORDER BY s.expires_at IS NULL DESC,
                     s.created_at DESC LIMIT 1), ''),
           k.created_at, k.expires_at, k.revoked_at,
           (SELECT max(s.expires_at) FROM secrets s WHERE s.key_id = k.id),
           k.acts_for_end_users
    FROM keys k JOIN users u ON u.id = k.user_id LEFT JOIN groups g ON g.id = u.group_id
"""


def create(
    tx: sqlite3.Connection,
    author: Author,
    user: str,
    *,
    name: str = DEFAULT_NAME,
    expires_at_s: int | None = None,
    acts_for_end_users: bool = False,
) -> NewKey:
    """A new key with its secret. Raises BadInput, NotFound (the user), AlreadyExists (the name)."""
    check_name("key", name)
    owner = users.get(tx, user)
    taken = tx.execute(
        "SELECT 1 FROM keys WHERE user_id = ? AND name = ? AND revoked_at IS NULL", (owner.id, name)
    ).fetchone()
    if taken:
        raise AlreadyExists(
            f'key "{owner.name}/{name}" exists already', hint="choose another --name, or: llmctl key rotate"
        )
    (row_id,) = tx.execute(
        """
        INSERT INTO keys (public_id, user_id, name, acts_for_end_users, created_at, expires_at)
        VALUES (?, ?, ?, ?, ?, ?) RETURNING id
        """,
        (_new_id(tx), owner.id, name, acts_for_end_users, author.at_s, expires_at_s),
    ).fetchone()
    secret = _add_secret(tx, row_id, author.at_s)
    key = _get_row(tx, row_id)
    after: dict[str, object] = {"id": key.id, "expires_at": expires_at_s, "acts_for_end_users": acts_for_end_users}
    audit.record(tx, author, "key create", key.label, after=after)
    return NewKey(key, secret)


def rotate(tx: sqlite3.Connection, author: Author, reference: str, *, grace_s: int = 0) -> NewKey:
    """A new secret; the old ones die now, or after `grace_s` at the latest. Raises NotFound."""
    key = get(tx, reference)
    if grace_s > 0:
        tx.execute(
            "UPDATE secrets SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE key_id = ?2",
            (author.at_s + grace_s, key.row_id),
        )
        tx.execute("DELETE FROM secrets WHERE key_id = ? AND expires_at <= ?", (key.row_id, author.at_s))
    else:
        tx.execute("DELETE FROM secrets WHERE key_id = ?", (key.row_id,))
    secret = _add_secret(tx, key.row_id, author.at_s)
    audit.record(tx, author, "key rotate", key.label, after={"id": key.id, "grace_s": grace_s})
    return NewKey(_get_row(tx, key.row_id), secret)


def revoke(tx: sqlite3.Connection, author: Author, reference: str) -> bool:
    """Ends a key for good. False: it was revoked already. Raises NotFound."""
    key = get(tx, reference, revoked=True)
    if key.revoked_at_s is not None:
        return False
    tx.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (author.at_s, key.row_id))
    audit.record(tx, author, "key revoke", key.label, before={"id": key.id})
    return True


def revoke_old(tx: sqlite3.Connection, author: Author, reference: str) -> bool:
    """Ends the grace of a rotation now: only the newest secret lives on. False: there was no older one."""
    key = get(tx, reference)
    if tx.execute("DELETE FROM secrets WHERE key_id = ? AND expires_at IS NOT NULL", (key.row_id,)).rowcount == 0:
        return False
    audit.record(tx, author, "key revoke --old", key.label, before={"id": key.id})
    return True


def get(tx: sqlite3.Connection, reference: str, *, revoked: bool = False) -> Key:
    """The key with this id or `user/name`; a bare user name only while they have one active key.

    `revoked=True` finds revoked keys too. Raises NotFound.
    """
    if reference.startswith("sk-"):
        # A secret on a command line is in the shell's history by now; the message must not repeat it.
        raise NotFound("that looks like a secret, not a key", hint="name the key by its id or as user/name")
    alive = "" if revoked else " AND k.revoked_at IS NULL"
    row = tx.execute(f"{_SELECT} WHERE k.public_id = ? COLLATE NOCASE{alive}", (reference,)).fetchone()
    if row is not None:
        return _key(row)
    user, slash, name = reference.partition("/")
    if slash:
        row = tx.execute(
            f"""
            {_SELECT} WHERE u.name = ? AND u.removed_at IS NULL AND k.name = ?{alive}
            ORDER BY k.revoked_at IS NULL DESC, k.id DESC
            """,
            (user, name),
        ).fetchone()
        if row is not None:
            return _key(row)
        raise unknown("key", reference, _labels(tx))
    if users.find(tx, user) is None:
        raise unknown("key", reference, _labels(tx))
    found = [key for key in listing(tx, user=user) if key.revoked_at_s is None]
    if len(found) != 1:
        names = ", ".join(key.label for key in found) or "none"
        raise NotFound(f"{user} has {len(found)} active keys: {names}", hint="name one of them as user/name")
    return found[0]


def of_secret(tx: sqlite3.Connection, secret: str) -> Key:
    """The key that a found secret belongs to, also a revoked one. Raises NotFound; no message repeats the secret."""
    row = tx.execute(
        f"{_SELECT} WHERE k.id = (SELECT key_id FROM secrets WHERE hash = ?)", (hash_of(secret),)
    ).fetchone()
    if row is None:
        raise NotFound("no key has this secret", hint="it was rotated away, or it is not of this gateway")
    return _key(row)


def listing(tx: sqlite3.Connection, *, user: str | None = None) -> list[Key]:
    """All keys, revoked ones too, by user and age. Raises NotFound (the user)."""
    if user is None:
        return [_key(row) for row in tx.execute(f"{_SELECT} ORDER BY u.name, k.id")]
    owner = users.get(tx, user)
    return [_key(row) for row in tx.execute(f"{_SELECT} WHERE u.id = ? ORDER BY k.id", (owner.id,))]


def _labels(tx: sqlite3.Connection) -> list[str]:
    return column(
        tx,
        """
        SELECT u.name || '/' || k.name FROM keys k JOIN users u ON u.id = k.user_id
        WHERE k.revoked_at IS NULL LIMIT ?
        """,
        10_000,  # for a suggestion only
    )


def _get_row(tx: sqlite3.Connection, row_id: int) -> Key:
    return _key(tx.execute(f"{_SELECT} WHERE k.id = ?", (row_id,)).fetchone())


def _add_secret(tx: sqlite3.Connection, row_id: int, now_s: int) -> str:
    secret = new_secret()
    tx.execute(
        "INSERT INTO secrets (hash, key_id, prefix, created_at) VALUES (?, ?, ?, ?)",
        (hash_of(secret), row_id, shown(secret), now_s),
    )
    return secret


def _new_id(tx: sqlite3.Connection) -> str:
    while True:
        public_id = "k_" + "".join(random.choice(ID_ALPHABET) for _ in range(ID_CHARS))
        if tx.execute("SELECT 1 FROM keys WHERE public_id = ?", (public_id,)).fetchone() is None:
            return public_id


def _key(row: tuple[int, str, str, str, str | None, str, int, int | None, int | None, int | None, int]) -> Key:
    return Key(*row[:10], acts_for_end_users=bool(row[10]))
