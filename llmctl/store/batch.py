"""One batch of the ledger, inside one write transaction: settles, then holds decided one after another.

The number of statements does not grow with the batch. Counters move only by rows that really changed state, so a
settle that is repeated (after a failed commit, or by recovery) counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add, itemgetter

import msgspec

from llmctl.domain.errors import StoreError
from llmctl.domain.limit import MEASURES, Admitted, Limit, Measure, Standing, decide
from llmctl.domain.usage import USAGE_CLASSES
from llmctl.domain.why import looked_at
from llmctl.domain.window import BUCKET_S, SLOT_S

from . import balances, fold, limits, objects
from .balances import Place, Row
from .booking import Closing, Deferral, Held, HoldResult, Kept, Opening
from .deployments import Deployments, model_of
from .interned import Interned, Kind
from .remembered import Remembered, State
from .slots import Slots
from .sql import BulkInsert, BulkUpdate, run

Amounts = Mapping[Measure, int]


class OpenCall(msgspec.Struct, frozen=True, gc=False):
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

    @property
    def held(self) -> Amounts:
        return {"cost": self.held_nano, "tokens": self.held_tokens, "requests": 1, "concurrency": 1}

    @property
    def held_tokens(self) -> int:
        return self.held_input_tokens + self.held_output_tokens

    def covers(self, closing: Closing) -> bool:
        """Whether what it used is within what was held for it."""
        return (closing.cost_nano_usd or 0) <= self.held_nano and closing.usage.total_tokens <= self.held_tokens


Ended = tuple[OpenCall, Closing]
_NOTHING: Amounts = dict.fromkeys(MEASURES, 0)
_NONE: Mapping[int, Ended] = {}


@dataclass(slots=True)
class Outcome:
    """What a batch did; valid only once it is committed."""

    holds: list[HoldResult]
    opened: list[OpenCall]
    closed: list[Closing]  # those whose state really changed
    replaced: list[Closing] = field(default_factory=list)  # ends of calls whose place others took
    above_hold: int = 0

    @property
    def all_fit(self) -> bool:
        """Every hold was let in as it was asked for, with room in every limit."""
        return all(
            hold is None or (isinstance(hold, Held) and not hold.capped and not hold.passed) for hold in self.holds
        )


class Move(msgspec.Struct, eq=False):
    """By how much the settles of a batch move one balance."""

    place: Place
    settled: int = 0
    held: int = 0


class AlreadyClosed(StoreError):
    """Of several settles, some are of calls that are closed. Which ones, only single transactions tell: counters move
    for those alone whose state really changes, and asking for each row costs more than all the rest."""


class Batch:
    """The decisions of one write transaction."""

    def __init__(
        self,
        tx: sqlite3.Connection,
        interned: Interned,
        *,
        owner: int,
        share_percent: int,
        now_s: int,
        state: State,
        deployments: Deployments,
        slots: Slots,
        remembered: Remembered,
    ) -> None:
        self._tx = tx
        self._interned = interned
        self._owner = owner
        self._share_percent = share_percent
        self._now_s = now_s
        self._version, self._folded, self._zone = state
        self._deployments = deployments
        self._slots = slots
        self._remembered = remembered
        self._limits: dict[tuple[tuple[int, ...], int, int], tuple[Limit, ...]] = {}
        self._placed: dict[tuple[int, int, int, str, str, int], tuple[Place, ...]] = {}
        self._newcomers: dict[str, int] = {}  # end users of whom nothing is booked yet: ids below 0, for this batch

    def apply(
        self,
        closings: Sequence[Ended],
        openings: Sequence[Opening],
        replaced: Mapping[int, Ended] = _NONE,
    ) -> Outcome:
        """`replaced`: whose place an opening takes, if it is let in, by the opening's id."""
        outcome = Outcome([], [], [])
        placed = [self._placed_now(opening) for opening in openings]
        wanted = {place.row: place for places in placed if places for place in places}
        self._fill_slots(wanted.values())
        moves = self._settle(closings, outcome) if closings else {}
        others = {row: move.place for row, move in moves.items()}
        for call, _ in replaced.values():
            others |= {place.row: place for place in self._places_of(call, self._applying(call))}
        standings = self._remembered.standings(self._tx, {**others, **wanted})
        _move(standings, moves)
        for row, place in wanted.items():
            if row not in standings:
                standings[row] = run(self._tx, balances.booked(place))
            if place.limit.extras:
                standings[row].grant(self._now_s)
            if place.slides:
                run(self._tx, balances.slide(place, standings[row]))
                for move in moves.values():  # of this batch, not written yet
                    if move.place.is_beside(place):
                        standings[row].add_others(move.settled, move.held)
        self._hold(openings, placed, standings, replaced, outcome)
        if self._newcomers:
            standings = self._by_lasting_ids(standings)
        balances.write(self._tx, standings)
        self._remembered.keep(standings)
        return outcome

    def _fill_slots(self, places: Iterable[Place]) -> None:
        """Before anything changes: from then on they are moved as any other balance."""
        for place in places:
            # Those of whom nothing is booked yet have none.
            if place.slides and place.member_id >= 0 and self._slots.may_be_missing(place):
                balances.fill_slots(self._tx, place)
                self._slots.filled(place)

    def _settle(self, closings: Sequence[Ended], outcome: Outcome) -> dict[Row, Move]:
        """Closes rows and adds to the roll-ups; returns by how much balances move."""
        first = {closing.call_id: (call, closing) for call, closing in reversed(closings)}
        changed = self._close_rows([closing for _, closing in first.values()])
        if changed == 0:
            return {}
        if changed < len(first):
            raise AlreadyClosed("some of these calls are closed already", hint="the ledger takes them one by one")
        rollups: dict[tuple[int, ...], tuple[int, ...]] = {}
        late = False  # whether some of them may be folded into the summaries already
        moves: dict[Row, Move] = {}
        made: list[tuple[int, int, int, Kept]] = []
        parts: list[tuple[int, str]] = []
        for call, closing in first.values():
            outcome.closed.append(closing)
            if closing.kept is not None:
                made.append((call.call_id, call.user_id, call.model_id, closing.kept))
            elif closing.deleted:
                objects.forget(self._tx, closing.deleted)
            if closing.part_ids:
                parts += [(call.call_id, part) for part in closing.part_ids]
            if (closing.cost_nano_usd or 0) > call.held_nano:
                outcome.above_hold += 1
            applying = self._applying(call)
            # End users cost a roll-up row each: only where a limit needs them.
            end_user_id = call.end_user_id
            if end_user_id and not any(limit.each == "end_user" for limit in applying):
                end_user_id = 0
            bucket = call.started_at_s // BUCKET_S
            late = late or bucket <= self._folded
            row = (bucket, call.lineage_id, call.user_id, call.key_id, call.model_id, end_user_id)
            amounts = _rollup_amounts(closing)
            sums = rollups.get(row)
            rollups[row] = amounts if sums is None else tuple(map(add, sums, amounts))
            settled, held = _settled(closing), call.held
            for place in self._places_of(call, applying):
                move = moves.get(place.row)
                if move is None:
                    move = moves[place.row] = Move(place)
                measure = place.limit.measure
                move.settled += settled[measure]
                move.held -= held[measure]
        self._note([closing for _, closing in first.values()])
        added = [(*row, *sums) for row, sums in rollups.items()]
        if late:
            fold.amend(self._tx, added, self._zone)
        else:
            fold.add(self._tx, added)
        if made:
            objects.remember(self._tx, self._interned, made)
        if parts:
            objects.remember_parts(self._tx, parts)
        return moves

    def defer(self, deferrals: Sequence[tuple[OpenCall, Deferral]]) -> None:
        """These calls go on without a process of ours; what they hold stays held."""
        made = [(call.call_id, call.user_id, call.model_id, deferral.kept) for call, deferral in deferrals]
        objects.remember(self._tx, self._interned, made)
        self._tx.executemany(
            "UPDATE calls SET owner = ?, status = ? WHERE id = ? AND state = 'open'",
            [(objects.DEFERRED, deferral.status, call.call_id) for call, deferral in deferrals],
        )

    def _close_rows(self, closings: Sequence[Closing]) -> int:
        rows = []
        rare = any(any(_rare_of(closing.usage)) for closing in closings)
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
                    *(closing.usage if rare else _usual_of(closing.usage)),
                    closing.cost_nano_usd,
                    closing.price_id,
                    shape_id,
                    values,
                    closing.latency_ms,
                    closing.ttft_ms,
                )
            )
        return (_CLOSE_CALLS if rare else _CLOSE_USUAL_CALLS).execute(self._tx, rows)

    def _note(self, closings: Sequence[Closing]) -> None:
        """What only some calls have: a cost that the provider stated, with our own beside it, and a service tier."""
        rows = [
            (
                closing.call_id,
                closing.own_cost_nano_usd,
                closing.own_price_id,
                self._interned.name(self._tx, closing.service_tier) if closing.service_tier else None,
            )
            for closing in closings
            if closing.own_price_id is not None or closing.service_tier
        ]
        if rows:
            _NOTE_CALLS.execute(self._tx, rows)

    def _placed_now(self, opening: Opening) -> tuple[Place, ...] | None:
        """The balances that a waiting call would count in; None: it was judged by settings no longer in force."""
        if opening.caller.settings_version != self._version:
            return None
        return self._places(
            opening.caller.limits,
            opening.caller.user_id,
            self._member_id(opening.end_user),
            opening.provider,
            opening.model,
            opening.started_at_ms // 1000,
        )

    def _hold(
        self,
        openings: Sequence[Opening],
        placed: Sequence[tuple[Place, ...] | None],
        standings: Mapping[Row, Standing],
        replaced: Mapping[int, Ended],
        outcome: Outcome,
    ) -> None:
        admitted: list[tuple[Opening, OpenCall, Kind]] = []
        for opening, places in zip(openings, placed, strict=True):
            if places is None:
                outcome.holds.append(None)
                continue
            mine_now = [standings[place.row] for place in places]
            before = replaced.get(opening.call_id)
            freed = self._freed(*before, places) if before is not None else ()
            if freed:
                _free(mine_now, freed)
            decision = decide(mine_now, opening.demand, share_percent=self._share_percent, now_s=self._now_s)
            if freed:
                _free(mine_now, [-amount for amount in freed])
            if not isinstance(decision, Admitted):
                decision.looked = looked_at(mine_now, opening.demand)
                outcome.holds.append(decision)
                continue
            kind = self._interned.kind(
                self._tx,
                opening.caller.lineage,
                opening.provider,
                opening.model,
                opening.dialect,
                opening.endpoint,
                opening.request_model,
            )
            call = self._opened(opening, decision, kind)
            held = call.held
            for place in places:
                more = held[place.limit.measure]
                standings[place.row].held += more
                if place.slides:
                    _count_in_other_slots(place.row, 0, more, standings)
            if before is not None:
                self._replace(*before, standings, outcome)
            admitted.append((opening, call, kind))
            outcome.holds.append(Held(decision.output_tokens, decision.capped, call.held_nano, decision.passed))
        outcome.opened.extend([call for _, call, _ in admitted])
        if admitted:
            self._insert_calls(admitted)

    def _freed(self, call: OpenCall, closing: Closing, places: Sequence[Place]) -> list[int]:
        """What the end of an open call frees in each of these balances, for the one that takes its place."""
        theirs = self._places_of(call, self._applying(call))
        held, settled = call.held, _settled(closing)
        return [
            held[place.limit.measure] - settled[place.limit.measure]
            if any(one.row == place.row or one.is_beside(place) for one in theirs)
            else 0
            for place in places
        ]

    def _replace(self, call: OpenCall, closing: Closing, standings: Mapping[Row, Standing], outcome: Outcome) -> None:
        """Books the end of a call whose place was taken."""
        outcome.replaced.append(closing)
        moves = self._settle([(call, closing)], outcome)
        _move(standings, moves)
        for row, move in moves.items():
            if move.place.slides:
                _count_in_other_slots(row, move.settled, move.held, standings)

    def _member_id(self, end_user: str) -> int:
        """Names of end users come from outside: only a call that is let in makes one known."""
        if not end_user:
            return 0
        known = self._interned.known_name(self._tx, end_user)
        return known or self._newcomers.setdefault(end_user, -1 - len(self._newcomers))

    def _by_lasting_ids(self, standings: Mapping[Row, Standing]) -> dict[Row, Standing]:
        """With the lasting ids of newcomers that were let in, and without the others."""
        ids = {below: self._interned.known_name(self._tx, name) for name, below in self._newcomers.items()}
        found = {}
        for (limit_id, member_id, start_s), one in standings.items():
            lasting = ids.get(member_id, member_id)
            if lasting is not None:
                found[limit_id, lasting, start_s] = one
        return found

    def _opened(self, opening: Opening, admitted: Admitted, kind: Kind) -> OpenCall:
        caller, demand = opening.caller, opening.demand
        return OpenCall(
            call_id=opening.call_id,
            started_at_ms=opening.started_at_ms,
            settings_version=self._version,
            limits=caller.limits,
            lineage=caller.lineage,
            lineage_id=kind.lineage_id,
            user_id=caller.user_id,
            key_id=caller.key_id,
            end_user_id=self._interned.name(self._tx, opening.end_user) if opening.end_user else 0,
            model_id=kind.model_id,
            provider=opening.provider,
            model=opening.model,
            held_nano=demand.cost_nano_usd(admitted.output_tokens),
            held_input_tokens=demand.input_tokens,
            held_output_tokens=admitted.output_tokens * demand.output_multiplier,
        )

    def _insert_calls(self, admitted: Sequence[tuple[Opening, OpenCall, Kind]]) -> None:
        rows = []
        for opening, call, kind in admitted:
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
                    kind.endpoint_id,
                    kind.request_model_id,
                    int(opening.stream),
                    call.held_nano,
                    call.held_input_tokens,
                    call.held_output_tokens,
                    opening.price_id,
                    self._interned.name(self._tx, opening.tags) if opening.tags else None,
                    opening.attempt_of,
                )
            )
        _OPEN_CALLS.execute(self._tx, rows)

    def _applying(self, call: OpenCall) -> tuple[Limit, ...]:
        """The limits that bind this call's booking today: a limit set while it was open counts it too."""
        if call.settings_version == self._version:
            return call.limits
        principals = (call.lineage, call.user_id, call.key_id)
        found = self._limits.get(principals)
        if found is None:
            found = limits.applying(
                self._tx,
                lineage=call.lineage,
                user_id=call.user_id,
                key_id=call.key_id,
                default_zone=self._zone,
                granted_from_s=self._now_s - limits.GRANTS_KEPT_S,
            )
            self._limits[principals] = found
        return found

    def _places_of(self, call: OpenCall, applying: tuple[Limit, ...]) -> tuple[Place, ...]:
        return self._places(applying, call.user_id, call.end_user_id, call.provider, call.model, call.started_at_s)

    def _places(
        self, applying: tuple[Limit, ...], user_id: int, end_user_id: int, provider: str, model: str, started_at_s: int
    ) -> tuple[Place, ...]:
        """The balances that a call counts in; the same for all calls of a batch that are alike."""
        alike = (id(applying), user_id, end_user_id, provider, model, started_at_s // SLOT_S)
        found = self._placed.get(alike)
        if found is None:
            found = self._placed[alike] = balances.places(
                applying,
                user_id=user_id,
                end_user_id=end_user_id,
                provider=provider,
                model=model,
                sold_as=model_of(self._deployments, provider, model),
                started_at_s=started_at_s,
            )
        return found


def _move(standings: Mapping[Row, Standing], moves: Mapping[Row, Move]) -> None:
    """A balance without a row is built, when a hold needs it, from the facts: they have these settles already."""
    for row, move in moves.items():
        if row in standings:
            standings[row].settled += move.settled
            standings[row].held += move.held


def _free(standings: Sequence[Standing], amounts: Sequence[int]) -> None:
    for standing, amount in zip(standings, amounts, strict=True):
        standing.held -= amount


def _count_in_other_slots(row: Row, settled: int, held: int, standings: Mapping[Row, Standing]) -> None:
    """Calls of one batch may have started in different slots of a minute: they see each other."""
    for other_row, other in standings.items():
        if balances.are_beside(row, other_row):
            other.add_others(settled, held)


def _settled(closing: Closing) -> Amounts:
    if closing.state == "released":
        return _NOTHING
    return {
        "cost": closing.cost_nano_usd or 0,
        "tokens": closing.usage.total_tokens,
        "requests": 1,
        "concurrency": 0,
    }


def _rollup_amounts(closing: Closing) -> tuple[int, ...]:
    usage = closing.usage
    return (
        1 if closing.state == "settled" else 0,
        1 if closing.error or (closing.status or 0) >= 400 else 0,
        1 if closing.usage_source == "estimated" else 0,
        1 if closing.cost_nano_usd is None else 0,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        closing.cost_nano_usd or 0,
    )


_OPEN_CALLS = BulkInsert(
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


_CLOSE_CALLS = _closing(USAGE_CLASSES)
# All that most calls have: the other classes are 0 in a row from its beginning, and take a third of such a statement.
_USUAL = ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"]
_usual_of = itemgetter(*map(USAGE_CLASSES.index, _USUAL))
_rare_of = itemgetter(*[place for place, name in enumerate(USAGE_CLASSES) if name not in _USUAL])
_CLOSE_USUAL_CALLS = _closing(_USUAL)
_NOTE_CALLS = BulkUpdate("calls", ["id", "own_cost_nano", "own_price_id", "service_tier_id"])
