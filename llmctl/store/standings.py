"""How limits stand now, for people: what is spent, held and left. Of one principal from the ledger's balance where it
keeps one, of all members from what is booked: only those have a balance who called since the last change of settings.
Nothing is created, reading needs no right to write.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from llmctl.domain.limit import Limit, Standing
from llmctl.domain.window import BUCKET_S, MINUTE_S

from . import balances, facts, rollups, sliding
from .balances import Place
from .ids import at_or_after
from .sql import Reading, as_json, run
from .usage_sources import LABELS, many_labelled

NO_MEMBER = 0
END_USERS_MAX = 20  # of whom a list is made: there may be a million


@dataclass(frozen=True, slots=True)
class Nearest:
    """A limit in its current window. One on each user or end user: as it stands for one member, first of all for the
    one who has the least left."""

    standing: Standing
    member: str  # "" unless the limit is on each member and somebody has called
    members: int  # how many have called in this window


def now(tx: sqlite3.Connection, limit: Limit, now_s: int) -> Nearest:
    if limit.each == "end_user":
        return next(iter(_end_users(tx, limit, now_s, 1)), None) or _nobody(limit, now_s)
    if limit.each != "user":
        return Nearest(of_member(tx, limit, NO_MEMBER, now_s), "", 0)
    found = by_member(tx, limit, now_s)
    if not found:
        return _nobody(limit, now_s)
    nearest = min(found.values(), key=lambda standing: standing.left)
    (name,) = tx.execute("SELECT name FROM users WHERE id = ?", (nearest.member_id,)).fetchone()
    return Nearest(nearest, name, len(found))


def _nobody(limit: Limit, now_s: int) -> Nearest:
    """Where nobody has called yet: as it stands for everybody."""
    place = balances.place_of(limit, NO_MEMBER, now_s)
    standing = Standing(limit, NO_MEMBER, place.window_start_s, place.window_end_s, 0, 0)
    standing.grant(now_s)
    return Nearest(standing, "", 0)


def of_member(tx: sqlite3.Connection, limit: Limit, user_id: int, now_s: int) -> Standing:
    """A limit as it stands now; one on each user: for this one."""
    return run(tx, member_now(limit, user_id if limit.each == "user" else NO_MEMBER, now_s))


def member_now(limit: Limit, member_id: int, now_s: int) -> Reading[Standing]:
    """Where a limit stands in its current window, for one member. Nothing is created."""
    place = balances.place_of(limit, member_id, now_s)
    rows = yield (
        "SELECT settled, held FROM balances WHERE limit_id = ? AND member_id = ? AND window_start = ?",
        place.row,
    )
    found = balances.standing(place, *rows[0]) if rows else (yield from facts.booked(place))
    if place.slides:
        if place.counts_from_s < sliding.slots_from_s(limit):
            yield from sliding.slide_by_calls(place, found)
        else:
            yield from sliding.slide([(place, found)])
    found.grant(now_s)
    return found


def members(tx: sqlite3.Connection, limit: Limit, now_s: int) -> list[Nearest]:
    """A limit on each user or end user, for those who have called in its current window: who has least left first. Of
    end users, END_USERS_MAX at most."""
    if limit.each == "end_user":
        return _end_users(tx, limit, now_s, END_USERS_MAX)
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
            (limit.id, place.counts_from_s),
        )
        return {user_id: (settled, held) for user_id, settled, held in rows}
    where = "true"
    if limit.scope.principal == "group":
        where += " AND lineage_id IN (SELECT lineage_id FROM lineage_groups WHERE group_id = :principal)"
    if limit.model_pattern:
        where += " AND model_id IN (SELECT value FROM json_each(:models))"
    settled = facts.SETTLED[limit.measure]
    plan = run(tx, rollups.whole(*facts.buckets(place)))
    rows = tx.execute(
        f"""
        SELECT user_id, sum(settled), sum(held) FROM (
            SELECT user_id, sum({settled}) AS settled, 0 AS held FROM {rollups.SUMMARIES} WHERE {where} GROUP BY user_id
            UNION ALL
            SELECT user_id, sum({settled}), 0 FROM {rollups.QUARTERS} WHERE {where} GROUP BY user_id
            UNION ALL
            SELECT user_id, 0, {facts.HELD[limit.measure]} FROM calls
            WHERE state = 'open' AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000 AND {where}
        ) GROUP BY user_id
        """,
        {
            "start": place.window_start_s,
            "end": facts.FAR_S if place.window_end_s is None else place.window_end_s,
            "principal": limit.scope.id,
            "models": as_json(run(tx, facts.covered_ids(limit.model_pattern))) if limit.model_pattern else "[]",
            **plan.parameters,
        },
    )
    return {user_id: (settled, held) for user_id, settled, held in rows}


def _end_users(tx: sqlite3.Connection, limit: Limit, now_s: int, rows_max: int) -> list[Nearest]:
    """Of the end users who have called in the current window, so many that have the least left."""
    place = balances.place_of(limit, NO_MEMBER, now_s)
    used, parameters = _used_by_end_users(tx, place)
    rows = tx.execute(
        f"""
        WITH granted (member_id, amount) AS MATERIALIZED (
            SELECT member_id, sum(amount) FROM grants WHERE limit_id = :limit AND until_at > :now GROUP BY member_id
        ), used (member_id, settled, held) AS (
            SELECT member_id, sum(settled), sum(held) FROM ({used}) GROUP BY member_id
        )
        SELECT u.member_id, n.name, settled, held, members FROM (
            SELECT u.*, count(*) OVER () AS members, settled + held - coalesce(g.amount, 0) AS gone
            FROM used AS u LEFT JOIN granted AS g ON g.member_id = u.member_id
            ORDER BY gone DESC, u.member_id LIMIT :rows_max
        ) AS u JOIN names AS n ON n.id = u.member_id
        ORDER BY gone DESC, u.member_id
        """,
        parameters | {"limit": limit.id, "now": now_s, "rows_max": rows_max},
    )
    found = []
    for member_id, name, settled, held, members in rows.fetchall():
        standing = Standing(limit, member_id, place.window_start_s, place.window_end_s, settled, held)
        standing.grant(now_s)
        found.append(Nearest(standing, name, members))
    return found


def _used_by_end_users(tx: sqlite3.Connection, place: Place) -> tuple[str, dict[str, object]]:
    """SQL of member_id, settled and held, more than one row for each, and its parameters. Roll-ups tell end users apart
    from when the limit was set; the calls tell what was before, and what is within a minute."""
    limit, start_s = place.limit, place.window_start_s
    where, parameters = run(tx, facts.counted(place, any_member=True))
    if place.slides:
        start_s -= MINUTE_S
    told_apart_s = facts.FAR_S if place.slides else -(-limit.created_at_s // BUCKET_S) * BUCKET_S
    first, end = facts.buckets(place)
    plan = run(tx, rollups.whole(min(end, max(first, told_apart_s // BUCKET_S)), end))
    settled, (of_calls, _) = facts.SETTLED[limit.measure], facts.called(limit.measure)
    parts = [
        f"""
        SELECT end_user_id AS member_id, 0 AS settled, {facts.HELD[limit.measure]} AS held
        FROM calls INDEXED BY calls_open
        WHERE state = 'open' AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000 AND {where}
        """
    ]
    if start_s < told_apart_s and limit.measure != "concurrency":
        index = "NOT INDEXED" if many_labelled(tx, [LABELS["r.end_user_id"]]) else "INDEXED BY calls_by_end_user"
        parts.append(
            f"""
            SELECT end_user_id, {of_calls}, 0 FROM calls {index}
            WHERE state = 'settled' AND id >= :first_id AND started_at_ms >= :start * 1000
              AND started_at_ms < :told_apart * 1000 AND {where} GROUP BY end_user_id
            """
        )
    if not place.slides and limit.measure != "concurrency":
        parts += [
            f"SELECT end_user_id, sum({settled}), 0 FROM {source} WHERE {where} GROUP BY end_user_id"
            for source in (rollups.SUMMARIES, rollups.QUARTERS)
        ]
    ends_s = facts.FAR_S if place.slides or place.window_end_s is None else place.window_end_s
    times = {"start": start_s, "end": ends_s, "told_apart": min(told_apart_s, ends_s), "first_id": at_or_after(start_s)}
    return " UNION ALL ".join(parts), parameters | plan.parameters | times
