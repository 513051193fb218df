"""Calls that a dead process left open: booked at their full hold, as estimated. Never 0, never dropped.

Those that go on at the provider are nobody's: no process's death ends them."""

from __future__ import annotations

import sqlite3

from msgspec import structs

from llmctl.domain.usage import Usage

from .booking import Closing, OpenCall
from .objects import DEFERRED

RECOVERED_PER_BATCH = 500  # a short transaction each, so that living workers go on
INTERRUPTED = "interrupted"
UNBOOKABLE = "unbookable"


def open_owners(reader: sqlite3.Connection) -> list[int]:
    sql = "SELECT DISTINCT owner FROM calls WHERE state = 'open' AND owner <> ?"
    return [row[0] for row in reader.execute(sql, (DEFERRED,))]


def orphans(tx: sqlite3.Connection, owner: int) -> list[tuple[OpenCall, Closing]]:
    """Some calls that this owner left open, each with its booking."""
    rows = tx.execute(f"{_OPEN} AND c.owner = ? LIMIT ?", (owner, RECOVERED_PER_BATCH))
    return [_orphan(*row) for row in rows]


def deferred(tx: sqlite3.Connection, call_id: int) -> OpenCall | None:
    """A call that goes on at the provider; None: it has ended already."""
    row = tx.execute(f"{_OPEN} AND c.owner = ? AND c.id = ?", (DEFERRED, call_id)).fetchone()
    return None if row is None else _orphan(*row)[0]


_OPEN = """
    SELECT c.id, c.started_at_ms, l.path, c.lineage_id, c.user_id, c.key_id, c.end_user_id, c.model_id,
           m.provider, m.model, c.held_nano, c.held_input_tokens, c.held_output_tokens, c.price_id
    FROM calls c JOIN lineages l ON l.id = c.lineage_id JOIN models m ON m.id = c.model_id
    WHERE c.state = 'open'
"""


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
    return call, at_hold(call, INTERRUPTED, priced=price_id is not None, price_id=price_id)


def at_hold(call: OpenCall, error: str, *, priced: bool, price_id: int | None) -> Closing:
    """The booking of a call of which nothing better is known than what it held."""
    return Closing(
        call.call_id,
        "settled",
        error=error,
        usage=Usage(input_tokens=call.held_input_tokens, output_tokens=call.held_output_tokens),
        usage_source="estimated",
        cost_nano_usd=call.held_nano if priced else None,
        price_id=price_id,
    )


def simpler(call: OpenCall, closing: Closing) -> Closing | None:
    """Another booking of a call whose own no transaction takes: without its words, then at the hold. An open call would
    hold for ever what it held. None: there is no simpler one."""
    bare = structs.replace(closing, error=UNBOOKABLE, raw_usage="", response_model="")
    if bare != closing:
        return bare
    held = at_hold(call, UNBOOKABLE, priced=closing.cost_nano_usd is not None, price_id=closing.price_id)
    return held if held != closing else None
