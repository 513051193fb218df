"""Groups: departments, or tiers of customers. They nest."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from llmctl.domain.errors import AlreadyExists, BadInput

from . import audit
from .audit import Author
from .names import check_name, column, unknown

DEPTH_MAX = 16  # deeper trees are a mistake, and every call walks its own


@dataclass(frozen=True, slots=True)
class Group:
    id: int
    name: str
    parent: str | None
    timezone: str | None  # None: inherited
    users: int
    created_at_s: int
    disabled: bool


_SELECT = """
    SELECT g.id, g.name, p.name, g.timezone,
           (SELECT count(*) FROM users u WHERE u.group_id = g.id AND u.removed_at IS NULL),
           g.created_at, g.disabled_at IS NOT NULL
    FROM groups g LEFT JOIN groups p ON p.id = g.parent_id
    WHERE g.removed_at IS NULL
"""


def add(tx: sqlite3.Connection, author: Author, name: str, *, parent: str | None, timezone: str | None) -> Group:
    """A new group. Raises BadInput, AlreadyExists, NotFound (the parent)."""
    check_name("group", name)
    if find(tx, name) is not None:
        raise AlreadyExists(f'group "{name}" exists already', hint=f"llmctl group show {name}")
    parent_id = None
    if parent is not None:
        parent_id = get(tx, parent).id
        if len(lineage(tx, parent_id)) >= DEPTH_MAX:
            raise BadInput(f"groups nest at most {DEPTH_MAX} deep", hint="choose a parent nearer to the root")
    if timezone is not None:
        check_timezone(timezone)
    tx.execute(
        "INSERT INTO groups (name, parent_id, timezone, created_at) VALUES (?, ?, ?, ?)",
        (name, parent_id, timezone, author.at_s),
    )
    audit.record(tx, author, "group add", name, after={"parent": parent, "timezone": timezone})
    return get(tx, name)


def find(tx: sqlite3.Connection, name: str) -> Group | None:
    row = tx.execute(f"{_SELECT} AND g.name = ?", (name,)).fetchone()
    return None if row is None else _group(row)


def get(tx: sqlite3.Connection, name: str) -> Group:
    """Raises NotFound, with a suggestion."""
    group = find(tx, name)
    if group is None:
        raise unknown("group", name, column(tx, "SELECT name FROM groups WHERE removed_at IS NULL"))
    return group


def listing(tx: sqlite3.Connection) -> list[Group]:
    return [_group(row) for row in tx.execute(f"{_SELECT} ORDER BY g.name")]


def names(tx: sqlite3.Connection) -> dict[int, str]:
    """By id, also of groups that were removed."""
    return dict(tx.execute("SELECT id, name FROM groups"))


def parents(tx: sqlite3.Connection) -> dict[int, int | None]:
    """By id, also of groups that were removed."""
    return dict(tx.execute("SELECT id, parent_id FROM groups"))


def lineage(tx: sqlite3.Connection, group_id: int | None) -> tuple[int, ...]:
    """Group ids from the root to this group."""
    rows = tx.execute(
        """
        WITH RECURSIVE up (id, parent_id, depth) AS (
            SELECT id, parent_id, 0 FROM groups WHERE id = ?
            UNION ALL
            SELECT g.id, g.parent_id, depth + 1 FROM groups g JOIN up ON g.id = up.parent_id
        )
        SELECT id FROM up ORDER BY depth DESC
        """,
        (group_id,),
    )
    return tuple(row[0] for row in rows)


def zone(tx: sqlite3.Connection, group_id: int | None, default: str) -> str:
    """The time zone that a group lives in: its own, or of the nearest group above it that has one."""
    for one_id in reversed(lineage(tx, group_id)):
        (own,) = tx.execute("SELECT timezone FROM groups WHERE id = ?", (one_id,)).fetchone()
        if own is not None:
            return str(own)
    return default


def check_timezone(name: str) -> str:
    """An IANA zone such as Europe/Berlin, or BadInput."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise BadInput(f"unknown time zone {name!r}", hint="write an IANA name such as Europe/Berlin or UTC") from None
    return name


def _group(row: tuple[int, str, str | None, str | None, int, int, int]) -> Group:
    return Group(*row[:6], disabled=bool(row[6]))
