"""Where reports read: roll-ups and their summaries, or the calls themselves."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from llmctl.domain.window import BUCKET_S

from . import ids, rollups
from .fold import SUMS
from .rollups import Stretch
from .sql import run

_SUMS_OF_CALLS = [
    "sum(r.state = 'settled')",
    "sum(r.error_id IS NOT NULL OR coalesce(r.status, 0) >= 400)",
    "sum(coalesce(r.usage_source, '') = 'estimated')",
    "sum(r.cost_nano IS NULL)",
    *[f"coalesce(sum(r.{name}), 0)" for name in SUMS[4:]],
]


def of_rollups(
    tx: sqlite3.Connection,
    spans: Sequence[Stretch],
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
) -> Iterator[Sequence[Any]]:
    """(number of the span, values of the dimensions, sums), more than one of them for the same values."""
    plan = run(tx, rollups.plan(spans))
    sums = [f"sum(r.{name})" for name in SUMS]
    for source in (rollups.SUMMARIES, rollups.QUARTERS):
        yield from tx.execute(
            f"""
            SELECT {", ".join(["s.value ->> 0", *dimensions, *sums])} FROM {source} WHERE {where}
            GROUP BY {", ".join(["s.value ->> 0", *dimensions])}
            """,
            parameters | plan.parameters,
        )


def of_calls(
    tx: sqlite3.Connection,
    spans: Sequence[Stretch],
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
) -> Iterator[Sequence[Any]]:
    """The same from the calls themselves, for what the roll-ups do not have: tags, and end users but where a limit
    needs them. Takes a second or two for each million calls in the time that is asked for."""
    if not spans:
        return
    bucket = f"r.started_at_ms / {1000 * BUCKET_S}"
    columns = [bucket if len(spans) > 1 else "0", *dimensions]
    found = tx.execute(
        f"""
        SELECT {", ".join([*columns, *_SUMS_OF_CALLS])} FROM calls AS r
        WHERE r.id >= :first_id AND r.started_at_ms >= :first_ms AND r.started_at_ms < :end_ms
          AND r.state IN ('settled', 'released') AND {where}
        GROUP BY {", ".join(str(place + 1) for place in range(len(columns)))}
        """,
        parameters
        | {
            "first_id": ids.at_or_after(spans[0].first * BUCKET_S),
            "first_ms": spans[0].first * BUCKET_S * 1000,
            "end_ms": spans[-1].end * BUCKET_S * 1000,
        },
    )
    ends = [span.end for span in spans]
    for at, *values in found:
        yield (bisect_right(ends, at) if len(spans) > 1 else 0, *values)
