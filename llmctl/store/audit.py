"""Who changed what, when: one row a change, in the change's own transaction. Rows survive their subject."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple


class Author(NamedTuple):
    """Who makes a change, and when (unix seconds)."""

    name: str
    at_s: int


def record(
    tx: sqlite3.Connection,
    author: Author,
    action: str,
    subject: str,
    *,
    before: dict[str, object] | None = None,
    after: dict[str, object] | None = None,
) -> None:
    """Writes the change down and bumps the version that makes the daemon look before its next call."""
    tx.execute(
        "INSERT INTO audit (at, actor, action, subject, before, after) VALUES (?, ?, ?, ?, ?, ?)",
        (author.at_s, author.name, action, subject, _json(before), _json(after)),
    )
    tx.execute("UPDATE settings SET settings_version = settings_version + 1")


def keep(
    tx: sqlite3.Connection, author: Author, action: str, subject: str, after: dict[str, object], entry: int = 0
) -> int:
    """A change of many transactions, written down with the first and kept up to date with each: `entry` is what the one
    before returned. The daemon need not look."""
    if entry:
        tx.execute("UPDATE audit SET after = ? WHERE id = ?", (_json(after), entry))
        return entry
    rows = tx.execute(
        "INSERT INTO audit (at, actor, action, subject, after) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (author.at_s, author.name, action, subject, _json(after)),
    )
    ((entry,),) = rows.fetchall()
    return entry


Change = tuple[str, str | None, str | None]  # subject, before, after: as they are written


def change(subject: str, *, before: dict[str, object] | None = None, after: dict[str, object] | None = None) -> Change:
    """One of many, which can be made before the transaction that records them."""
    return subject, _json(before), _json(after)


def record_many(tx: sqlite3.Connection, author: Author, action: str, changes: Iterable[Change]) -> None:
    """The same action on many subjects, a row each."""
    tx.executemany(
        "INSERT INTO audit (at, actor, action, subject, before, after) VALUES (?, ?, ?, ?, ?, ?)",
        [(author.at_s, author.name, action, *one) for one in changes],
    )
    tx.execute("UPDATE settings SET settings_version = settings_version + 1")


class Entry(NamedTuple):
    """One change. `before` and `after` are what was written down, None where there was nothing."""

    id: int
    at_s: int
    actor: str
    action: str
    subject: str
    before: dict[str, object] | None
    after: dict[str, object] | None


class AuditFilters(NamedTuple):
    """Which changes: each text is part of what it is compared with, in any letter case; empty: all."""

    text: str = ""  # in actor, action or subject, or in a text of what was before or after
    actor: str = ""
    action: str = ""
    subject: str = ""  # whoever was renamed is found by their name of today too
    since_s: int = 0
    until_s: int = 1 << 50


def listing(tx: sqlite3.Connection, filters: AuditFilters, *, entries_max: int) -> list[Entry]:
    """The newest changes first."""
    rows = tx.execute(
        f"""
        SELECT id, at, actor, action, subject, before, after FROM audit
        WHERE at >= :since AND at < :until
          AND instr(lower(actor), :actor) AND instr(lower(action), :action)
          AND (instr(lower(subject), :subject) OR {_FORMERLY.format(names=":subject_before")})
          AND (instr(lower(actor), :text) OR instr(lower(action), :text) OR instr(lower(subject), :text)
               OR {_SAYS.format(facts="before")} OR {_SAYS.format(facts="after")}
               OR {_FORMERLY.format(names=":text_before")})
        ORDER BY id DESC LIMIT :most
        """,
        {
            "since": filters.since_s,
            "until": filters.until_s,
            "actor": filters.actor.lower(),
            "action": filters.action.lower(),
            "subject": filters.subject.lower(),
            "text": filters.text.lower(),
            "subject_before": _former_names(tx, filters.subject),
            "text_before": _former_names(tx, filters.text),
            "most": entries_max,
        },
    )
    return [
        Entry(entry_id, at_s, actor, action, subject, _value(before), _value(after))
        for entry_id, at_s, actor, action, subject, before, after in rows
    ]


def pruned_before_s(tx: sqlite3.Connection) -> int:
    """The moment before which there are sums and no single calls any more; 0: nothing was pruned."""
    (before_s,) = tx.execute("SELECT max(after ->> 'before') FROM audit WHERE action = 'prune'").fetchone()
    return 0 if before_s is None else int(before_s)


# A text among the values, not among their names: `name` is in nearly every row.
_SAYS = "EXISTS (SELECT 1 FROM json_each({facts}) AS j WHERE j.type = 'text' AND instr(lower(j.value), :text))"
# The subject, or a key or limit of it: `carol`, `carol/laptop`, `l3 user carol`.
_FORMERLY = """
    EXISTS (
        SELECT 1 FROM json_each({names}) AS f
        WHERE audit.id <= f.value ->> 1
          AND instr(' ' || replace(replace(lower(subject), '/', ' '), ',', ' ') || ' ', ' ' || (f.value ->> 0) || ' ')
    )
"""


def _former_names(tx: sqlite3.Connection, name: str) -> str:
    """What a user or group of this name was called before: JSON of (name, up to which row)."""
    rows = tx.execute(
        """
        WITH RECURSIVE former (name, last_id) AS (
            SELECT ?1, 1 << 60
            UNION
            SELECT lower(a.before ->> 'name'), a.id FROM former f JOIN audit a
            ON a.action IN ('user rename', 'group rename') AND a.id < f.last_id AND lower(a.after ->> 'name') = f.name
        )
        SELECT json_group_array(json_array(name, last_id)) FROM former WHERE last_id < 1 << 60
        """,
        (name.lower(),),
    )
    return str(rows.fetchone()[0]) if name else "[]"


def _value(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else {"value": value}


def _json(value: dict[str, object] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))
