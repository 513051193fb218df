"""Alerts: kept until each receiver has them, told once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmctl.domain.alert import DAY_S, HOUR_S, Alert, Pace, limit_crossed, runaway, unpriced
from llmctl.domain.limit import Limit, Standing
from llmctl.domain.window import BUCKET_S

from . import balances, callers, limits, standings, usage
from .sql import as_json

KEEP_S = 90 * DAY_S
PAST_S = 7 * DAY_S
MEMBERS_MAX = 1_000  # of one limit that crossed in the same look: of more, the first are told
UNPRICED_MAX = 100
INTEGER_MAX = (1 << 63) - 1  # of SQLite


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert that a receiver has to get."""

    alert_id: int
    receiver: str
    attempts: int
    at_s: int
    alert: Alert


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as it is listed. `pending`, `failed`: receivers that do not have it (yet, or for good)."""

    id: int
    at_s: int
    kind: str
    text: str
    facts: dict[str, object]
    delivered: tuple[str, ...]
    pending: tuple[str, ...]
    failed: tuple[str, ...]


def add(tx: sqlite3.Connection, found: Iterable[Alert], receivers: Sequence[str], now_s: int) -> list[Alert]:
    """Notes what is new, for every receiver; returns it."""
    new = []
    for alert in found:
        row = tx.execute(
            """
            INSERT INTO alerts (key, at, kind, text, facts) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id
            """,
            (alert.key, now_s, alert.kind, alert.text, json.dumps(dict(alert.facts))),
        ).fetchone()
        if row is None:
            continue
        new.append(alert)
        tx.executemany(
            "INSERT INTO deliveries (alert_id, receiver, next_at) VALUES (?, ?, ?)",
            [(row[0], receiver, now_s) for receiver in receivers],
        )
    _forget_old(tx, now_s)
    return new


def _forget_old(tx: sqlite3.Connection, now_s: int) -> None:
    """But not of a limit in total that is still there: its window goes on, and it would be told again."""
    tx.execute(
        """
        DELETE FROM alerts
        WHERE at < ? AND NOT (kind = 'limit' AND facts ->> 'window' = 'total'
                              AND facts ->> 'limit' IN (SELECT 'l' || id FROM limits))
        """,
        (now_s - KEEP_S,),
    )


def unknown(tx: sqlite3.Connection, found: Sequence[Alert]) -> list[Alert]:
    """Those that were not told yet, nor what outdoes them."""
    keys = as_json([key for alert in found for key in (alert.key, *alert.outdone_by)])
    rows = tx.execute("SELECT key FROM alerts WHERE key IN (SELECT value FROM json_each(?))", (keys,))
    told = {key for (key,) in rows}
    return [alert for alert in found if told.isdisjoint((alert.key, *alert.outdone_by))]


def due(tx: sqlite3.Connection, receiver: str, now_s: int, *, most: int) -> list[Delivery]:
    """What this receiver should get now, the oldest first."""
    rows = tx.execute(
        """
        SELECT d.alert_id, d.attempts, a.at, a.kind, a.key, a.text, a.facts
        FROM deliveries d JOIN alerts a ON a.id = d.alert_id
        WHERE d.next_at <= ? AND d.receiver = ? ORDER BY d.next_at, a.id LIMIT ?
        """,
        (now_s, receiver, most),
    )
    return [
        Delivery(alert_id, receiver, attempts, at_s, Alert(kind, key, text, json.loads(facts)))
        for alert_id, attempts, at_s, kind, key, text, facts in rows
    ]


def delivered(tx: sqlite3.Connection, delivery: Delivery, now_s: int) -> None:
    tx.execute(
        """
        UPDATE deliveries SET attempts = attempts + 1, next_at = NULL, delivered_at = ?, error = NULL
        WHERE alert_id = ? AND receiver = ?
        """,
        (now_s, delivery.alert_id, delivery.receiver),
    )


def failed(tx: sqlite3.Connection, delivery: Delivery, error: str, next_s: int | None) -> None:
    """`next_s`: when to try again; None: never."""
    tx.execute(
        "UPDATE deliveries SET attempts = attempts + 1, next_at = ?, error = ? WHERE alert_id = ? AND receiver = ?",
        (next_s, error, delivery.alert_id, delivery.receiver),
    )


def listing(tx: sqlite3.Connection, *, most: int) -> list[Told]:
    """The newest first."""
    rows = tx.execute(
        "SELECT id, at, kind, text, facts FROM alerts ORDER BY at DESC, id DESC LIMIT ?", (most,)
    ).fetchall()
    found = []
    for alert_id, at_s, kind, text, facts in rows:
        states: dict[str, list[str]] = {"delivered": [], "pending": [], "failed": []}
        for receiver, next_s, delivered_s in tx.execute(
            "SELECT receiver, next_at, delivered_at FROM deliveries WHERE alert_id = ? ORDER BY receiver", (alert_id,)
        ):
            states["delivered" if delivered_s else "pending" if next_s else "failed"].append(receiver)
        names = {state: tuple(receivers) for state, receivers in states.items()}
        found.append(Told(alert_id, at_s, kind, text, json.loads(facts), **names))
    return found


class Lookout:
    """Finds what should be told, in short reads. Keeps the limits until they change."""

    def __init__(self, default_zone: str) -> None:
        self._default_zone = default_zone
        self._version = -1
        self._limits: list[Limit] = []

    def limits_crossed(self, tx: sqlite3.Connection, percents: Sequence[int], now_s: int) -> list[Alert]:
        if not percents:
            return []
        version = callers.settings_version(tx)
        if version != self._version:
            self._limits = limits.listing(tx, default_zone=self._default_zone)
            self._version = version
        near = _near_limits(tx, self._limits, min(percents), now_s)
        found = [limit_crossed(standing, percents, member) for standing, member in near]
        return [alert for alert in found if alert is not None]

    def runaway(self, tx: sqlite3.Connection, *, factor: int, nano_usd_min: int, now_s: int) -> list[Alert]:
        """Reads a week of roll-ups."""
        found = [runaway(pace, factor=factor, nano_usd_min=nano_usd_min, now_s=now_s) for pace in _paces(tx, now_s)]
        return [alert for alert in found if alert is not None]

    def unpriced(self, tx: sqlite3.Connection, now_s: int) -> list[Alert]:
        found = usage.unpriced_models(tx, now_s - BUCKET_S)[:UNPRICED_MAX]
        return [unpriced(model, now_s=now_s) for model, _ in found]


def _near_limits(
    tx: sqlite3.Connection, watched: Sequence[Limit], percent_min: int, now_s: int
) -> list[tuple[Standing, str]]:
    """How those limits stand that calls counted in, by the balances alone; with the member's name where a limit is on
    each, and only members of whose share so much is gone."""
    pooled = [balances.place_of(limit, standings.NO_MEMBER, now_s) for limit in watched if not limit.each]
    found = [(standing, "") for standing in balances.existing(tx, {place.row: place for place in pooled}).values()]
    for standing, _ in found:
        standing.grant(now_s)
    for limit in watched:
        if limit.each:
            found += _near_members(tx, limit, percent_min, now_s)
    return found


def _near_members(tx: sqlite3.Connection, limit: Limit, percent_min: int, now_s: int) -> list[tuple[Standing, str]]:
    """By the balances: whoever called has one."""
    place = balances.place_of(limit, standings.NO_MEMBER, now_s)
    names = "users" if limit.each == "user" else "names"
    least = min(-(-percent_min * limit.amount // 100), INTEGER_MAX)  # rounded up
    rows = tx.execute(
        f"""
        SELECT b.member_id, b.settled, b.held, n.name FROM balances b JOIN {names} n ON n.id = b.member_id
        WHERE b.limit_id = ? AND b.window_start = ? AND b.settled >= ? ORDER BY b.settled DESC LIMIT ?
        """,
        (limit.id, place.window_start_s, least, MEMBERS_MAX),
    )
    found = []
    for member_id, settled, held, name in rows:
        one = Standing(limit, member_id, place.window_start_s, place.window_end_s, settled, held)
        one.grant(now_s)
        found.append((one, str(name)))
    return found


def _paces(tx: sqlite3.Connection, now_s: int) -> list[Pace]:
    """What the organisation and each user spent in the last hour, and in the week before it."""
    hour, week = (now_s - HOUR_S) // BUCKET_S, (now_s - HOUR_S - PAST_S) // BUCKET_S
    rows = tx.execute(
        """
        SELECT r.user_id, u.name, sum(r.cost_nano) FILTER (WHERE r.bucket >= :hour),
               sum(r.cost_nano) FILTER (WHERE r.bucket < :hour), min(r.bucket)
        FROM rollups r JOIN users u ON u.id = r.user_id WHERE r.bucket >= :week GROUP BY r.user_id
        """,
        {"hour": hour, "week": week},
    ).fetchall()
    found = []
    total = [0, 0, hour]
    for _, name, last, past, first in rows:
        found.append(Pace(f"user {name}", last or 0, past or 0, (hour - first) * BUCKET_S))
        total = [total[0] + (last or 0), total[1] + (past or 0), min(total[2], first)]
    return [Pace("organisation", total[0], total[1], (hour - total[2]) * BUCKET_S), *found]
