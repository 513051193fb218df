"""One batch of the ledger, inside one write transaction: settles, then holds decided one after another.

The number of statements does not grow with the batch. Counters move only by rows that really changed state, so a
settle that is repeated (after a failed commit, or by recovery) counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.domain.errors import Refused
from llmctl.domain.limit import Grant, Limit, decide
from llmctl.domain.usage import USAGE_CLASSES
from llmctl.domain.window import BUCKET_S

from . import balances, limits
from .balances import Amounts, Balances, Place
from .booking import Closing, Granted, HoldResult, Opening, Refusal
from .interned import Interned
from .sql import as_json, picked

REFUSED_ROWS_PER_MINUTE = 20  # per key and code; further ones are counted: a flood must not fill the disk


@dataclass(frozen=True, slots=True)
class OpenCall:
    """What settling needs of a call that is open: to whom it is booked, and what it holds."""

    call_id: int
    started_at_ms: int
    settings_version: int  # `limits` are as of this version
    limits: tuple[Limit, ...]
    lineage: tuple[int, ...]
    lineage_id: int
    user_id: int
    key_id: int
    end_user_id: int
    model_id: int
    provider: str
    model: str
    held_nano: int
    held_input_tokens: int
    held_output_tokens: int  # over all choices

    @property
    def started_at_s(self) -> int:
        return self.started_at_ms // 1000

    def held(self, limit: Limit) -> int:
        if limit.measure == "cost":
            return self.held_nano
        if limit.measure == "tokens":
            return self.held_input_tokens + self.held_output_tokens
        return 1


@dataclass(slots=True)
class Outcome:
    """What a batch did; valid only once it is committed."""

    holds: list[HoldResult]
    opened: list[OpenCall]
    closed: list[Closing]  # those whose state really changed
    above_hold: int = 0


class Batch:
    """The decisions of one write transaction."""

    def __init__(
        self,
        tx: sqlite3.Connection,
        interned: Interned,
        *,
        owner: int,
        default_zone: str,
        share_percent: int,
        now_s: int,
    ) -> None:
        self._tx = tx
        self._interned = interned
        self._owner = owner
        self._default_zone = default_zone
        self._share_percent = share_percent
        self._now_s = now_s
        (self.version,) = tx.execute("SELECT settings_version FROM settings").fetchone()
        self._limits: dict[tuple[tuple[int, ...], int, int], tuple[Limit, ...]] = {}

    def apply(self, closings: Sequence[tuple[OpenCall, Closing]], openings: Sequence[Opening]) -> Outcome:
        outcome = Outcome([], [], [])
        if closings:
            self._settle(closings, outcome)
        if openings:
            self._hold(openings, outcome)
        return outcome

    def _settle(self, closings: Sequence[tuple[OpenCall, Closing]], outcome: Outcome) -> None:
        first = {closing.call_id: (call, closing) for call, closing in reversed(closings)}
        changed = self._close_rows([closing for _, closing in first.values()])
        moved = [first[call_id] for call_id in changed]
        rollups: dict[tuple[int, ...], list[int]] = {}
        deltas: dict[tuple[int, int, int], Amounts] = {}
        for call, closing in moved:
            outcome.closed.append(closing)
            if (closing.cost_nano_usd or 0) > call.held_nano:
                outcome.above_hold += 1
            applying = self._applying(call)
            # End users cost a roll-up row each: only where a limit needs them.
            end_user_id = call.end_user_id if any(limit.each == "end_user" for limit in applying) else 0
            bucket = call.started_at_s // BUCKET_S
            row = (bucket, call.lineage_id, call.user_id, call.key_id, call.model_id, end_user_id)
            sums = rollups.setdefault(row, [0] * len(_ROLLUP_SUMS))
            for column, amount in enumerate(_rollup_amounts(closing)):
                sums[column] += amount
            for place in self._places(call, applying):
                delta = deltas.setdefault(place.row, Amounts(0, 0))
                delta.settled += _settled(place.limit, closing)
                delta.held -= call.held(place.limit)
        self._tx.execute(_ADD_ROLLUPS, (as_json([[*row, *sums] for row, sums in rollups.items()]),))
        balances.add(self._tx, deltas)

    def _close_rows(self, closings: Sequence[Closing]) -> set[int]:
        rows = []
        for closing in closings:
            shape_id, values = self._interned.usage(self._tx, closing.raw_usage)
            response_model = closing.response_model
            rows.append(
                (
                    closing.call_id,
                    closing.state,
                    closing.status,
                    self._interned.name(self._tx, closing.error) if closing.error else None,
                    self._interned.name(self._tx, response_model) if response_model else None,
                    closing.usage_source,
                    *(getattr(closing.usage, name) for name in USAGE_CLASSES),
                    closing.cost_nano_usd,
                    closing.price_id,
                    shape_id,
                    values,
                    closing.latency_ms,
                    closing.ttft_ms,
                )
            )
        return {row[0] for row in self._tx.execute(_CLOSE_CALLS, (as_json(rows),))}

    def _hold(self, openings: Sequence[Opening], outcome: Outcome) -> None:
        current = [opening for opening in openings if opening.caller.settings_version == self.version]
        end_user_ids = {name: self._interned.name(self._tx, name) for name in {o.end_user for o in current if o.end_user}}
        wanted: dict[tuple[int, int, int], Place] = {}
        placed: dict[int, list[Place]] = {}
        for opening in current:
            mine = balances.places(
                opening.caller.limits,
                user_id=opening.caller.user_id,
                end_user_id=end_user_ids.get(opening.end_user, 0),
                provider=opening.provider,
                model=opening.model,
                started_at_s=opening.started_at_ms // 1000,
            )
            placed[opening.call_id] = mine
            wanted.update((place.row, place) for place in mine)
        standing = balances.read(self._tx, wanted)
        for opening in openings:
            places = placed.get(opening.call_id)
            if places is None:
                outcome.holds.append(None)
                continue
            decision = self._decide(opening, places, standing)
            if isinstance(decision, Grant):
                call = self._opened(opening, decision, end_user_ids.get(opening.end_user, 0))
                for place in places:
                    standing[place.row].held += call.held(place.limit)
                outcome.opened.append(call)
                outcome.holds.append(Granted(decision.output_tokens, decision.capped, call.held_nano))
            else:
                outcome.holds.append(decision)
        if outcome.opened:
            self._insert_calls(openings, outcome.opened)
        balances.write(self._tx, standing)

    def _decide(self, opening: Opening, places: Sequence[Place], standing: Balances) -> Grant | Refused:
        standings = [balances.standing(place, standing[place.row]) for place in places]
        return decide(standings, opening.demand, share_percent=self._share_percent, now_s=self._now_s)

    def _opened(self, opening: Opening, grant: Grant, end_user_id: int) -> OpenCall:
        caller, demand = opening.caller, opening.demand
        return OpenCall(
            call_id=opening.call_id,
            started_at_ms=opening.started_at_ms,
            settings_version=self.version,
            limits=caller.limits,
            lineage=caller.lineage,
            lineage_id=self._interned.lineage(self._tx, caller.path),
            user_id=caller.user_id,
            key_id=caller.key_id,
            end_user_id=end_user_id,
            model_id=self._interned.model(self._tx, opening.provider, opening.model),
            provider=opening.provider,
            model=opening.model,
            held_nano=demand.cost_nano_usd(grant.output_tokens),
            held_input_tokens=demand.input_tokens,
            held_output_tokens=grant.output_tokens * demand.output_multiplier,
        )

    def _insert_calls(self, openings: Sequence[Opening], opened: Sequence[OpenCall]) -> None:
        by_id = {opening.call_id: opening for opening in openings}
        rows = []
        for call in opened:
            opening = by_id[call.call_id]
            rows.append(
                (
                    call.call_id,
                    call.started_at_ms,
                    "open",
                    self._owner,
                    call.lineage_id,
                    call.user_id,
                    call.key_id,
                    call.end_user_id,
                    call.model_id,
                    self._interned.endpoint(self._tx, opening.dialect, opening.endpoint),
                    self._interned.name(self._tx, opening.request_model),
                    int(opening.stream),
                    call.held_nano,
                    call.held_input_tokens,
                    call.held_output_tokens,
                    opening.price_id,
                )
            )
        self._tx.execute(_OPEN_CALLS, (as_json(rows),))

    def _applying(self, call: OpenCall) -> tuple[Limit, ...]:
        """The limits that bind this call's booking today: a limit set while it was open counts it too."""
        if call.settings_version == self.version:
            return call.limits
        principals = (call.lineage, call.user_id, call.key_id)
        found = self._limits.get(principals)
        if found is None:
            found = limits.applying(
                self._tx,
                lineage=call.lineage,
                user_id=call.user_id,
                key_id=call.key_id,
                default_zone=self._default_zone,
            )
            self._limits[principals] = found
        return found

    def _places(self, call: OpenCall, applying: Sequence[Limit]) -> list[Place]:
        return balances.places(
            applying,
            user_id=call.user_id,
            end_user_id=call.end_user_id,
            provider=call.provider,
            model=call.model,
            started_at_s=call.started_at_s,
        )


class RefusalLog:
    """Refused calls: the first ones per key, code and minute as rows, further ones as a count."""

    def __init__(self) -> None:
        self._minute = 0
        self._seen: dict[tuple[int, str], int] = {}

    def write(self, tx: sqlite3.Connection, interned: Interned, refusals: Sequence[Refusal]) -> None:
        rows, counts = [], []
        for refusal in refusals:
            minute = refusal.started_at_ms // 60_000
            if minute != self._minute:
                self._minute, self._seen = minute, {}
            key = (refusal.caller.key_id, refusal.code)
            self._seen[key] = self._seen.get(key, 0) + 1
            error_id = interned.name(tx, refusal.code)
            if self._seen[key] > REFUSED_ROWS_PER_MINUTE:
                counts.append((minute, refusal.caller.key_id, error_id))
                continue
            rows.append(
                (
                    refusal.call_id,
                    refusal.started_at_ms,
                    "refused",
                    interned.lineage(tx, refusal.caller.path),
                    refusal.caller.user_id,
                    refusal.caller.key_id,
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
        if counts:
            tx.execute(_COUNT_REFUSALS, (as_json(counts),))


def _settled(limit: Limit, closing: Closing) -> int:
    if closing.state == "released" or limit.measure == "concurrency":
        return 0
    if limit.measure == "cost":
        return closing.cost_nano_usd or 0
    if limit.measure == "tokens":
        return closing.usage.total_tokens
    return 1


def _rollup_amounts(closing: Closing) -> tuple[int, ...]:
    usage = closing.usage
    return (
        int(closing.state == "settled"),
        int(bool(closing.error) or (closing.status or 0) >= 400),
        int(closing.usage_source == "estimated"),
        int(closing.cost_nano_usd is None),
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        closing.cost_nano_usd or 0,
    )


_OPENED = (
    "id started_at_ms state owner lineage_id user_id key_id end_user_id model_id endpoint_id request_model_id stream "
    "held_nano held_input_tokens held_output_tokens price_id"
).split()
_OPEN_CALLS = f"INSERT INTO calls ({', '.join(_OPENED)}) SELECT {picked(_OPENED)} FROM json_each(?)"

_REFUSED = (
    "id started_at_ms state lineage_id user_id key_id model_id endpoint_id request_model_id stream status error_id"
).split()
_REFUSED_CALLS = f"""
    INSERT INTO calls ({", ".join(_REFUSED)}, held_nano, held_input_tokens, held_output_tokens)
    SELECT {picked(_REFUSED)}, 0, 0, 0 FROM json_each(?)
"""
_COUNT_REFUSALS = """
    INSERT INTO refusal_counts (minute, key_id, error_id, calls)
    SELECT value ->> 0, value ->> 1, value ->> 2, count(*) FROM json_each(?) WHERE true GROUP BY 1, 2, 3
    ON CONFLICT DO UPDATE SET calls = calls + excluded.calls
"""

_CLOSED = [
    *"state status error_id response_model_id usage_source".split(),
    *USAGE_CLASSES,
    *"cost_nano price_id usage_shape_id usage_values latency_ms ttft_ms".split(),
]
_CLOSE_CALLS = f"""
    UPDATE calls SET owner = NULL, {", ".join(f"{name} = j.{name}" for name in _CLOSED)}
    FROM (SELECT {picked(["id", *_CLOSED])} FROM json_each(?)) AS j
    WHERE calls.id = j.id AND calls.state = 'open'
    RETURNING calls.id
"""

_ROLLUP_KEY = "bucket lineage_id user_id key_id model_id end_user_id".split()
_ROLLUP_SUMS = (
    "calls errors estimated_calls unpriced_calls input_tokens cache_read_tokens cache_write_tokens output_tokens "
    "reasoning_tokens cost_nano"
).split()
_ADD_ROLLUPS = f"""
    INSERT INTO rollups ({", ".join(_ROLLUP_KEY + _ROLLUP_SUMS)})
    SELECT {picked(_ROLLUP_KEY + _ROLLUP_SUMS)} FROM json_each(?) WHERE true
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in _ROLLUP_SUMS)}
"""
