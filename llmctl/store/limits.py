"""Limits: set, listed, removed, and found for a call."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.domain.access import check_pattern
from llmctl.domain.errors import NotFound
from llmctl.domain.limit import Each, Extra, Limit, Measure
from llmctl.domain.money import usd_plain
from llmctl.domain.scope import PrincipalKind, Scope
from llmctl.domain.window import Window

from . import audit, scopes
from .audit import Author
from .scopes import ALIVE_SQL, APPLYING_SQL, NAME_SQL

# The zone of a limit's windows: of its group or the nearest group above it that has one; of a user's or key's group.
_ZONE_SQL = """
    (WITH RECURSIVE up (id, depth) AS (
        SELECT CASE principal
            WHEN 'group' THEN principal_id
            WHEN 'user' THEN (SELECT group_id FROM users WHERE id = principal_id)
            WHEN 'key' THEN (SELECT u.group_id FROM keys k JOIN users u ON u.id = k.user_id WHERE k.id = principal_id)
        END, 0
        UNION ALL
        SELECT g.parent_id, depth + 1 FROM groups g JOIN up ON g.id = up.id WHERE g.timezone IS NULL
     )
     SELECT g.timezone FROM up JOIN groups g ON g.id = up.id WHERE g.timezone IS NOT NULL ORDER BY depth LIMIT 1)
"""
GRANTS_KEPT_S = 86_400  # after their end: clocks differ, and may be set back
_GRANTS_SQL = (
    "SELECT json_group_array(json_array(member_id, g.amount, until_at)) FROM grants g WHERE limit_id = limits.id"
)
_COLUMNS = f"""
    id, {NAME_SQL} AS name, principal, principal_id, each, measure, window,
    CASE principal WHEN 'org' THEN NULL ELSE {_ZONE_SQL} END AS zone, model_pattern, amount, soft,
    created_at
"""


@dataclass(frozen=True, slots=True)
class LimitSet:
    """The result of `put`: `before` is None for a new limit; equal amounts mean that nothing changed."""

    limit: Limit
    before: Limit | None


def put(
    tx: sqlite3.Connection,
    author: Author,
    scope: Scope,
    *,
    measure: Measure,
    window: Window,
    amount: int,
    each: Each = "",
    model_pattern: str = "",
    soft: bool = False,
    default_zone: str,
) -> LimitSet:
    """Sets a limit: an upsert on (principal, each, measure, window, models). An edit never resets what is spent."""
    if model_pattern:
        check_pattern(model_pattern)
    identity = (scope.principal, scope.id, each, measure, window, model_pattern)
    row = tx.execute(
        """
        SELECT id FROM limits
        WHERE principal = ? AND principal_id = ? AND each = ? AND measure = ? AND window = ? AND model_pattern = ?
        """,
        identity,
    ).fetchone()
    before = None if row is None else get(tx, f"l{row[0]}", default_zone=default_zone)
    if before is not None and (before.amount, before.soft) == (amount, soft):
        return LimitSet(before, before)
    (limit_id,) = tx.execute(
        """
        INSERT INTO limits (principal, principal_id, each, measure, window, model_pattern, amount, soft, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET amount = excluded.amount, soft = excluded.soft
        RETURNING id
        """,
        (*identity, amount, soft, author.at_s),
    ).fetchone()
    limit = get(tx, f"l{limit_id}", default_zone=default_zone)
    old = _facts(before) if before else None
    audit.record(tx, author, "limit set", f"l{limit_id} {limit.on}", before=old, after=_facts(limit))
    return LimitSet(limit, before)


def imagined(
    tx: sqlite3.Connection,
    scope: Scope,
    *,
    measure: Measure,
    window: Window,
    amount: int,
    each: Each = "",
    model_pattern: str = "",
    soft: bool = False,
    default_zone: str,
) -> Limit:
    """What `put` would set, without setting it. Its id is 0."""
    if model_pattern:
        check_pattern(model_pattern)
    row = tx.execute(
        f"""
        SELECT {_COLUMNS}, '[]' FROM (
            SELECT 0 AS id, ? AS principal, ? AS principal_id, ? AS each, ? AS measure, ? AS window,
                   ? AS model_pattern, ? AS amount, ? AS soft, 0 AS created_at
        ) AS limits
        """,
        (scope.principal, scope.id, each, measure, window, model_pattern, amount, soft),
    ).fetchone()
    return _limit(row, default_zone)


def remove(tx: sqlite3.Connection, author: Author, reference: str, *, default_zone: str) -> Limit:
    """Removes the limit `l3`. Raises NotFound."""
    limit = get(tx, reference, default_zone=default_zone)
    tx.execute("DELETE FROM grants WHERE limit_id = ?", (limit.id,))
    tx.execute("DELETE FROM limits WHERE id = ?", (limit.id,))
    tx.execute("DELETE FROM balances WHERE limit_id = ?", (limit.id,))
    audit.record(tx, author, "limit remove", f"{reference} {limit.on}", before=_facts(limit))
    return limit


def get(tx: sqlite3.Connection, reference: str, *, default_zone: str) -> Limit:
    """The limit `l3`. Raises NotFound."""
    number = reference[1:] if reference[:1] in ("l", "L") else reference
    row = None
    if number.isascii() and number.isdigit() and len(number) < 18:
        row = tx.execute(f"SELECT {_COLUMNS}, ({_GRANTS_SQL}) FROM limits WHERE id = ?", (int(number),)).fetchone()
    if row is None:
        raise NotFound(f"no limit {reference}", hint="See: llmctl limit list")
    return _limit(row, default_zone)


def default_zone(tx: sqlite3.Connection) -> str:
    """The time zone of limits on whom no group gives another, as the gateway that started last brought it: balances are
    kept by it, whatever the configuration of others says by now."""
    (zone,) = tx.execute("SELECT timezone FROM settings").fetchone()
    assert isinstance(zone, str)
    return zone


def listing(tx: sqlite3.Connection, *, scope: Scope | None = None, default_zone: str) -> list[Limit]:
    sql = f"SELECT {_COLUMNS}, ({_GRANTS_SQL}) FROM limits WHERE {ALIVE_SQL}"
    order = " ORDER BY CASE principal WHEN 'org' THEN 0 WHEN 'group' THEN 1 WHEN 'user' THEN 2 ELSE 3 END, id"
    if scope is None:
        return [_limit(row, default_zone) for row in tx.execute(sql + order)]
    mine = " AND principal = ? AND principal_id = ?"
    return [_limit(row, default_zone) for row in tx.execute(sql + mine + order, (scope.principal, scope.id))]


def applying(
    tx: sqlite3.Connection,
    *,
    lineage: Sequence[int],
    user_id: int,
    key_id: int,
    default_zone: str,
    granted_from_s: int = 0,
) -> tuple[Limit, ...]:
    """Every limit on the organisation, the groups of the lineage, the user and the key, with the grants that end after
    `granted_from_s`."""
    rows = tx.execute(
        f"""
        SELECT {_COLUMNS}, ({_GRANTS_SQL} AND until_at > ?4) FROM limits
        WHERE {APPLYING_SQL} ORDER BY id
        """,
        (json.dumps(lineage), user_id, key_id, granted_from_s),
    )
    return tuple(_limit(row, default_zone) for row in rows)


def binding(tx: sqlite3.Connection, scope: Scope, *, default_zone: str) -> tuple[Limit, ...]:
    """Every limit that binds a principal, wherever it is set."""
    return applying(tx, **scopes.chain(tx, scope)._asdict(), default_zone=default_zone)


def reaches_end_users(tx: sqlite3.Connection, scope: Scope, now_s: int) -> bool:
    """Whether some key that a limit here applies to acts for end users: other keys name nobody (see `balances`)."""
    (found,) = tx.execute(
        """
        WITH RECURSIVE down (id) AS (
            SELECT ?2 WHERE ?1 = 'group' UNION ALL SELECT g.id FROM groups g JOIN down ON g.parent_id = down.id
        )
        SELECT EXISTS (
            SELECT 1 FROM keys k JOIN users u ON u.id = k.user_id
            WHERE k.acts_for_end_users AND k.revoked_at IS NULL AND u.removed_at IS NULL
              AND (k.expires_at IS NULL OR k.expires_at > ?3)
              AND CASE ?1 WHEN 'org' THEN 1 WHEN 'group' THEN u.group_id IN (SELECT id FROM down)
                  WHEN 'user' THEN u.id = ?2 ELSE k.id = ?2 END
        )
        """,
        (scope.principal, scope.id, now_s),
    ).fetchone()
    return bool(found)


_Row = tuple[int, str, PrincipalKind, int, Each, Measure, Window, str | None, str, int, int, int, str]


def _limit(row: _Row, default_zone: str) -> Limit:
    (
        limit_id,
        name,
        principal,
        principal_id,
        each,
        measure,
        window,
        zone,
        pattern,
        amount,
        soft,
        created_at_s,
        extras,
    ) = row
    return Limit(
        id=limit_id,
        scope=Scope(principal, principal_id, name),
        each=each,
        measure=measure,
        window=window,
        zone=zone or default_zone,
        model_pattern=pattern,
        amount=amount,
        soft=bool(soft),
        created_at_s=created_at_s,
        extras=() if extras == "[]" else tuple(Extra(*extra) for extra in json.loads(extras)),
    )


def _facts(limit: Limit) -> dict[str, object]:
    amount = usd_plain(limit.amount) if limit.measure == "cost" else limit.amount
    return {
        "measure": limit.measure,
        "amount": amount,
        "window": limit.window,
        "each": limit.each,
        "models": limit.model_pattern,
        "soft": limit.soft,
    }
