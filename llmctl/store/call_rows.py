"""How the ledger writes calls: a row when one is let in, its end when it is over."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter

from llmctl.domain.usage import USAGE_CLASSES

from .booking import Closing, OpenCall, Opening
from .interned import Interned, Kind
from .sql import BulkInsert, BulkUpdate

_OPEN = BulkInsert(
    "calls",
    [
        *["id", "started_at_ms", "state", "owner", "lineage_id", "user_id", "key_id", "end_user_id", "model_id"],
        *["endpoint_id", "request_model_id", "stream", "held_nano", "held_input_tokens", "held_output_tokens"],
        *["price_id", "tags_id", "attempt_of"],
    ],
)


def _closing(usage_classes: Sequence[str]) -> BulkUpdate:
    return BulkUpdate(
        "calls",
        [
            *["id", "state", "status", "error_id", "response_model_id", "usage_source"],
            *usage_classes,
            *["cost_nano", "price_id", "usage_shape_id", "usage_values", "latency_ms", "ttft_ms"],
        ],
        changes="owner = NULL, ",
        condition="calls.state = 'open'",
    )


_CLOSE = _closing(USAGE_CLASSES)
# All that most calls have: the other classes are 0 in a row from its beginning, and take a third of such a statement.
_USUAL = ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"]
_usual_of = itemgetter(*map(USAGE_CLASSES.index, _USUAL))
_rare_of = itemgetter(*[place for place, name in enumerate(USAGE_CLASSES) if name not in _USUAL])
_CLOSE_USUAL = _closing(_USUAL)
_NOTE = BulkUpdate("calls", ["id", "own_cost_nano", "own_price_id", "service_tier_id"])


def add(
    tx: sqlite3.Connection, interned: Interned, owner: int, admitted: Sequence[tuple[Opening, OpenCall, Kind]]
) -> None:
    """These are open from now on, and this owner's."""
    rows = []
    for opening, call, kind in admitted:
        rows.append(
            (
                call.call_id,
                call.started_at_ms,
                "open",
                owner,
                call.lineage_id,
                call.user_id,
                call.key_id,
                call.end_user_id,
                call.model_id,
                kind.endpoint_id,
                kind.request_model_id,
                int(opening.stream),
                call.held_nano,
                call.held_input_tokens,
                call.held_output_tokens,
                opening.price_id,
                interned.name(tx, opening.tags) if opening.tags else None,
                opening.attempt_of,
            )
        )
    _OPEN.execute(tx, rows)


def close(tx: sqlite3.Connection, interned: Interned, closings: Sequence[Closing]) -> int:
    """Ends those that are open still; returns how many that were."""
    rows = []
    rare = any(any(_rare_of(closing.usage)) for closing in closings)
    for closing in closings:
        shape_id, values = interned.usage(tx, closing.raw_usage)
        response_model = closing.response_model
        rows.append(
            (
                closing.call_id,
                closing.state,
                closing.status,
                interned.name(tx, closing.error) if closing.error else None,
                interned.name(tx, response_model) if response_model else None,
                closing.usage_source,
                *(closing.usage if rare else _usual_of(closing.usage)),
                closing.cost_nano_usd,
                closing.price_id,
                shape_id,
                values,
                closing.latency_ms,
                closing.ttft_ms,
            )
        )
    return (_CLOSE if rare else _CLOSE_USUAL).execute(tx, rows)


def note(tx: sqlite3.Connection, interned: Interned, closings: Sequence[Closing]) -> None:
    """What only some calls have: a cost that the provider stated, with our own beside it, and a service tier."""
    rows = [
        (
            closing.call_id,
            closing.own_cost_nano_usd,
            closing.own_price_id,
            interned.name(tx, closing.service_tier) if closing.service_tier else None,
        )
        for closing in closings
        if closing.own_price_id is not None or closing.service_tier
    ]
    if rows:
        _NOTE.execute(tx, rows)
