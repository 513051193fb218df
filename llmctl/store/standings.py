"""How limits stand now, for people: what is spent, held and left. From the ledger's balances where it keeps one, else
from what is booked: nothing is created, reading needs no right to write.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.limit import Limit, Standing
from llmctl.domain.window import MINUTE_S

from . import balances, rollups
from .balances import Place
from .sql import as_json, run

NO_MEMBER = 0


@dataclass(frozen=True, slots=True)
class Nearest:
    """A limit in its current window. One on each user: as it stands for the member who has the least left."""

    standing: Standing
    member: str  # "" unless the limit is on each user and somebody has called
    members: int  # how many have called in this window


def now(tx: sqlite3.Connection, limit: Limit, now_s: int) -> Nearest:
    if limit.each == "end_user":
        return _nearest_end_user(tx, limit, now_s)
    if limit.each != "user":
        return Nearest(of_member(tx, limit, NO_MEMBER, now_s), "", 0)
    found = by_member(tx, limit, now_s)
    if not found:
        return _nobody(limit, now_s)
    nearest = min(found.values(), key=lambda standing: standing.left)
    (name,) = tx.execute("SELECT name FROM users WHERE id = ?", (nearest.member_id,)).fetchone()
    return Nearest(nearest, name, len(found))


def _nearest_end_user(tx: sqlite3.Connection, limit: Limit, now_s: int) -> Nearest:
    """By the balances alone: there may be a million end users, and each that has called has one."""
    place = balances.place_of(limit, NO_MEMBER, now_s)
    from_s = place.window_start_s - MINUTE_S if place.slides else place.window_start_s
    row = tx.execute(
        """
        WITH granted (member_id, amount) AS MATERIALIZED (
            SELECT member_id, sum(amount) FROM grants WHERE limit_id = ?1 AND until_at > ?3 GROUP BY member_id
        )
        SELECT b.member_id, sum(settled), sum(held), count(*) OVER ()
        FROM balances AS b LEFT JOIN granted AS g ON g.member_id = b.member_id
        WHERE limit_id = ?1 AND window_start >= ?2
        GROUP BY b.member_id ORDER BY sum(settled + held) - coalesce(g.amount, 0) DESC LIMIT 1
        """,
        (limit.id, from_s, now_s),
    ).fetchone()
    if row is None:
        return _nobody(limit, now_s)
    member_id, settled, held, members = row
    (name,) = tx.execute("SELECT name FROM names WHERE id = ?", (member_id,)).fetchone()
    standing = Standing(limit, member_id, place.window_start_s, place.window_end_s, settled, held)
    standing.grant(now_s)
    return Nearest(standing, name, members)


def _nobody(limit: Limit, now_s: int) -> Nearest:
    """Where nobody has called yet: as it stands for everybody."""
    place = balances.place_of(limit, NO_MEMBER, now_s)
    standing = Standing(limit, NO_MEMBER, place.window_start_s, place.window_end_s, 0, 0)
    standing.grant(now_s)
    return Nearest(standing, "", 0)


def of_member(tx: sqlite3.Connection, limit: Limit, user_id: int, now_s: int) -> Standing:
    """A limit as it stands now; one on each user: for this one."""
    return run(tx, balances.now(limit, user_id if limit.each == "user" else NO_MEMBER, now_s))


def members(tx: sqlite3.Connection, limit: Limit, now_s: int) -> list[Nearest]:
    """A limit on each user, for everybody who has called in its current window: who has least left first."""
    if limit.each != "user":
        return []
    found = sorted(by_member(tx, limit, now_s).items(), key=lambda item: item[1].left)
    names = dict(tx.execute("SELECT id, name FROM users"))
    return [Nearest(standing, names[user_id], len(found)) for user_id, standing in found]


def by_member(tx: sqlite3.Connection, limit: Limit, now_s: int) -> dict[int, Standing]:
    """A limit on each user, for everybody who has called in its current window, by user id."""
    place = balances.place_of(limit, NO_MEMBER, now_s)
    found = {
        user_id: Standing(limit, user_id, place.window_start_s, place.window_end_s, settled, held)
        for user_id, (settled, held) in _by_user(tx, place).items()
    }
    for standing in found.values():
        standing.grant(now_s)
    return found


def empty(limit: Limit) -> Standing:
    """A limit of which nothing is known to be spent: for what is the same whatever was."""
    return Standing(limit, NO_MEMBER, 0, None, 0, 0)


def _by_user(tx: sqlite3.Connection, place: Place) -> dict[int, tuple[int, int]]:
    """(settled, held) by user: one pass, where there may be ten thousand members."""
    limit = place.limit
    if place.slides:
        rows = tx.execute(
            """
            SELECT member_id, sum(settled), sum(held) FROM balances
            WHERE limit_id = ? AND window_start >= ? GROUP BY member_id
            """,
            (limit.id, place.window_start_s - MINUTE_S),
        )
        return {user_id: (settled, held) for user_id, settled, held in rows}
    where = "true"
    if limit.principal == "group":
        where += " AND lineage_id IN (SELECT lineage_id FROM lineage_groups WHERE group_id = :principal)"
    if limit.model_pattern:
        where += " AND model_id IN (SELECT value FROM json_each(:models))"
    settled = balances.SETTLED[limit.measure]
    plan = run(tx, rollups.whole(*balances.buckets(place)))
    rows = tx.execute(
        f"""
        SELECT user_id, sum(settled), sum(held) FROM (
            SELECT user_id, sum({settled}) AS settled, 0 AS held FROM {rollups.SUMMARIES} WHERE {where} GROUP BY user_id
            UNION ALL
            SELECT user_id, sum({settled}), 0 FROM {rollups.QUARTERS} WHERE {where} GROUP BY user_id
            UNION ALL
            SELECT user_id, 0, {balances.HELD[limit.measure]} FROM calls
            WHERE state = 'open' AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000 AND {where}
        ) GROUP BY user_id
        """,
        {
            "start": place.window_start_s,
            "end": balances.FAR_S if place.window_end_s is None else place.window_end_s,
            "principal": limit.principal_id,
            "models": as_json(run(tx, balances.model_ids(limit.model_pattern))) if limit.model_pattern else "[]",
            **plan.parameters,
        },
    )
    return {user_id: (settled, held) for user_id, settled, held in rows}
