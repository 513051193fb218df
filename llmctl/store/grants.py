"""Grants: what a limit allows more until a moment, to one of its members or to all. They end by themselves."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.errors import BadInput, DoesNotFit, LlmctlError
from llmctl.domain.limit import Limit
from llmctl.domain.money import usd_plain

from . import audit, scopes, users
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
    given = Granted(name, amount, until_s, reason)
    audit.record(tx, author, "limit grant", f"l{limit.id} {limit.on}", after=_facts(limit, given))
    return given


def withdraw(tx: sqlite3.Connection, author: Author, limit: Limit, *, member: str = "") -> list[Granted]:
    """Ends those in force now; with `member`, theirs alone. Returns what they were."""
    found = _in_force(tx, limit, author.at_s, member)
    for grant_id, given in found:
        tx.execute("UPDATE grants SET until_at = ? WHERE id = ?", (author.at_s, grant_id))
        audit.record(tx, author, "limit withdraw", f"l{limit.id} {limit.on}", before=_facts(limit, given))
    return [given for _, given in found]


def listing(tx: sqlite3.Connection, limit: Limit, now_s: int, *, member: str = "") -> list[Granted]:
    """Those in force, the one that ends first first; with `member`, theirs alone."""
    return [given for _, given in _in_force(tx, limit, now_s, member)]


def check_applies(tx: sqlite3.Connection, limit: Limit, user: str) -> None:
    """Raises LlmctlError if the limit never counts a call of this user, as they are now; NotFound."""
    who = users.get(tx, user)
    if limit.scope.principal == "group":
        fits = limit.scope.id in scopes.chain(tx, scopes.of_user(tx, user)).lineage
    elif limit.scope.principal == "key":
        keys = tx.execute("SELECT id FROM keys WHERE user_id = ?", (who.id,)).fetchall()
        fits = (limit.scope.id,) in keys
    else:
        fits = limit.scope.principal == "org" or limit.scope.id == who.id
    if not fits:
        where = f"is in {who.group}" if who.group else "is in no group"
        hint = f"{who.name} {where}" if limit.scope.principal == "group" else "See: llmctl limit list"
        raise LlmctlError(
            f"limit l{limit.id} ({limit.on}) never applies to {who.name}", hint=hint, code="limit_not_theirs"
        )


def _in_force(tx: sqlite3.Connection, limit: Limit, now_s: int, member: str) -> list[tuple[int, Granted]]:
    rows = tx.execute(
        """
        SELECT id, member_id, amount, until_at, reason FROM grants
        WHERE limit_id = ? AND until_at > ? ORDER BY until_at, id
        """,
        (limit.id, now_s),
    )
    found = [(grant_id, Granted(_name(tx, limit, member_id), *more)) for grant_id, member_id, *more in rows.fetchall()]
    return [(grant_id, given) for grant_id, given in found if not member or given.member.lower() == member.lower()]


def _facts(limit: Limit, given: Granted) -> dict[str, object]:
    return {
        "member": given.member or None,
        "measure": limit.measure,
        "amount": usd_plain(given.amount) if limit.measure == "cost" else given.amount,
        "until": given.until_s,
        "reason": given.reason,
    }


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
    raise DoesNotFit(f"limit l{limit.id} is one amount for all of {limit.on}", hint="leave out the member")


def _name(tx: sqlite3.Connection, limit: Limit, member_id: int) -> str:
    if member_id == EVERYONE:
        return ""
    table = "users" if limit.each == "user" else "names"
    (name,) = tx.execute(f"SELECT name FROM {table} WHERE id = ?", (member_id,)).fetchone()
    assert isinstance(name, str)
    return name
