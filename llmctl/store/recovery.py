"""Calls that a dead process left open: booked at their full hold, as estimated. Never 0, never dropped."""

from __future__ import annotations

import sqlite3

from llmctl.domain.usage import Usage

from .batch import OpenCall
from .booking import Closing

RECOVERED_PER_BATCH = 500  # a short transaction each, so that living workers go on
INTERRUPTED = "interrupted"


def open_owners(reader: sqlite3.Connection) -> list[int]:
    return [row[0] for row in reader.execute("SELECT DISTINCT owner FROM calls WHERE state = 'open'")]


def orphans(tx: sqlite3.Connection, owner: int) -> list[tuple[OpenCall, Closing]]:
    """Some calls that this owner left open, each with its booking."""
    rows = tx.execute(
        """
        SELECT c.id, c.started_at_ms, l.path, c.lineage_id, c.user_id, c.key_id, c.end_user_id, c.model_id,
               m.provider, m.model, c.held_nano, c.held_input_tokens, c.held_output_tokens, c.price_id
        FROM calls c JOIN lineages l ON l.id = c.lineage_id JOIN models m ON m.id = c.model_id
        WHERE c.state = 'open' AND c.owner = ? LIMIT ?
        """,
        (owner, RECOVERED_PER_BATCH),
    )
    return [_orphan(*row) for row in rows]


def _orphan(
    call_id: int,
    started_at_ms: int,
    path: str,
    lineage_id: int,
    user_id: int,
    key_id: int,
    end_user_id: int,
    model_id: int,
    provider: str,
    model: str,
    held_nano: int,
    held_input_tokens: int,
    held_output_tokens: int,
    price_id: int | None,
) -> tuple[OpenCall, Closing]:
    call = OpenCall(
        call_id=call_id,
        started_at_ms=started_at_ms,
        settings_version=-1,  # its limits are looked up as they are now
        limits=(),
        lineage=tuple(int(group_id) for group_id in path.split("/") if group_id),
        lineage_id=lineage_id,
        user_id=user_id,
        key_id=key_id,
        end_user_id=end_user_id,
        model_id=model_id,
        provider=provider,
        model=model,
        held_nano=held_nano,
        held_input_tokens=held_input_tokens,
        held_output_tokens=held_output_tokens,
    )
    closing = Closing(
        call_id,
        "settled",
        error=INTERRUPTED,
        usage=Usage(input_tokens=held_input_tokens, output_tokens=held_output_tokens),
        usage_source="estimated",
        cost_nano_usd=held_nano if price_id is not None else None,
        price_id=price_id,
    )
    return call, closing
