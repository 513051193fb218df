"""What goes on now: the calls of the last minutes, by whom and of what, and what went wrong. Reads only."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from . import ids

LATENCIES_MAX = 1_000  # the newest: more tell no more


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls that started in the window: those that reports count (an attempt that cost nothing, after which another was
    made, is a failure and no call), and open ones. Tokens and cost are those of calls that have ended."""

    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Activity:
    """One user or model."""

    name: str
    counts: Counts
    open: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Failures and refusals that are alike. `text`: the error's code, or the HTTP status."""

    text: str
    model: str
    calls: int
    last_s: int


@dataclass(frozen=True, slots=True)
class Live:
    """What happened in the last seconds, and what is open."""

    span_s: int
    total: Counts
    refused: int
    open: int  # whenever they started
    held_nano_usd: int
    users: list[Activity]
    models: list[Activity]
    troubles: list[Trouble]
    latency_ms: int | None  # medians of the newest calls
    ttft_ms: int | None


def live(tx: sqlite3.Connection, *, now_s: int, span_s: int, rows_max: int) -> Live:
    """`rows_max`: of each list."""
    window = {
        "first": ids.at_or_after(now_s - span_s),
        "first_ms": (now_s - span_s) * 1000,
        "first_minute": (now_s - span_s) // 60,
        "rows_max": rows_max,
    }
    open_now, held = open_calls(tx)
    latencies = tx.execute(
        f"SELECT latency_ms, ttft_ms FROM calls AS c WHERE {_RECENT} AND state = 'settled' ORDER BY id DESC LIMIT ?",
        (window["first"], window["first_ms"], LATENCIES_MAX),
    ).fetchall()
    return Live(
        span_s=span_s,
        total=Counts(*tx.execute(f"SELECT {_COUNTS} FROM calls AS c WHERE {_IN_WINDOW}", window).fetchone()),
        refused=_refused(tx, window),
        open=open_now,
        held_nano_usd=held,
        users=_activities(tx, "(SELECT name FROM users WHERE id = c.user_id)", "c.user_id", window),
        models=_activities(tx, "(SELECT model FROM models WHERE id = c.model_id)", "c.model_id", window),
        troubles=_troubles(tx, window),
        latency_ms=_median([latency for latency, _ in latencies if latency is not None]),
        ttft_ms=_median([ttft for _, ttft in latencies if ttft is not None]),
    )


def open_calls(tx: sqlite3.Connection) -> tuple[int, int]:
    """(calls that are open now, nano-USD that they hold)."""
    count, held = tx.execute("SELECT count(*), coalesce(sum(held_nano), 0) FROM calls WHERE state = 'open'").fetchone()
    return count, held


# Ids rise with time, so that no other call is read; after a clock went back, an id is later than its call.
_RECENT = "c.id >= ? AND c.started_at_ms >= ?"
_IN_WINDOW = "c.id >= :first AND c.started_at_ms >= :first_ms"
_FAILED = "c.state IN ('settled', 'released') AND (c.error_id IS NOT NULL OR c.status >= 400)"
_CALLS = "c.state IN ('open', 'settled')"
_COUNTS = f"""
    count(*) FILTER (WHERE {_CALLS}), count(*) FILTER (WHERE {_FAILED}),
    coalesce(sum(c.input_tokens), 0), coalesce(sum(c.output_tokens), 0), coalesce(sum(c.cost_nano), 0),
    count(*) FILTER (WHERE c.state = 'settled' AND c.cost_nano IS NULL)
"""


def _activities(tx: sqlite3.Connection, name: str, by: str, window: dict[str, int]) -> list[Activity]:
    """Who is dearest, then who is busiest."""
    rows = tx.execute(
        f"""
        SELECT {name}, count(*) FILTER (WHERE c.state = 'open'), {_COUNTS}
        FROM calls AS c WHERE {_IN_WINDOW} AND c.state <> 'refused'
        GROUP BY {by} ORDER BY sum(c.cost_nano) DESC, count(*) FILTER (WHERE {_CALLS}) DESC LIMIT :rows_max
        """,
        window,
    )
    return [Activity(label or "?", Counts(*counts), open_) for label, open_, *counts in rows]


def _refused(tx: sqlite3.Connection, window: dict[str, int]) -> int:
    (count,) = tx.execute(
        f"""
        SELECT (SELECT count(*) FROM calls AS c WHERE {_IN_WINDOW} AND c.state = 'refused')
             + (SELECT coalesce(sum(calls), 0) FROM refusal_counts WHERE minute >= :first_minute)
        """,
        window,
    ).fetchone()
    return int(count)


def _troubles(tx: sqlite3.Connection, window: dict[str, int]) -> list[Trouble]:
    """The most frequent. Of refusals that were only counted, the model is not known."""
    rows = tx.execute(
        f"""
        SELECT text, model, sum(calls), max(at_ms) / 1000 FROM (
            SELECT coalesce(e.name, 'HTTP ' || c.status) AS text, asked.name AS model, 1 AS calls,
                   c.started_at_ms AS at_ms
            FROM calls AS c
            JOIN names AS asked ON asked.id = c.request_model_id
            LEFT JOIN names AS e ON e.id = c.error_id
            WHERE {_IN_WINDOW} AND (c.state = 'refused' OR ({_FAILED}))
            UNION ALL
            SELECT e.name, '', r.calls, r.minute * 60000 FROM refusal_counts AS r JOIN names AS e ON e.id = r.error_id
            WHERE r.minute >= :first_minute
        ) GROUP BY text, model ORDER BY sum(calls) DESC, max(at_ms) DESC LIMIT :rows_max
        """,
        window,
    )
    return [Trouble(*row) for row in rows]


def _median(values: list[int]) -> int | None:
    return sorted(values)[len(values) // 2] if values else None
