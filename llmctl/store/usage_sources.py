"""Where reports read: roll-ups and their summaries, or the calls themselves."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add, sub
from typing import Any

from llmctl.domain.window import BUCKET_S

from . import ids, rollups
from .fold import SUMS
from .rollups import Stretch
from .sql import run

MANY = 200_000  # rows that are found one by one in half a second

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


@dataclass(frozen=True, slots=True)
class Label:
    """What calls have and roll-ups do not: tags, and end users but where a limit needs them."""

    there: str
    none: int | None
    index: str  # of the calls that have it


LABELS = {
    "r.tags_id": Label("r.tags_id IS NOT NULL", None, "calls_by_tags"),
    "r.end_user_id": Label("r.end_user_id <> 0", 0, "calls_by_end_user"),
}


def of_labelled(
    tx: sqlite3.Connection,
    spans: Sequence[Stretch],
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
) -> Iterator[Sequence[Any]]:
    """The same where some of the dimensions are labels: calls that have one are read, all others are what the roll-ups
    have beyond them. So an organisation without labels waits for nothing, and the sum is that of all other reports."""
    wanted = [LABELS[one] for one in dimensions if one in LABELS]
    where_labelled = f"{where} AND ({' OR '.join(label.there for label in wanted)})"
    source = "calls AS r"
    if len(wanted) == 1 and not many_labelled(tx, wanted):
        source += f" INDEXED BY {wanted[0].index}"
    others = [place for place, one in enumerate(dimensions) if one not in LABELS]
    left: dict[tuple[int, ...], list[int]] = {}
    for number, *values in of_rollups(tx, spans, [dimensions[place] for place in others], where, parameters):
        sums = left.setdefault((number, *values[: len(others)]), [0] * len(SUMS))
        sums[:] = map(add, sums, values[len(others) :])
    for number, *values in of_calls(tx, spans, dimensions, where_labelled, parameters, source=source):
        yield number, *values
        sums = left.setdefault((number, *(values[place] for place in others)), [0] * len(SUMS))
        sums[:] = map(sub, sums, values[len(dimensions) :])
    for (number, *named), sums in left.items():
        if any(sums):
            rest = iter(named)
            yield number, *(LABELS[one].none if one in LABELS else next(rest) for one in dimensions), *sums


def many_labelled(tx: sqlite3.Connection, wanted: Sequence[Label]) -> bool:
    """So many that all calls are read sooner in their own order than these in an index's."""
    counts = (
        tx.execute(f"SELECT count(*) FROM (SELECT 1 FROM calls AS r WHERE {label.there} LIMIT {MANY})").fetchone()[0]
        for label in wanted
    )
    return any(count >= MANY for count in counts)


def of_calls(
    tx: sqlite3.Connection,
    spans: Sequence[Stretch],
    dimensions: Sequence[str],
    where: str,
    parameters: dict[str, object],
    *,
    source: str = "calls AS r",
) -> Iterator[Sequence[Any]]:
    """The same from the calls themselves. Takes a second or two for each million of them in the time asked for."""
    if not spans:
        return
    bucket = f"r.started_at_ms / {1000 * BUCKET_S}"
    columns = [bucket if len(spans) > 1 else "0", *dimensions]
    found = tx.execute(
        f"""
        SELECT {", ".join([*columns, *_SUMS_OF_CALLS])} FROM {source}
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
