"""Refused calls: the first ones per key, code and minute as rows, further ones as a count."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from . import why
from .booking import Refusal
from .interned import Interned
from .sql import BulkInsert, as_json, picked

REFUSED_ROWS_PER_MINUTE = 20  # per key and code; further ones are counted: a flood must not fill the disk
MINUTES_KEPT = 16  # calls are refused in another order than they began in: a body may take ten minutes to stall


Alike = tuple[int, int, str]  # minute, key id, code


class RefusalLog:
    """Of one process: several workers write that many rows each."""

    def __init__(self) -> None:
        self._seen: dict[int, Counter[Alike]] = {}  # by minute

    def write(self, tx: sqlite3.Connection, interned: Interned, refusals: Sequence[Refusal]) -> Counter[Alike]:
        """Returns what `committed` is to be told, once the transaction is."""
        rows, reasons, counts = [], [], []
        new: Counter[Alike] = Counter()
        for refusal in refusals:
            minute = refusal.started_at_ms // 60_000
            alike = (minute, refusal.caller.key_id, refusal.refused.code)
            new[alike] += 1
            error_id = interned.name(tx, refusal.refused.code)
            seen = self._seen.get(minute)
            if new[alike] + (seen[alike] if seen else 0) > REFUSED_ROWS_PER_MINUTE:
                counts.append((minute, refusal.caller.key_id, error_id))
                continue
            reasons.append(why.row_of(refusal.call_id, refusal.refused))
            rows.append(
                (
                    refusal.call_id,
                    refusal.started_at_ms,
                    "refused",
                    interned.lineage(tx, refusal.caller.lineage),
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
            _REASONS.execute(tx, reasons)
        if counts:
            tx.execute(_COUNT_REFUSALS, (as_json(counts),))
        return new

    def committed(self, new: Counter[Alike]) -> None:
        for alike, number in new.items():
            self._seen_in(alike[0])[alike] += number

    def _seen_in(self, minute: int) -> Counter[Alike]:
        seen = self._seen.get(minute)
        if seen is None:
            if len(self._seen) >= MINUTES_KEPT:
                self._seen.pop(next(iter(self._seen)))
            seen = self._seen[minute] = Counter()
        return seen


_REFUSED = (
    "id started_at_ms state lineage_id user_id key_id end_user_id model_id endpoint_id request_model_id stream status "
    "error_id"
).split()
_REASONS = BulkInsert("refusals", ["call_id", "message", "bound", "looked"])
_REFUSED_CALLS = f"""
    INSERT INTO calls ({", ".join(_REFUSED)}, held_nano, held_input_tokens, held_output_tokens)
    SELECT {picked(_REFUSED)}, 0, 0, 0 FROM json_each(?)
"""
_COUNT_REFUSALS = """
    INSERT INTO refusal_counts (minute, key_id, error_id, calls)
    SELECT value ->> 0, value ->> 1, value ->> 2, count(*) FROM json_each(?) WHERE true GROUP BY 1, 2, 3
    ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
"""
