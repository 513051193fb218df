"""The single calls, as they are booked. Listed by ranges of ids, which rise with time: there is no index on time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from llmctl.domain.usage import USAGE_CLASSES, Usage

from . import ids
from .filters import Filters, conditions
from .interned import raw_usage
from .sql import as_json
from .usage import leaf

Kind = Literal["failed", "estimated", "unpriced", "ceiling", "refused", "open"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PROVIDER_STATED = "provider"  # the source of a cost that no price of ours made


class CallFilters(NamedTuple):
    """Which calls. `kinds`: any of them; empty: all."""

    which: Filters = Filters()
    kinds: frozenset[Kind] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `cost_nano_usd is None`: open, refused or unpriced."""

    call_id: int
    started_at_ms: int
    user: str
    key: str
    key_id: str
    group: str | None
    end_user: str | None
    provider: str | None
    model: str | None
    dialect: str
    endpoint: str
    request_model: str
    response_model: str | None
    stream: bool
    state: Literal["open", "settled", "released", "refused"]
    status: int | None
    error: str | None
    usage_source: str | None
    usage: Usage
    cost_nano_usd: int | None
    price_source: str | None  # admin, catalogue, sandbox, ceiling; provider: the provider stated the money
    own_cost_nano_usd: int | None  # where the provider stated the money: what our own price makes of it
    own_price_source: str | None
    service_tier: str | None  # as served; None: the standard one
    held_nano_usd: int
    latency_ms: int | None
    ttft_ms: int | None
    tags: tuple[str, ...] = ()
    first_id: int | None = None  # the call that this one is another attempt of

    @property
    def id(self) -> str:
        return ids.shown(self.call_id)

    @property
    def attempt_of(self) -> str | None:
        return None if self.first_id is None else ids.shown(self.first_id)


def newest(tx: sqlite3.Connection, filters: CallFilters, *, calls_max: int) -> list[Call]:
    """The newest calls first."""
    return _select(tx, filters, "ORDER BY r.id DESC LIMIT :calls_max", {"calls_max": calls_max})


def after(tx: sqlite3.Connection, filters: CallFilters, *, call_id: int, calls_max: int) -> list[Call]:
    """Calls with higher ids, the oldest first."""
    return _select(
        tx,
        filters,
        "AND r.id > :after ORDER BY r.id LIMIT :calls_max",
        {"after": call_id, "calls_max": calls_max},
    )


def by_ids(tx: sqlite3.Connection, filters: CallFilters, call_ids: Sequence[int]) -> list[Call]:
    """Those of these calls that the filters let pass, the oldest first."""
    sql = "AND r.id IN (SELECT value FROM json_each(:ids)) ORDER BY r.id"
    return _select(tx, filters, sql, {"ids": as_json(call_ids)})


def attempts_of(tx: sqlite3.Connection, call: Call) -> list[Call]:
    """All attempts of the call that this one belongs to, in order; only itself where there was one."""
    first_id = call.first_id or call.call_id
    sql = "AND (r.id = :first_id OR r.attempt_of = :first_id) ORDER BY r.id"
    return _select(tx, CallFilters(), sql, {"first_id": first_id})


def newest_id_before(time_s: int) -> int:
    """An id below those of all calls that start at this time or later."""
    return ids.at_or_after(time_s) - 1


def step_back(call_id: int, span_s: int) -> int:
    """The id that is this much older."""
    return max(0, call_id - (span_s * 1_000_000 << ids.SLOT_BITS))


def raw_usage_of(tx: sqlite3.Connection, call_id: int) -> str:
    """The provider's own usage object, byte for byte; "" if there was none."""
    row = tx.execute(
        """
        SELECT s.shape, c.usage_values FROM calls c LEFT JOIN usage_shapes s ON s.id = c.usage_shape_id WHERE c.id = ?
        """,
        (call_id,),
    ).fetchone()
    return "" if row is None else raw_usage(*row)


# A call that failed reached a provider and brought no answer; a refused one never left.
_KINDS: dict[Kind, str] = {
    "failed": "r.state IN ('settled', 'released') AND (r.error_id IS NOT NULL OR r.status >= 400)",
    "estimated": "r.usage_source = 'estimated'",
    "unpriced": "r.state = 'settled' AND r.cost_nano IS NULL",
    "ceiling": "r.state = 'settled' AND r.price_id IN (SELECT id FROM prices WHERE source = 'ceiling')",
    "refused": "r.state = 'refused'",
    "open": "r.state = 'open'",
}


def _select(tx: sqlite3.Connection, filters: CallFilters, rest: str, more: dict[str, object]) -> list[Call]:
    where, parameters = _conditions(tx, filters)
    rows = tx.execute(f"{_SELECT} WHERE {where} {rest}", parameters | more)
    groups: dict[str, str | None] = {}
    return [_call(tx, row, groups) for row in rows]


def _conditions(tx: sqlite3.Connection, filters: CallFilters) -> tuple[str, dict[str, object]]:
    which = filters.which
    where, parameters = conditions(tx, which._replace(model=""))
    # No upper bound on ids: after a clock went back, an id is later than its call.
    found = [where, "r.id >= :first AND r.started_at_ms >= :since_ms AND r.started_at_ms < :until_ms"]
    parameters |= {
        "first": ids.at_or_after(which.since_s),
        "since_ms": which.since_s * 1000,
        "until_ms": which.until_s * 1000,
    }
    if which.model:
        # A call that was refused before it was routed has only the model that was asked for.
        of_model, named = conditions(tx, Filters(model=which.model))
        found.append(f"({of_model} OR (r.model_id = 0 AND asked.name = :model COLLATE NOCASE))")
        parameters |= {**named, "model": which.model}
    if filters.kinds:
        found.append("(" + " OR ".join(f"({_KINDS[kind]})" for kind in sorted(filters.kinds)) + ")")
    return " AND ".join(found), parameters


_SELECT = f"""
    SELECT r.id, r.started_at_ms, u.name, u.name || '/' || k.name, k.public_id, l.path, end_user.name,
           m.provider, m.model, e.dialect, e.endpoint, asked.name, served.name, r.stream, r.state, r.status,
           error.name, r.usage_source, r.cost_nano, r.price_id, p.source, r.held_nano, r.latency_ms, r.ttft_ms,
           tags.name, r.attempt_of, r.own_cost_nano, r.own_price_id, tier.name,
           {", ".join(f"r.{name}" for name in USAGE_CLASSES)}
    FROM calls r
    JOIN users u ON u.id = r.user_id
    JOIN keys k ON k.id = r.key_id
    JOIN lineages l ON l.id = r.lineage_id
    JOIN endpoints e ON e.id = r.endpoint_id
    JOIN names asked ON asked.id = r.request_model_id
    LEFT JOIN models m ON m.id = r.model_id
    LEFT JOIN names served ON served.id = r.response_model_id
    LEFT JOIN names end_user ON end_user.id = r.end_user_id
    LEFT JOIN names error ON error.id = r.error_id
    LEFT JOIN names tags ON tags.id = r.tags_id
    LEFT JOIN names tier ON tier.id = r.service_tier_id
    LEFT JOIN prices p ON p.id = coalesce(r.price_id, r.own_price_id)
"""
_FACTS = 29  # columns before the usage classes


def _call(tx: sqlite3.Connection, row: Sequence[Any], groups: dict[str, str | None]) -> Call:
    call_id, started_at_ms, user, key, key_id, path, end_user, provider, model = row[:9]
    dialect, endpoint, asked, served, stream, state, status, error, usage_source = row[9:18]
    cost, price_id, price_source, held, latency_ms, ttft_ms, tags, first_id = row[18:26]
    own_cost, own_price_id, tier = row[26:_FACTS]
    stated = price_id is None and bool(cost or own_price_id)
    if path not in groups:
        groups[path] = _group_name(tx, path)
    return Call(
        call_id=call_id,
        started_at_ms=started_at_ms,
        user=user,
        key=key,
        key_id=key_id,
        group=groups[path],
        end_user=end_user,
        provider=provider,
        model=model,
        dialect=dialect,
        endpoint=endpoint,
        request_model=asked,
        response_model=served,
        stream=bool(stream),
        state=state,
        status=status,
        error=error,
        usage_source=usage_source,
        usage=Usage(*row[_FACTS:]),
        cost_nano_usd=cost,
        price_source=PROVIDER_STATED if stated else price_source,
        own_cost_nano_usd=own_cost,
        own_price_source=price_source if stated else None,
        service_tier=tier,
        held_nano_usd=held,
        latency_ms=latency_ms,
        ttft_ms=ttft_ms,
        tags=tuple(tags.split(",")) if tags else (),
        first_id=first_id,
    )


def _group_name(tx: sqlite3.Connection, path: str) -> str | None:
    group_id = leaf(path)
    row = tx.execute("SELECT name FROM groups WHERE id = ?", (group_id,)).fetchone()
    return None if row is None else str(row[0])
