"""What a restore carries over from the database that it replaces: nobody who was shut out since the backup gets in
again, and whoever was given a new secret keeps it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_KEY_NAMES = "SELECT u.name || '/' || k.name FROM main.keys k JOIN main.users u ON u.id = k.user_id WHERE k.id IN"

# Rows are never deleted, so an id means the same in both files, if they are of one history at all: a key's public id is
# random, a user's or group's birth has to be the same second.
_KEYS = "FROM main.keys mine JOIN then_.keys theirs ON theirs.public_id = mine.public_id"
_SAME = "theirs.id = mine.id AND theirs.created_at = mine.created_at"


@dataclass(frozen=True, slots=True)
class Carried:
    """Names of what was shut out since the backup, and stays so."""

    revoked: tuple[str, ...] = ()
    expiring: tuple[str, ...] = ()  # sooner than in the backup, or now expired
    rotated: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()  # users and groups, removed ones too
    bound: tuple[str, ...] = ()  # keys and groups, to networks that the backup does not have

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        return {
            "revoked": self.revoked,
            "expiring": self.expiring,
            "rotated": self.rotated,
            "disabled": self.disabled,
            "bound": self.bound,
        }

    @property
    def facts(self) -> dict[str, object]:
        """For the audit and JSON: what there is of it."""
        return {what: list(names) for what, names in self.named.items() if names}


def carry_over(restored: Path, replaced: Path) -> Carried | None:
    """Into `restored`, which nobody else has open. None: the replaced one cannot be read any more."""
    try:
        with closing(sqlite3.connect(restored.absolute().as_uri(), isolation_level=None, uri=True)) as connection:
            connection.execute("ATTACH ? AS then_", (f"{replaced.absolute().as_uri()}?mode=ro",))
            connection.execute("BEGIN IMMEDIATE")
            found = Carried(
                revoked=_revoked(connection),
                expiring=_expiring(connection),
                rotated=_rotated(connection),
                disabled=(*_disabled(connection), *_below_disabled(connection)),
                bound=(*_bound_keys(connection), *_bound_groups(connection)),
            )
            connection.execute("COMMIT")
            return found
    except sqlite3.Error:
        return None


def _revoked(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        f"SELECT mine.id, theirs.revoked_at {_KEYS} WHERE mine.revoked_at IS NULL AND theirs.revoked_at IS NOT NULL"
    ).fetchall()
    connection.executemany("UPDATE main.keys SET revoked_at = ?2 WHERE id = ?1", rows)
    return _names(connection, [key_id for key_id, _ in rows])


def _expiring(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        f"""
        SELECT mine.id, theirs.expires_at {_KEYS}
        WHERE mine.revoked_at IS NULL AND (mine.expires_at IS NULL OR mine.expires_at > theirs.expires_at)
          AND theirs.expires_at IS NOT NULL
        """
    ).fetchall()
    connection.executemany("UPDATE main.keys SET expires_at = ?2 WHERE id = ?1", rows)
    return _names(connection, [key_id for key_id, _ in rows])


def _rotated(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Secrets end when they ended there, and newer ones work: else a rotated key would have none that does."""
    secrets = f"{_KEYS} JOIN then_.secrets their ON their.key_id = theirs.id"
    ended = connection.execute(
        f"""
        SELECT mine.id, their.hash, their.expires_at {secrets} JOIN main.secrets my ON my.hash = their.hash
        WHERE their.expires_at IS NOT NULL AND (my.expires_at IS NULL OR my.expires_at > their.expires_at)
        """
    ).fetchall()
    connection.executemany("UPDATE main.secrets SET expires_at = ?3 WHERE hash = ?2 AND ?1 = key_id", ended)
    connection.execute(
        f"""
        INSERT INTO main.secrets (hash, key_id, prefix, created_at, expires_at)
        SELECT their.hash, mine.id, their.prefix, their.created_at, their.expires_at {secrets}
        WHERE their.hash NOT IN (SELECT hash FROM main.secrets)
        """
    )
    return _names(connection, [key_id for key_id, *_ in ended])


def _disabled(connection: sqlite3.Connection) -> tuple[str, ...]:
    names: list[str] = []
    for table in ("users", "groups"):
        rows = connection.execute(
            f"""
            SELECT mine.id, coalesce(theirs.disabled_at, theirs.removed_at), mine.name
            FROM main.{table} mine JOIN then_.{table} theirs ON {_SAME}
            WHERE mine.disabled_at IS NULL AND mine.removed_at IS NULL
              AND (theirs.disabled_at IS NOT NULL OR theirs.removed_at IS NOT NULL)
            ORDER BY mine.name
            """
        ).fetchall()
        connection.executemany(f"UPDATE main.{table} SET disabled_at = ?2 WHERE id = ?1", [row[:2] for row in rows])
        names += [f"{table.removesuffix('s')} {name}" for _, _, name in rows]
    return tuple(names)


def _below_disabled(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Users shut out by a group that the backup does not have them in: they or their group moved there since."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE
            shut (id, at) AS (
                SELECT id, disabled_at FROM then_.groups WHERE disabled_at IS NOT NULL
                UNION SELECT g.id, shut.at FROM then_.groups g JOIN shut ON g.parent_id = shut.id
            ),
            shut_here (id) AS (
                SELECT id FROM main.groups WHERE disabled_at IS NOT NULL
                UNION SELECT g.id FROM main.groups g JOIN shut_here ON g.parent_id = shut_here.id
            )
        SELECT mine.id, min(shut.at), mine.name
        FROM main.users mine JOIN then_.users theirs ON {_SAME} JOIN shut ON shut.id = theirs.group_id
        WHERE mine.disabled_at IS NULL AND mine.removed_at IS NULL
          AND (mine.group_id IS NULL OR mine.group_id NOT IN (SELECT id FROM shut_here))
        GROUP BY mine.id ORDER BY mine.name
        """
    ).fetchall()
    connection.executemany("UPDATE main.users SET disabled_at = ?2 WHERE id = ?1", [row[:2] for row in rows])
    return tuple(f"user {name}" for _, _, name in rows)


def _bound_keys(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The networks that were said last count, unless there are none any more: then the backup's, if it has some."""
    rows = connection.execute(
        f"""
        SELECT mine.id, theirs.allow_from {_KEYS}
        WHERE mine.revoked_at IS NULL AND theirs.allow_from IS NOT NULL AND theirs.allow_from IS NOT mine.allow_from
        """
    ).fetchall()
    connection.executemany("UPDATE main.keys SET allow_from = ?2 WHERE id = ?1", rows)
    return tuple(f"key {name}" for name in _names(connection, [key_id for key_id, _ in rows]))


def _bound_groups(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        f"""
        SELECT mine.id, theirs.allow_from, mine.name FROM main.groups mine JOIN then_.groups theirs ON {_SAME}
        WHERE mine.removed_at IS NULL AND theirs.allow_from IS NOT NULL AND theirs.allow_from IS NOT mine.allow_from
        ORDER BY mine.name
        """
    ).fetchall()
    connection.executemany("UPDATE main.groups SET allow_from = ?2 WHERE id = ?1", [row[:2] for row in rows])
    return tuple(f"group {name}" for _, _, name in rows)


def _names(connection: sqlite3.Connection, key_ids: list[int]) -> tuple[str, ...]:
    marks = ", ".join("?" * len(set(key_ids)))
    return tuple(name for (name,) in connection.execute(f"{_KEY_NAMES} ({marks}) ORDER BY 1", [*{*key_ids}]))
