"""Refused calls: the first ones per key, code and minute as rows, further ones as a count."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from . import why
from .booking import Refusal
from .interned import Interned
from .sql import as_json, picked

REFUSED_ROWS_PER_MINUTE = 20  # per key and code; further ones are counted: a flood must not fill the disk
MINUTES_KEPT = 16  # calls are refused in another order than they began in: a body may take ten minutes to stall


class RefusalLog:
    """Of one process: several workers write that many rows each."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[tuple[int, str], int]] = {}  # by minute

    def write(self, tx: sqlite3.Connection, interned: Interned, refusals: Sequence[Refusal]) -> None:
        rows, reasons, counts = [], [], []
        for refusal in refusals:
            minute = refusal.started_at_ms // 60_000
            seen, key = self._seen_in(minute), (refusal.caller.key_id, refusal.refused.code)
            seen[key] = seen.get(key, 0) + 1
            error_id = interned.name(tx, refusal.refused.code)
            if seen[key] > REFUSED_ROWS_PER_MINUTE:
                counts.append((minute, refusal.caller.key_id, error_id))
                continue
            reasons.append(why.row_of(refusal.call_id, refusal.refused))
            rows.append(
                (
                    refusal.call_id,
                    refusal.started_at_ms,
                    "refused",
                    interned.lineage(tx, refusal.caller.path),
                    refusal.caller.user_id,
                    refusal.caller.key_id,
                    # One of whom nothing is booked stays unnamed: anybody could fill the table of names with others.
                    (interned.known_name(tx, refusal.end_user) if refusal.end_user else None) or 0,
                    0,
                    interned.endpoint(tx, refusal.dialect, refusal.endpoint),
                    interned.name(tx, refusal.request_model),
                    int(refusal.stream),
                    refusal.status,
                    error_id,
                )
            )
        if rows:
            tx.execute(_REFUSED_CALLS, (as_json(rows),))
            tx.executemany("INSERT INTO refusals VALUES (?, ?, ?, ?)", reasons)
        if counts:
            tx.execute(_COUNT_REFUSALS, (as_json(counts),))

    def _seen_in(self, minute: int) -> dict[tuple[int, str], int]:
        seen = self._seen.get(minute)
        if seen is None:
            if len(self._seen) >= MINUTES_KEPT:
                self._seen.pop(next(iter(self._seen)))
            seen = self._seen[minute] = {}
        return seen


_REFUSED = (
    "id started_at_ms state lineage_id user_id key_id end_user_id model_id endpoint_id request_model_id stream status "
    "error_id"
).split()
_REFUSED_CALLS = f"""
    INSERT INTO calls ({", ".join(_REFUSED)}, held_nano, held_input_tokens, held_output_tokens)
    SELECT {picked(_REFUSED)}, 0, 0, 0 FROM json_each(?)
"""
_COUNT_REFUSALS = """
    INSERT INTO refusal_counts (minute, key_id, error_id, calls)
    SELECT value ->> 0, value ->> 1, value ->> 2, count(*) FROM json_each(?) WHERE true GROUP BY 1, 2, 3
    ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
"""
