"""Every price that a model ever had: what was superseded stays, with when it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from . import price_choice, prices
from .price_rows import StoredRow
from .prices import Entry


def changes(tx: sqlite3.Connection, provider: str, catalogue: str, models: Iterable[str]) -> list[int]:
    """The moments at which another price may have come into force for a model, by any of its names."""
    found = [entry for name in models for entry in of_model(tx, provider, catalogue, name)]
    moments = {at_s for one in found for at_s in (one.created_at_s, one.superseded_at_s, one.price.effective_from_s)}
    return sorted(at_s for at_s in moments if at_s)


def repriced(tx: sqlite3.Connection, since_s: int, until_s: int) -> bool:
    """Whether calls of that time may be booked at a later price."""
    row = tx.execute(
        "SELECT 1 FROM repricings WHERE since_at < ? AND coalesce(until_at > ?, true) LIMIT 1", (until_s, since_s)
    ).fetchone()
    return row is not None


def of_model(tx: sqlite3.Connection, provider: str, catalogue: str, model: str) -> list[Entry]:
    """For an upstream model of a configured provider; the newest first, as they were written down."""
    rows = tx.execute(
        f"""
        {prices.SELECT}
        WHERE provider = ?2 OR (source <> 'catalogue' AND provider IN (?1, ?3))
        ORDER BY created_at DESC, id DESC
        """,
        (provider, catalogue, price_choice.ANY_PROVIDER),
    )
    fitting = price_choice.history((StoredRow(*row) for row in rows), model)
    return [Entry(prices.of_row(row), row.match, row.created_at_s, row.superseded_at_s) for row in fitting]
