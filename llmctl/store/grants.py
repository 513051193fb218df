"""Grants: what a limit allows more until a moment, to one of its members or to all. They end by themselves."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import BadInput
from llmctl.domain.limit import Limit
from llmctl.domain.money import usd_plain

from . import audit, users
from .audit import Author

EVERYONE = 0
REASON_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Granted:
    """One grant; `member` is "" where everyone has it."""

    member: str
    amount: int
    until_s: int
    reason: str


def add(
    tx: sqlite3.Connection, author: Author, limit: Limit, *, member: str, amount: int, until_s: int, reason: str
) -> Granted:
    """`member` is the name of a user or end user, as the limit is on each of them. Raises BadInput, NotFound."""
    if amount <= 0:
        raise BadInput("a grant of nothing", hint="name an amount above 0")
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise BadInput("no usable reason", hint=f"write at most {REASON_CHARACTERS_MAX} printable characters")
    member_id, name = _member(tx, limit, member)
    tx.execute(
        "INSERT INTO grants (limit_id, member_id, amount, until_at, reason, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (limit.id, member_id, amount, until_s, reason, author.at_s),
    )
    after: dict[str, object] = {
        "member": name or None,
        "measure": limit.measure,
        "amount": usd_plain(amount) if limit.measure == "cost" else amount,
        "until": until_s,
        "reason": reason,
    }
    audit.record(tx, author, "limit grant", f"l{limit.id} {limit.on}", after=after)
    return Granted(name, amount, until_s, reason)


def listing(tx: sqlite3.Connection, limit: Limit, now_s: int) -> list[Granted]:
    """Those in force, the one that ends first first."""
    rows = tx.execute(
        "SELECT member_id, amount, until_at, reason FROM grants WHERE limit_id = ? AND until_at > ? ORDER BY until_at",
        (limit.id, now_s),
    )
    return [Granted(_name(tx, limit, member_id), *more) for member_id, *more in rows.fetchall()]


def _member(tx: sqlite3.Connection, limit: Limit, member: str) -> tuple[int, str]:
    if not member:
        return EVERYONE, ""
    if limit.each == "user":
        user = users.get(tx, member)
        return user.id, user.name
    if limit.each == "end_user":
        tx.execute("INSERT INTO names (name) VALUES (?) ON CONFLICT DO NOTHING", (member,))
        (name_id,) = tx.execute("SELECT id FROM names WHERE name = ?", (member,)).fetchone()
        return name_id, member
    raise BadInput(f"limit l{limit.id} is one amount for all of {limit.on}", hint="leave out the member")


def _name(tx: sqlite3.Connection, limit: Limit, member_id: int) -> str:
    if member_id == EVERYONE:
        return ""
    table = "users" if limit.each == "user" else "names"
    (name,) = tx.execute(f"SELECT name FROM {table} WHERE id = ?", (member_id,)).fetchone()
    assert isinstance(name, str)
    return name
