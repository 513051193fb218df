"""Groups: departments, or tiers of customers. They nest."""

from __future__ import annotations

import sqlite3
from difflib import get_close_matches
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from llmctl.domain.errors import AlreadyExists, BadInput, DoesNotFit, HasMembers

from . import audit, balances
from .audit import Author
from .names import check_name, column, unknown

DEPTH_MAX = 16  # deeper trees are a mistake, and every call walks its own


class Group(NamedTuple):
    id: int
    name: str
    parent: str | None
    timezone: str | None  # None: inherited
    users: int
    created_at_s: int
    disabled: bool
    disabled_by: str | None  # itself, or the nearest above it that is: keys of its users do not work
    keeps_content: bool  # prompts and answers, of its calls and of those below it
    allow_from: str | None  # networks; None: its keys may be used from anywhere, so far as it is concerned
    removed: bool = False


def shut_by_sql(group_id: str) -> str:
    """The name of the group that shuts out who is in this one: itself, or the nearest above it that is disabled."""
    return f"""
    CASE WHEN EXISTS (SELECT 1 FROM groups WHERE disabled_at IS NOT NULL) THEN (
        WITH RECURSIVE above (name, parent_id, disabled_at, depth) AS (
            SELECT name, parent_id, disabled_at, 0 FROM groups WHERE id = {group_id}
            UNION ALL
            SELECT p.name, p.parent_id, p.disabled_at, depth + 1 FROM groups p JOIN above ON p.id = above.parent_id
        )
        SELECT name FROM above WHERE disabled_at IS NOT NULL ORDER BY depth LIMIT 1
    ) END
"""


_SELECT = f"""
    SELECT g.id, g.name, p.name, g.timezone,
           (SELECT count(*) FROM users u WHERE u.group_id = g.id AND u.removed_at IS NULL),
           g.created_at, g.disabled_at IS NOT NULL, {shut_by_sql("g.id")},
           g.keeps_content_since IS NOT NULL, g.allow_from, g.removed_at IS NOT NULL
    FROM groups g LEFT JOIN groups p ON p.id = g.parent_id
"""
_LIVING = f"{_SELECT} WHERE g.removed_at IS NULL"


def add(
    tx: sqlite3.Connection,
    author: Author,
    name: str,
    *,
    parent: str | None,
    timezone: str | None,
    allow_from: str | None = None,
) -> Group:
    """A new group. Raises BadInput, AlreadyExists, NotFound (the parent)."""
    check_name("group", name)
    if find(tx, name) is not None:
        raise AlreadyExists(f'group "{name}" exists already', hint=f"llmctl group show {name}")
    parent_id = None if parent is None else get(tx, parent).id
    if len(lineage(tx, parent_id)) >= DEPTH_MAX:
        raise _too_deep()
    if timezone is not None:
        check_timezone(timezone)
    tx.execute(
        "INSERT INTO groups (name, parent_id, timezone, allow_from, created_at) VALUES (?, ?, ?, ?, ?)",
        (name, parent_id, timezone, allow_from, author.at_s),
    )
    group = get(tx, name)
    audit.record(tx, author, "group add", name, after=_facts(group))
    return group


def find(tx: sqlite3.Connection, name: str) -> Group | None:
    row = tx.execute(f"{_LIVING} AND g.name = ?", (name,)).fetchone()
    return None if row is None else _group(row)


def get(tx: sqlite3.Connection, name: str) -> Group:
    """Raises NotFound, with a suggestion."""
    group = find(tx, name)
    if group is None:
        raise unknown("group", name, column(tx, "SELECT name FROM groups WHERE removed_at IS NULL"))
    return group


def get_past(tx: sqlite3.Connection, name: str) -> Group:
    """For reports: where no group has this name, the last of those removed that had it. Raises NotFound."""
    found = find(tx, name)
    if found is not None:
        return found
    row = tx.execute(f"{_SELECT} WHERE g.name = ? ORDER BY g.removed_at DESC, g.id DESC LIMIT 1", (name,)).fetchone()
    return get(tx, name) if row is None else _group(row)


def listing(tx: sqlite3.Connection) -> list[Group]:
    return [_group(row) for row in tx.execute(f"{_LIVING} ORDER BY g.name")]


def change(
    tx: sqlite3.Connection,
    author: Author,
    name: str,
    *,
    parent: str | None,
    timezone: str | None,
    allow_from: str | None,
) -> Group:
    """Puts a group below another one (None: below none), into a time zone (None: the inherited one) and into networks
    (None: its keys may be used from anywhere).

    What was spent stays booked to the groups that it was spent in. Raises BadInput, NotFound (group, parent).
    """
    group = get(tx, name)
    parent_id = None if parent is None else possible_parent(tx, group, parent)
    if timezone is not None:
        check_timezone(timezone)
    tx.execute(
        "UPDATE groups SET parent_id = ?, timezone = ?, allow_from = ? WHERE id = ?",
        (parent_id, timezone, allow_from, group.id),
    )
    changed = get(tx, name)
    before, after = _facts(group), _facts(changed)
    if before != after:
        if (group.parent, group.timezone) != (changed.parent, changed.timezone):
            balances.forget(tx)
        audit.record(tx, author, "group set", group.name, before=before, after=after)
    return changed


def rename(tx: sqlite3.Connection, author: Author, name: str, new: str) -> Group:
    """Another name for the same group: its users, limits and history stay. Raises BadInput, AlreadyExists, NotFound."""
    group = get(tx, name)
    check_name("group", new)
    if new == group.name:
        return group
    other = find(tx, new)
    if other is not None and other.id != group.id:
        raise AlreadyExists(f'group "{other.name}" exists already', hint=f"llmctl group show {other.name}")
    tx.execute("UPDATE groups SET name = ? WHERE id = ?", (new, group.id))
    audit.record(tx, author, "group rename", group.name, before={"name": group.name}, after={"name": new})
    return get(tx, new)


def set_disabled(tx: sqlite3.Connection, author: Author, name: str, *, disabled: bool) -> bool:
    """Stops or restores all keys of a group and of the groups below it. False: it was so already. Raises NotFound."""
    group = get(tx, name)
    if group.disabled == disabled:
        return False
    tx.execute("UPDATE groups SET disabled_at = ? WHERE id = ?", (author.at_s if disabled else None, group.id))
    action = "group disable" if disabled else "group enable"
    audit.record(tx, author, action, group.name, before={"disabled": group.disabled}, after={"disabled": disabled})
    return True


def set_keeps_content(tx: sqlite3.Connection, author: Author, name: str, *, kept: bool) -> bool:
    """Has prompts and answers of a group's calls kept, and of those below it, or not. False: it was so already. Raises
    NotFound."""
    group = get(tx, name)
    if group.keeps_content == kept:
        return False
    tx.execute("UPDATE groups SET keeps_content_since = ? WHERE id = ?", (author.at_s if kept else None, group.id))
    action = "content keep" if kept else "content drop"
    audit.record(tx, author, action, group.name, before={"kept": group.keeps_content}, after={"kept": kept})
    return True


def members(tx: sqlite3.Connection, name: str) -> tuple[list[str], list[str]]:
    """The users and the groups directly in a group. Raises NotFound."""
    group = get(tx, name)
    return (
        column(tx, "SELECT name FROM users WHERE group_id = ? AND removed_at IS NULL ORDER BY name", group.id),
        column(tx, "SELECT name FROM groups WHERE parent_id = ? AND removed_at IS NULL ORDER BY name", group.id),
    )


def remove(tx: sqlite3.Connection, author: Author, name: str, *, move_to: str | None = None) -> Group:
    """Ends a group; its users and groups go to `move_to`. Its name stays in the history.

    Raises NotFound; HasMembers if there is nowhere to move them.
    """
    group = get(tx, name)
    users, below = members(tx, name)
    if move_to is not None:
        target_id = possible_parent(tx, group, move_to)
        audit.record_many(tx, author, "user move", _moves("group", users, group, move_to))
        audit.record_many(tx, author, "group set", _moves("parent", below, group, move_to))
        tx.execute("UPDATE users SET group_id = ? WHERE group_id = ? AND removed_at IS NULL", (target_id, group.id))
        tx.execute("UPDATE groups SET parent_id = ? WHERE parent_id = ? AND removed_at IS NULL", (target_id, group.id))
    elif users or below:
        held = " and ".join(
            f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"
            for names, noun in ((users, "user"), (below, "group"))
            if names
        )
        raise HasMembers(f"group {group.name} has {held}", hint="say where they go: --move-to GROUP")
    tx.execute("UPDATE groups SET removed_at = ? WHERE id = ?", (author.at_s, group.id))
    balances.forget(tx)
    before = _facts(group) | {"users": users, "groups": below}
    after: dict[str, object] | None = None if move_to is None else {"moved_to": move_to}
    audit.record(tx, author, "group remove", group.name, before=before, after=after)
    return group


def names(tx: sqlite3.Connection) -> dict[int, str]:
    """By id, also of groups that were removed, which are marked so."""
    return dict(tx.execute("SELECT id, iif(removed_at IS NULL, name, name || ' (removed)') FROM groups"))


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
        hint = f"{_nearest_zone(name)}write an IANA name such as Europe/Berlin or UTC"
        raise BadInput(f"unknown time zone {name!r}", hint=hint) from None
    return name


def _nearest_zone(name: str) -> str:
    """`did you mean "Europe/Berlin"?  ` for `berlin`, `Europe/Belrin`."""
    by_ending: dict[str, str] = {}
    for zone in sorted(available_timezones()):
        for ending in (zone, zone.rpartition("/")[2]):
            by_ending.setdefault(ending.lower(), zone)
    close = get_close_matches(name.lower().replace(" ", "_"), by_ending, n=1)
    return f'did you mean "{by_ending[close[0]]}"?  ' if close else ""


def possible_parent(tx: sqlite3.Connection, group: Group, parent: str) -> int:
    """The id of the group `parent`, unless `group` would then lie below itself or too deep."""
    new = get(tx, parent)
    above = lineage(tx, new.id)
    if group.id in above:
        what = "itself" if new.id == group.id else f"{new.name}, which lies below it"
        raise DoesNotFit(f"group {group.name} cannot go below {what}", hint="choose a group that is not below it")
    if len(above) + _height(tx, group.id) > DEPTH_MAX:
        raise _too_deep()
    return new.id


def _too_deep() -> DoesNotFit:
    return DoesNotFit(f"groups nest at most {DEPTH_MAX} deep", hint="choose a parent nearer to the root")


def _height(tx: sqlite3.Connection, group_id: int) -> int:
    """How many levels a group and those below it take."""
    (levels,) = tx.execute(
        """
        WITH RECURSIVE down (id, depth) AS (
            SELECT ?, 1
            UNION ALL
            SELECT g.id, depth + 1 FROM groups g JOIN down ON g.parent_id = down.id WHERE g.removed_at IS NULL
        )
        SELECT max(depth) FROM down
        """,
        (group_id,),
    ).fetchone()
    assert isinstance(levels, int)
    return levels


def _moves(what: str, names: list[str], group: Group, target: str) -> list[audit.Change]:
    return [audit.change(name, before={what: group.name}, after={what: target}) for name in names]


def _facts(group: Group) -> dict[str, object]:
    facts: dict[str, object] = {"parent": group.parent, "timezone": group.timezone}
    return facts | {"allow_from": group.allow_from} if group.allow_from else facts


def _group(row: tuple[int, str, str | None, str | None, int, int, int, str | None, int, str | None, int]) -> Group:
    return Group(
        *row[:6],
        disabled=bool(row[6]),
        disabled_by=row[7],
        keeps_content=bool(row[8]),
        allow_from=row[9],
        removed=bool(row[10]),
    )
