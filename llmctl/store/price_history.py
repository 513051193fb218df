"""Every price that a model ever had: what was superseded stays, with when it was."""

from __future__ import annotations

import sqlite3

from . import price_choice, prices
from .price_rows import StoredRow
from .prices import Entry


def of_model(tx: sqlite3.Connection, provider: str, catalogue: str, model: str) -> list[Entry]:
    """For an upstream model of a configured provider; the newest first, as they were written down."""
    rows = tx.execute(
        f"{prices.SELECT} WHERE provider IN (?, ?, ?) ORDER BY created_at DESC, id DESC",
        (provider, catalogue or provider, price_choice.ANY_PROVIDER),
    )
    fitting = price_choice.history((StoredRow(*row) for row in rows), model)
    return [Entry(prices.of_row(row), row.match, row.created_at_s, row.superseded_at_s) for row in fitting]
