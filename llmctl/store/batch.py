"""One batch of the ledger, inside one write transaction: settles, then holds decided one after another.

The number of statements does not grow with the batch. Counters move only by rows that really changed state, so a
settle that is repeated (after a failed commit, or by recovery) counts once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add

import msgspec

from llmctl.domain.errors import StoreError
from llmctl.domain.limit import Admitted, Limit, Standing, decide
from llmctl.domain.why import looked_at
from llmctl.domain.window import BUCKET_S, SLOT_S

from . import balances, call_rows, facts, fold, limits, objects, sliding
from .balances import Place, Row
from .booking import Closing, Deferral, Held, HoldResult, Kept, OpenCall, Opening
from .deployments import Deployments, model_of
from .interned import Interned, Kind
from .remembered import Remembered, State
from .sliding import Minutes
from .slots import Slots
from .sql import run

Ended = tuple[OpenCall, Closing]
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
                standings[row] = self._begun(place)
            if place.limit.extras:
                standings[row].grant(self._now_s)
        minutes = Minutes([(place, standings[row]) for row, place in wanted.items() if place.slides])
        if minutes:
            run(self._tx, minutes.read())
            for row, move in moves.items():  # of this batch, not written yet
                minutes.count(row, move.settled, move.held)
        self._hold(openings, placed, standings, minutes, replaced, outcome)
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
                sliding.fill_slots(self._tx, place.limit, place.counts_from_s)
                self._slots.filled(place)

    def _begun(self, place: Place) -> Standing:
        """A balance that has no row yet. Slots that count are whole by now: of one without a row, there was no call."""
        if place.slides and place.window_start_s >= self._now_s - balances.PAST_S["minute"]:
            return balances.standing(place, 0, 0)
        return run(self._tx, facts.booked(place))

    def _settle(self, closings: Sequence[Ended], outcome: Outcome) -> dict[Row, Move]:
        """Closes rows and adds to the roll-ups; returns by how much balances move."""
        first = {closing.call_id: (call, closing) for call, closing in reversed(closings)}
        ended = [closing for _, closing in first.values()]
        changed = call_rows.close(self._tx, self._interned, ended)
        if changed == 0:
            return {}
        if changed < len(first):
            raise AlreadyClosed("some of these calls are closed already", hint="the ledger takes them one by one")
        outcome.closed += ended
        outcome.above_hold += sum([(closing.cost_nano_usd or 0) > call.held_nano for call, closing in first.values()])
        call_rows.note(self._tx, self._interned, ended)
        self._roll_up(first.values())
        self._remember_objects(first.values())
        return self._moved(first.values())

    def _roll_up(self, settled: Iterable[Ended]) -> None:
        rollups: dict[tuple[int, ...], tuple[int, ...]] = {}
        late = False  # whether some of them may be folded into the summaries already
        for call, closing in settled:
            bucket = call.started_at_s // BUCKET_S
            late = late or bucket <= self._folded
            # End users cost a row each: only where a limit needs them.
            end_user_id = call.end_user_id
            if end_user_id and not any(limit.each == "end_user" for limit in self._applying(call)):
                end_user_id = 0
            row = (bucket, call.lineage_id, call.user_id, call.key_id, call.model_id, end_user_id)
            sums = rollups.get(row)
            rollups[row] = closing.sums if sums is None else tuple(map(add, sums, closing.sums))
        added = [(*row, *sums) for row, sums in rollups.items()]
        if late:
            fold.amend(self._tx, added, self._zone)
        else:
            fold.add(self._tx, added)

    def _remember_objects(self, settled: Iterable[Ended]) -> None:
        """What the provider keeps of them, and gives out by an id, and what it keeps no longer."""
        made: list[tuple[int, int, int, Kept]] = []
        parts: list[tuple[int, str]] = []
        for call, closing in settled:
            if closing.kept is not None:
                made.append((call.call_id, call.user_id, call.model_id, closing.kept))
            elif closing.deleted:
                objects.forget(self._tx, closing.deleted)
            if closing.part_ids:
                parts += [(call.call_id, part) for part in closing.part_ids]
        if made:
            objects.remember(self._tx, self._interned, made)
        if parts:
            objects.remember_parts(self._tx, parts)

    def _moved(self, settled: Iterable[Ended]) -> dict[Row, Move]:
        moves: dict[Row, Move] = {}
        for call, closing in settled:
            more, less = closing.settled, call.held
            for place in self._places_of(call, self._applying(call)):
                move = moves.get(place.row)
                if move is None:
                    move = moves[place.row] = Move(place)
                measure = place.limit.measure
                move.settled += more[measure]
                move.held -= less[measure]
        return moves

    def defer(self, deferrals: Sequence[tuple[OpenCall, Deferral]]) -> None:
        """These calls go on without a process of ours; what they hold stays held."""
        made = [(call.call_id, call.user_id, call.model_id, deferral.kept) for call, deferral in deferrals]
        objects.remember(self._tx, self._interned, made)
        self._tx.executemany(
            "UPDATE calls SET owner = ?, status = ? WHERE id = ? AND state = 'open'",
            [(objects.DEFERRED, deferral.status, call.call_id) for call, deferral in deferrals],
        )

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
        minutes: Minutes,
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
                    minutes.count(place.row, 0, more)
            if before is not None:
                self._replace(*before, standings, minutes, outcome)
            admitted.append((opening, call, kind))
            outcome.holds.append(Held(decision.output_tokens, decision.capped, call.held_nano, decision.passed))
        outcome.opened.extend([call for _, call, _ in admitted])
        if admitted:
            call_rows.add(self._tx, self._interned, self._owner, admitted)

    def _freed(self, call: OpenCall, closing: Closing, places: Sequence[Place]) -> list[int]:
        """What the end of an open call frees in each of these balances, for the one that takes its place."""
        theirs = self._places_of(call, self._applying(call))
        held, settled = call.held, closing.settled
        return [
            held[place.limit.measure] - settled[place.limit.measure]
            if any(one.row == place.row or one.is_beside(place) for one in theirs)
            else 0
            for place in places
        ]

    def _replace(
        self, call: OpenCall, closing: Closing, standings: Mapping[Row, Standing], minutes: Minutes, outcome: Outcome
    ) -> None:
        """Books the end of a call whose place was taken."""
        outcome.replaced.append(closing)
        moves = self._settle([(call, closing)], outcome)
        _move(standings, moves)
        for row, move in moves.items():
            minutes.count(row, move.settled, move.held)

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
