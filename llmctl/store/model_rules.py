"""Which models the organisation, a group, a user or a key may use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.domain.access import Effect, ModelRule, check_pattern
from llmctl.domain.scope import Scope

from . import audit, scopes
from .audit import Author
from .scopes import ALIVE_SQL, APPLYING_SQL, NAME_SQL


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on models, as it was set on one principal."""

    scope: Scope
    effect: Effect
    pattern: str
    created_at_s: int


def put(tx: sqlite3.Connection, author: Author, scope: Scope, effect: Effect, pattern: str) -> bool:
    """Allows or denies a pattern; the other effect on the same pattern is replaced. False: it was so already."""
    check_pattern(pattern)
    row = tx.execute(
        "SELECT effect FROM model_rules WHERE principal = ? AND principal_id = ? AND pattern = ?",
        (scope.principal, scope.id, pattern),
    ).fetchone()
    if row is not None and row[0] == effect:
        return False
    tx.execute(
        """
        INSERT INTO model_rules (principal, principal_id, effect, pattern, created_at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET effect = excluded.effect, created_at = excluded.created_at
        """,
        (scope.principal, scope.id, effect, pattern, author.at_s),
    )
    before = None if row is None else {"effect": row[0]}
    audit.record(tx, author, f"model {effect}", f"{pattern} for {scope.label}", before=before, after={"effect": effect})
    return True


def reset(tx: sqlite3.Connection, author: Author, scope: Scope, pattern: str) -> bool:
    """Takes a rule away again. False: there was none."""
    row = tx.execute(
        "DELETE FROM model_rules WHERE principal = ? AND principal_id = ? AND pattern = ? RETURNING effect",
        (scope.principal, scope.id, pattern),
    ).fetchone()
    if row is None:
        return False
    audit.record(tx, author, "model reset", f"{pattern} for {scope.label}", before={"effect": row[0]})
    return True


def listing(tx: sqlite3.Connection, *, scope: Scope | None = None) -> list[Rule]:
    mine = "" if scope is None else "AND principal = ? AND principal_id = ?"
    rows = tx.execute(
        f"""
        SELECT principal, principal_id, {NAME_SQL} AS name, effect, pattern, created_at FROM model_rules
        WHERE {ALIVE_SQL} {mine}
        ORDER BY CASE principal WHEN 'org' THEN 0 WHEN 'group' THEN 1 WHEN 'user' THEN 2 ELSE 3 END, name, pattern
        """,
        () if scope is None else (scope.principal, scope.id),
    )
    return [Rule(Scope(*row[:3]), *row[3:]) for row in rows]


def applying(
    tx: sqlite3.Connection, *, lineage: Sequence[int], user_id: int, key_id: int
) -> tuple[tuple[ModelRule, ...], ...]:
    """The rules of a call, one entry a level that has any."""
    rows = tx.execute(
        f"""
        SELECT principal, principal_id, {NAME_SQL}, effect, pattern FROM model_rules
        WHERE {APPLYING_SQL} ORDER BY id
        """,
        (json.dumps(lineage), user_id, key_id),
    )
    levels: dict[Scope, list[ModelRule]] = {}
    for *level, effect, pattern in rows:
        scope = Scope(*level)
        levels.setdefault(scope, []).append(ModelRule(effect, pattern, scope.label))
    return tuple(tuple(rules) for rules in levels.values())


def binding(tx: sqlite3.Connection, scope: Scope) -> tuple[tuple[ModelRule, ...], ...]:
    """The rules of a principal's calls, as `applying`: its own, and those above it."""
    return applying(tx, **scopes.chain(tx, scope)._asdict())
