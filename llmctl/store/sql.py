"""Whole batches as one parameter: `... FROM json_each(?)` takes any number of rows in one statement."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


def as_json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()


def picked(columns: Sequence[str]) -> str:
    """`value ->> 0 AS id, value ->> 1 AS ...`: the columns of a row that came through `as_json`."""
    return ", ".join(f"value ->> {place} AS {name}" for place, name in enumerate(columns))
