"""Keys: what clients show us. A key keeps its id, limits and access when its secret is rotated."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import AlreadyExists, BadInput, NotFound

from . import audit, groups, users
from .audit import Author
from .names import check_name, column, unknown
from .secrets import PREFIX, SECRET_CHARS, SHOWN_CHARS, hash_of, new_secret, random_text, shown

ID_PREFIX = "k_"
ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that is misread
ID_CHARS = 5
DEFAULT_NAME = "default"
NOTE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secrets."""

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
    note: str | None
    acts_for_end_users: bool
    allow_from: str | None  # networks; None: it may be used from anywhere
    disabled_by: str | None  # `user alice`, `group sales`: who is disabled, so that it does not work

    @property
    def label(self) -> str:
        return f"{self.user}/{self.name}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, or rotated."""

    key: Key
    secret: str  # the only time that it exists outside its holder's hands


@dataclass(frozen=True, slots=True)
class Secret:
    """One of a key's secrets, as far as it is kept."""

    hash: bytes
    prefix: str
    created_at_s: int
    ends_at_s: int | None  # None: the current one

    def state(self, now_s: int) -> str:
        if self.ends_at_s is None:
            return "current"
        return "old" if self.ends_at_s > now_s else "dead"


_SELECT = f"""
    SELECT k.id, k.public_id, u.name, k.name, g.name,
           coalesce((SELECT s.prefix FROM secrets s WHERE s.key_id = k.id ORDER BY s.expires_at IS NULL DESC,
                     s.created_at DESC LIMIT 1), ''),
           k.created_at, k.expires_at, k.revoked_at,
           (SELECT max(s.expires_at) FROM secrets s WHERE s.key_id = k.id), k.note,
           k.allow_from, k.acts_for_end_users,
           CASE WHEN u.disabled_at IS NOT NULL THEN 'user ' || u.name
           ELSE 'group ' || ({groups.shut_by_sql("u.group_id")}) END
    FROM keys k JOIN users u ON u.id = k.user_id LEFT JOIN groups g ON g.id = u.group_id
"""


def create(
    tx: sqlite3.Connection,
    author: Author,
    user: str,
    *,
    name: str = DEFAULT_NAME,
    expires_at_s: int | None = None,
    note: str | None = None,
    acts_for_end_users: bool = False,
    allow_from: str | None = None,
) -> NewKey:
    """A new key with its secret. Raises BadInput, NotFound (the user), AlreadyExists (the name)."""
    check_name("key", name)
    check_note(note)
    owner = users.get(tx, user)
    _check_free(tx, owner, name)
    (row_id,) = tx.execute(
        """
        INSERT INTO keys (public_id, user_id, name, note, acts_for_end_users, allow_from, created_at, expires_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
        """,
        (new_ids(tx, 1)[0], owner.id, name, note, acts_for_end_users, allow_from, author.at_s, expires_at_s),
    ).fetchone()
    secret = _add_secret(tx, row_id, author.at_s)
    key = _get_row(tx, row_id)
    after = _facts(key) | {"id": key.id, "acts_for_end_users": acts_for_end_users}
    audit.record(tx, author, "key create", key.label, after=after)
    return NewKey(key, secret)


def change(
    tx: sqlite3.Connection,
    author: Author,
    reference: str,
    *,
    name: str,
    expires_at_s: int | None,
    note: str | None,
    allow_from: str | None,
) -> Key:
    """Another name, end, note and place for a key; its id and secret stay. Raises BadInput, NotFound, AlreadyExists."""
    key = get(tx, reference)
    check_name("key", name)
    check_note(note)
    if name.lower() != key.name.lower():
        _check_free(tx, users.get(tx, key.user), name)
    tx.execute(
        "UPDATE keys SET name = ?, expires_at = ?, note = ?, allow_from = ? WHERE id = ?",
        (name, expires_at_s, note, allow_from, key.row_id),
    )
    changed = _get_row(tx, key.row_id)
    if _facts(key) != _facts(changed):
        audit.record(tx, author, "key set", key.label, before=_facts(key), after=_facts(changed))
    return changed


def rotate(tx: sqlite3.Connection, author: Author, reference: str, *, grace_s: int = 0) -> NewKey:
    """A new secret; the old ones die now, or after `grace_s` at the latest. Raises NotFound.

    The hashes of dead ones are kept: one that is found somewhere can be told to be dead, and whose it was.
    """
    key = get(tx, reference)
    tx.execute(
        "UPDATE secrets SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE key_id = ?2",
        (author.at_s + max(0, grace_s), key.row_id),
    )
    secret = _add_secret(tx, key.row_id, author.at_s)
    audit.record(tx, author, "key rotate", key.label, after={"id": key.id, "grace_s": grace_s})
    return NewKey(_get_row(tx, key.row_id), secret)


def set_grace(tx: sqlite3.Connection, author: Author, reference: str, *, grace_s: int) -> Key:
    """Old secrets that still work do so for `grace_s` from now. Raises NotFound, also where there is none."""
    key = get(tx, reference)
    until_s = author.at_s + grace_s
    changed = tx.execute(
        "UPDATE secrets SET expires_at = ? WHERE key_id = ? AND expires_at > ?", (until_s, key.row_id, author.at_s)
    ).rowcount
    if not changed:
        raise NotFound(f"{key.label} has no old secret that works", hint="a dead secret stays dead: llmctl key rotate")
    before: dict[str, object] = {"old_secret_until_at": key.old_secret_until_s}
    audit.record(tx, author, "key set", key.label, before=before, after={"old_secret_until_at": until_s})
    return _get_row(tx, key.row_id)


def revoke(tx: sqlite3.Connection, author: Author, reference: str) -> bool:
    """Ends a key for good. False: it was revoked already. Raises NotFound."""
    key = get(tx, reference, revoked=True)
    if key.revoked_at_s is not None:
        return False
    tx.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (author.at_s, key.row_id))
    audit.record(tx, author, "key revoke", key.label, before={"id": key.id})
    return True


def revoke_old(tx: sqlite3.Connection, author: Author, reference: str) -> bool:
    """Ends the grace of a rotation now: only the newest secret lives on. False: no older one worked."""
    key = get(tx, reference)
    ended = tx.execute(
        "UPDATE secrets SET expires_at = ?1 WHERE key_id = ?2 AND expires_at > ?1", (author.at_s, key.row_id)
    ).rowcount
    if ended == 0:
        return False
    before: dict[str, object] = {"id": key.id, "old_secret_until_at": key.old_secret_until_s}
    audit.record(tx, author, "key revoke --old", key.label, before=before, after={"old_secret_until_at": author.at_s})
    return True


def get(tx: sqlite3.Connection, reference: str, *, revoked: bool = False) -> Key:
    """The key with this id or `user/name`, or whose secret begins so; a bare user while they have one active key, or
    never had another.

    `revoked=True` finds revoked keys too. Raises NotFound.
    """
    key = _named(tx, reference)
    if key.revoked_at_s is not None and not revoked:
        another = f"llmctl key create {key.user} --name {key.name}"
        hint = another if users.find(tx, key.user) else "its user is gone too"
        raise NotFound(f"key {key.label} ({key.id}) is revoked, for good", hint=hint)
    return key


def _named(tx: sqlite3.Connection, reference: str) -> Key:
    """Of several, the one that is not revoked."""
    if reference.startswith(PREFIX[:3]):
        return _by_prefix(tx, reference)
    if reference[:2].lower() == ID_PREFIX:
        public_id = ID_PREFIX + reference[2:].upper()
        row = tx.execute(f"{_SELECT} WHERE k.public_id = ?", (public_id,)).fetchone()
        if row is not None:
            return _key(row)
    user, slash, name = reference.partition("/")
    if slash:
        row = tx.execute(
            f"""
            {_SELECT} WHERE u.name = ? AND k.name = ?
            ORDER BY u.removed_at IS NULL DESC, k.revoked_at IS NULL DESC, k.id DESC
            """,
            (user, name),
        ).fetchone()
        if row is not None:
            return _key(row)
        raise unknown("key", reference, _labels(tx))
    if users.find(tx, user) is None:
        raise unknown("key", reference, [*users.names(tx), *_labels(tx)])
    owned = listing(tx, user=user)
    found = owned if len(owned) == 1 else [key for key in owned if key.revoked_at_s is None]
    if not found:
        raise NotFound(f"{user} has no active key", hint=f"llmctl key create {user}")
    if len(found) > 1:
        names = ", ".join(key.label for key in found)
        raise NotFound(f"{user} has {len(found)} active keys: {names}", hint="name one of them as user/name")
    return found[0]


def of_secret(tx: sqlite3.Connection, secret: str) -> tuple[Key, Secret]:
    """The key that a found secret belongs to, also a revoked one. Raises NotFound; no message repeats the secret."""
    row = tx.execute("SELECT key_id, hash FROM secrets WHERE hash = ?", (hash_of(secret),)).fetchone()
    if row is None:
        raise NotFound("no key has this secret", hint="it is mistyped, or not of this gateway")
    key = _get_row(tx, row[0])
    return key, next(one for one in secrets_of(tx, key) if one.hash == row[1])


def secrets_of(tx: sqlite3.Connection, key: Key) -> list[Secret]:
    """All secrets that a key has had, the newest first."""
    rows = tx.execute(
        """
        SELECT hash, prefix, created_at, expires_at FROM secrets WHERE key_id = ?
        ORDER BY expires_at IS NULL DESC, expires_at DESC, created_at DESC
        """,
        (key.row_id,),
    )
    return [Secret(*row) for row in rows]


def listing(tx: sqlite3.Connection, *, user: str | None = None) -> list[Key]:
    """All keys, revoked ones too, by user and age. Raises NotFound (the user)."""
    if user is None:
        return [_key(row) for row in tx.execute(f"{_SELECT} ORDER BY u.name, k.id")]
    owner = users.get(tx, user)
    return [_key(row) for row in tx.execute(f"{_SELECT} WHERE u.id = ? ORDER BY k.id", (owner.id,))]


def new_ids(tx: sqlite3.Connection, number: int) -> list[str]:
    """Ids that no key has or had."""
    found: dict[str, None] = {}
    while len(found) < number:
        public_id = ID_PREFIX + random_text(ID_ALPHABET, ID_CHARS)
        if tx.execute("SELECT 1 FROM keys WHERE public_id = ?", (public_id,)).fetchone() is None:
            found[public_id] = None
    return list(found)


def check_note(note: str | None) -> None:
    if note is not None and (len(note) > NOTE_CHARS_MAX or not note.isprintable()):
        raise BadInput(f"{note[:40]!r} is no usable note", hint=f"one line of up to {NOTE_CHARS_MAX} characters")


def _check_free(tx: sqlite3.Connection, owner: users.User, name: str) -> None:
    taken = tx.execute(
        "SELECT 1 FROM keys WHERE user_id = ? AND name = ? AND revoked_at IS NULL", (owner.id, name)
    ).fetchone()
    if taken:
        raise AlreadyExists(
            f'key "{owner.name}/{name}" exists already', hint="choose another --name, or: llmctl key rotate"
        )


def _by_prefix(tx: sqlite3.Connection, start: str) -> Key:
    """The key one of whose secrets, living or dead, begins so. A whole secret is refused: it is in the shell's history
    by now, and no message repeats it."""
    if len(start) > SECRET_CHARS // 2:
        raise NotFound(
            "that looks like a secret, not a key",
            hint="name the key by its id, as user/name or by the first 16 characters; or - to read it from stdin",
        )
    if len(start) < len(PREFIX) + 4:
        raise NotFound(f"{start} is too short to find a key by", hint="give the first 16 characters of the secret")
    rows = tx.execute(
        f"""
        {_SELECT} WHERE k.id IN (SELECT key_id FROM secrets WHERE prefix BETWEEN ?1 AND ?1 || char(0x10FFFF))
        """,
        (start[:SHOWN_CHARS],),
    ).fetchall()
    if not rows:
        raise NotFound(f"no key has a secret that begins with {start}", hint="See: llmctl key list --all")
    found = [_key(row) for row in rows]
    found = [key for key in found if key.revoked_at_s is None] or found
    if len(found) > 1:
        names = ", ".join(key.label for key in found)
        raise NotFound(f"{len(found)} keys have a secret that begins with {start}: {names}", hint="name one of them")
    return found[0]


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


def _facts(key: Key) -> dict[str, object]:
    return {"name": key.name, "expires_at": key.expires_at_s, "note": key.note, "allow_from": key.allow_from}


_Row = tuple[
    int,
    str,
    str,
    str,
    str | None,
    str,
    int,
    int | None,
    int | None,
    int | None,
    str | None,
    str | None,
    int,
    str | None,
]


def _key(row: _Row) -> Key:
    return Key(*row[:11], allow_from=row[11], acts_for_end_users=bool(row[12]), disabled_by=row[13])
