"""The ledger against a naive model: whatever happens in whatever order, every decision is the one that a sum over all
calls would give, and balances and roll-ups say what the calls say."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llmctl.domain.demand import Demand
from llmctl.domain.errors import Refused
from llmctl.domain.limit import Limit, needed
from llmctl.domain.window import SLOT_S, window_end, window_start
from llmctl.store import (
    balances,
    configured,
    deployments,
    fold,
    grants,
    groups,
    ids,
    invariants,
    limits,
    recovery,
    users,
)
from llmctl.store.audit import Author
from llmctl.store.batch import Batch, Outcome
from llmctl.store.booking import Closing, Held, OpenCall, Opening
from llmctl.store.database import Store
from llmctl.store.interned import Interned
from llmctl.store.remembered import Remembered, State
from llmctl.store.slots import Slots
from tests.support.ledgers import RATES, Books, closing

OWNERS = (1, 2)  # worker processes
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]
GROUPS = ["company", "sales", "field"]
USERS = {"alice": "field", "bob": "sales", "carol": "company"}
MODELS = ["gpt-a", "gpt-b"]
SCOPES = ["org", *(f"group {name}" for name in GROUPS), *(f"user {name}" for name in USERS), "key alice/default"]
MOMENTS_S = [
    1_774_745_000,  # 2026-03-29 00:43 UTC: a day of 23 hours begins in Berlin
    1_793_494_000,  # 2026-10-31 20:06 UTC
    1_792_884_000,  # 2026-10-25 00:40 UTC: a day of 25 hours
    1_798_759_700,  # 2026-12-31 23:08 UTC
]
DEFAULT_ZONE = "UTC"
PER_CALL = {"cost": 8_000_000, "tokens": 1_500, "requests": 1, "concurrency": 1}

wishes = st.tuples(
    st.sampled_from(sorted(USERS)),
    st.sampled_from(MODELS),
    st.sampled_from(["", "e1", "e2"]),
    st.integers(0, 2_000),
    st.integers(1, 2_000),
    st.integers(1, 2_000),
    st.integers(0, 8),
)


@dataclass(slots=True)
class Known:
    """One call, as the model knows it."""

    open: OpenCall
    end_user: str
    owner: int
    deployed: dict[str, str]  # the machine's own: what the other model is, for all calls that ever were
    state: str = "open"
    cost_nano: int = 0
    tokens: int = 0

    def counts_in(self, limit: Limit, like: Known, now_s: int) -> bool:
        """Whether it is booked to this limit, in the window and for the member that the other call is of."""
        call, other = self.open, like.open
        mine = {
            "org": True,
            "group": limit.scope.id in call.lineage,
            "user": limit.scope.id == call.user_id,
            "key": limit.scope.id == call.key_id,
        }[limit.scope.principal]
        if not mine or limit.model_pattern not in ("", call.model, self.deployed.get(call.model)):
            return False
        if limit.each == "user" and call.user_id != other.user_id:
            return False
        if limit.each == "end_user" and (not self.end_user or self.end_user != like.end_user):
            return False
        if limit.window == "minute":
            slot_s = now_s - now_s % SLOT_S
            # Those of the minute after it have begun only if this one is judged late.
            return (
                abs(call.started_at_s - call.started_at_s % SLOT_S - slot_s) <= 60 and call.started_at_s < slot_s + 60
            )
        zone = ZoneInfo(limit.zone)
        start_s, end_s = window_start(limit.window, zone, now_s), window_end(limit.window, zone, now_s)
        return start_s <= call.started_at_s and (end_s is None or call.started_at_s < end_s)

    def takes(self, limit: Limit) -> int:
        """Settled or held, in the limit's unit."""
        if self.state == "open":
            return self.open.held[limit.measure]
        if limit.measure == "concurrency" or self.state == "released":
            return 0
        return {"cost": self.cost_nano, "tokens": self.tokens, "requests": 1}[limit.measure]


@dataclass(frozen=True, slots=True)
class Given:
    """A grant, as the model knows it. `member`: a user or end user; "" = everyone."""

    limit_id: int
    member: str
    amount: int
    until_s: int


class Ledger(RuleBasedStateMachine):
    """The decisions and bookings of two processes, on a real file, with a clock of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.books = Books(Path(self.directory.name) / "llmctl.db")
        self.stores = {owner: Store(self.books.path) for owner in OWNERS}
        for store in (self.books.store, *self.stores.values()):
            store.connection.execute("PRAGMA synchronous = OFF")
        self.remembered = {owner: Remembered() for owner in OWNERS}
        self.interned = {owner: Interned() for owner in OWNERS}
        self.ids = {owner: ids.CallIds(owner, 0) for owner in OWNERS}
        self.slots = {owner: Slots() for owner in OWNERS}
        self.calls: list[Known] = []
        self.grants: list[Given] = []
        self.deployed: dict[str, str] = {}
        self.parents: dict[str, str | None] = {}
        self.zones: dict[str, str | None] = {}
        self.now_s = MOMENTS_S[0]
        with self.books.store.write() as tx:
            parent = None
            for name in GROUPS:
                groups.add(tx, self.books.author, name, parent=parent, timezone=None)
                self.parents[name], self.zones[name] = parent, None
                parent = name
        self.secrets = {name: self.books.add_user(name, group) for name, group in USERS.items()}
        self.user_ids = dict(self.books.rows("SELECT name, id FROM users"))

    def teardown(self) -> None:
        for store in (*self.stores.values(), self.books.store):
            store.close()
        self.directory.cleanup()

    @initialize(moment_s=st.sampled_from(MOMENTS_S), zone=st.sampled_from(ZONES))
    def begin(self, moment_s: int, zone: str) -> None:
        self.now_s = moment_s
        self._zone("company", zone)

    # ---- what an admin does ----

    @rule(
        scope=st.sampled_from(SCOPES),
        measure=st.sampled_from(["cost", "tokens", "requests", "concurrency"]),
        window=st.sampled_from(["minute", "hour", "day", "week", "month", "total"]),
        each=st.sampled_from(["", "user", "end_user"]),
        models=st.sampled_from(["", "gpt-a"]),
        calls=st.integers(0, 12),
        soft=st.booleans(),
    )
    def set_limit(self, scope: str, measure: str, window: str, each: str, models: str, calls: int, soft: bool) -> None:
        amount = calls * PER_CALL[measure]
        self.books.author = Author("tester", self.now_s)
        self.books.limit(
            scope,
            amount,
            measure=measure,
            window="total" if measure == "concurrency" else window,
            each=each if scope == "org" or scope.startswith("group ") else "",
            model_pattern=models,
            soft=soft,
        )

    @rule(data=st.data())
    def remove_limit(self, data: st.DataObject) -> None:
        there = self._limits()
        if there:
            one = data.draw(st.sampled_from(there))
            with self.books.store.write() as tx:
                limits.remove(tx, self.books.author, f"l{one.id}", default_zone=DEFAULT_ZONE)

    @rule(data=st.data(), calls=st.integers(1, 3), span_s=st.sampled_from([5, 900, 90_000]))
    def grant(self, data: st.DataObject, calls: int, span_s: int) -> None:
        there = self._limits()
        if there:
            one = data.draw(st.sampled_from(there))
            members = {"": [""], "user": ["", *sorted(USERS)], "end_user": ["", "e1", "e2"]}[one.each]
            member = data.draw(st.sampled_from(members))
            given = Given(one.id, member, calls * PER_CALL[one.measure], self.now_s + span_s)
            with self.books.store.write() as tx:
                author, until_s = Author("tester", self.now_s), given.until_s
                grants.add(tx, author, one, member=member, amount=given.amount, until_s=until_s, reason="more")
            self.grants.append(given)

    @rule(data=st.data(), group=st.sampled_from(GROUPS))
    def move_group(self, data: st.DataObject, group: str) -> None:
        """Under another, or to the top; what was booked stays where it was."""
        parent = data.draw(st.sampled_from([None, *(other for other in GROUPS if not self._is_below(other, group))]))
        with self.books.store.write() as tx:
            groups.change(tx, self.books.author, group, parent=parent, timezone=self.zones[group], allow_from=None)
        self.parents[group] = parent

    @rule(user=st.sampled_from(sorted(USERS)), group=st.sampled_from(GROUPS))
    def move_user(self, user: str, group: str) -> None:
        with self.books.store.write() as tx:
            users.change(tx, self.books.author, user, group=group, email=None)

    @rule(group=st.sampled_from(GROUPS), zone=st.sampled_from(ZONES))
    def change_zone(self, group: str, zone: str) -> None:
        self._zone(group, zone)

    @rule(other=st.sampled_from([None, *MODELS]))
    def say_what_a_deployment_is(self, other: str | None) -> None:
        """In the configuration, with which a gateway starts or reloads."""
        self.deployed.clear()
        self.deployed.update({MODELS[1]: other} if other else {})
        configured.keep(self.books.path, {"openai": self.deployed}, self.now_s)

    @rule(user=st.sampled_from(sorted(USERS)), age_s=st.sampled_from([0, 4, 8]))
    def ask_before_and_after_a_deployment_is_another_model(self, user: str, age_s: int) -> None:
        """Within a minute, of limits that are older than one."""
        self.set_limit("org", "requests", "minute", "", MODELS[0], 3, False)
        self.say_what_a_deployment_is(None)
        self.now_s += 66
        wish = (user, MODELS[1], "e1", 400, 400, 200, age_s)
        self._ask(OWNERS[0], [], [wish, wish])
        self.now_s += 6
        self.say_what_a_deployment_is(MODELS[0])
        self._ask(OWNERS[1], [], [wish, wish])

    # ---- what callers and providers do ----

    @rule(
        owner=st.sampled_from(OWNERS),
        asked=st.lists(wishes, min_size=1, max_size=3),
        data=st.data(),
        ends=st.booleans(),
    )
    def hold(
        self, owner: int, asked: list[tuple[str, str, str, int, int, int, int]], data: st.DataObject, ends: bool
    ) -> None:
        """Some calls in one batch, begun within seconds; another may end in it."""
        closings = []
        if ends and self._open(owner):
            one = data.draw(st.sampled_from(self._open(owner)))
            closings.append((one.open, self._end(one, 400, 300)))
        self._ask(owner, closings, asked)

    @precondition(lambda self: self._open())
    @rule(data=st.data(), asked=st.lists(wishes, min_size=1, max_size=3), billed=st.booleans())
    def hold_in_place_of_another(
        self, data: st.DataObject, asked: list[tuple[str, str, str, int, int, int, int]], billed: bool
    ) -> None:
        """Of some calls in one batch, one is another attempt of a call that failed: it ends only if that one is let
        in."""
        one = data.draw(st.sampled_from(self._open()))
        place = data.draw(st.integers(0, len(asked) - 1))
        self._ask(one.owner, [], asked, (place, one, billed))

    @rule(user=st.sampled_from(sorted(USERS)), group=st.sampled_from(GROUPS), zone=st.sampled_from(ZONES))
    def ask_before_and_after_a_change(self, user: str, group: str, zone: str) -> None:
        """Within a minute, of limits that are older than one."""
        self.set_limit("org", "requests", "minute", "", "", 3, False)
        self.now_s += 66
        wish = (user, MODELS[0], "e1", 400, 400, 200, 0)
        self._ask(OWNERS[0], [], [wish])
        self.now_s += 6
        self.move_user(user, group)
        self._ask(OWNERS[0], [], [wish])
        self.now_s += 6
        self._zone(group, zone)
        self._ask(OWNERS[1], [], [wish, wish])

    def _ask(
        self,
        owner: int,
        closings: Any,
        asked: list[tuple[str, str, str, int, int, int, int]],
        instead: tuple[int, Known, bool] | None = None,
    ) -> None:
        """`instead`: which of them takes whose place, and whether that one is billed."""
        openings = []
        for user, model, end_user, input_tokens, output_tokens, least, age_s in asked:
            openings.append(
                Opening(
                    self.ids[owner].next(self.now_s * 1_000_000),
                    (self.now_s - age_s) * 1000,
                    self.books.caller(self.secrets[user], self.now_s),
                    "openai",
                    model,
                    "openai",
                    "chat.completions",
                    model,
                    False,
                    Demand(input_tokens, output_tokens, min(least, output_tokens), 1, False, RATES),
                    1,
                    end_user,
                )
            )
        replaced = {}
        if instead is not None:
            place, before, billed = instead
            ended = self._end(before, 400, 300) if billed else self._release(before)
            after, before.state = before.state, "open"
            replaced = {openings[place].call_id: (before.open, ended)}
        outcome = self._apply(owner, closings, openings, replaced)
        granted = iter(outcome.opened)
        for number, (opening, result) in enumerate(zip(openings, outcome.holds, strict=True)):
            takes_a_place = instead is not None and number == place
            if takes_a_place:
                before.state = after
            if isinstance(result, Held):
                one = Known(next(granted), opening.end_user, owner, self.deployed)
                self._check(one, opening, result.output_tokens, granted=True)
                self.calls.append(one)
            else:
                assert isinstance(result, Refused)
                self._check(self._as_if(opening), opening, opening.demand.output_tokens_min, granted=False)
                if takes_a_place:
                    before.state = "open"

    @precondition(lambda self: self._open())
    @rule(data=st.data(), input_tokens=st.integers(0, 2_500), output_tokens=st.integers(0, 2_500), twice=st.booleans())
    def settle(self, data: st.DataObject, input_tokens: int, output_tokens: int, twice: bool) -> None:
        one = data.draw(st.sampled_from(self._open()))
        ended = self._end(one, input_tokens, output_tokens)
        for _ in range(1 + twice):
            self._apply(one.owner, [(one.open, ended)], [])

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._open()))
        self._apply(one.owner, [(one.open, self._release(one))], [])

    # ---- what happens to the machine ----

    @rule(owner=st.sampled_from(OWNERS), by_other=st.booleans())
    def crash(self, owner: int, by_other: bool) -> None:
        """A process dies; the other one, or the next of its place, books what it left open, at the hold. The other
        one's calls go on."""
        self.interned[owner] = Interned()
        self.remembered[owner] = Remembered()
        self.slots[owner] = Slots(max((one.open.call_id for one in self.calls), default=0))
        booker = OWNERS[owner == OWNERS[0]] if by_other else owner
        with self.stores[booker].write() as tx:
            found = recovery.orphans(tx, owner)
            self._batch(tx, booker).apply(found, [])
        for one in self._open(owner):
            one.state, one.cost_nano = "settled", one.open.held_nano
            one.tokens = one.open.held_input_tokens + one.open.held_output_tokens

    @rule(step_s=st.sampled_from([1, 4, 7, 20, 45, 61, 900, 3_600, 40_000, 90_000, 700_000, -3, -70, -4_000]))
    def pass_time(self, step_s: int) -> None:
        for moment_s in (self.now_s, self.now_s + step_s):  # each process looks at the clock every few seconds
            for slots in self.slots.values():
                slots.look_at_clock(moment_s)
        self.now_s += step_s

    @rule()
    def drop_past_balances(self) -> None:
        with self.books.store.write() as tx:
            balances.drop(tx, balances.past(balances.some(tx, (0, 0, 0), 1_000), self.now_s))

    @rule()
    def sum_up(self) -> None:
        with self.books.store.write() as tx:
            fold.step(tx, default_zone=DEFAULT_ZONE, now_s=self.now_s)

    # ---- what always holds ----

    @invariant()
    def balances_and_rollups_are_what_the_calls_say(self) -> None:
        with self.books.store.read() as tx:
            wrong = invariants.check(tx, now_s=self.now_s)
        assert not wrong, wrong

    @invariant()
    def every_call_is_there_once_in_its_state(self) -> None:
        there = dict(self.books.rows("SELECT id, state FROM calls"))
        assert there == {one.open.call_id: one.state for one in self.calls}

    def _end(self, one: Known, input_tokens: int, output_tokens: int) -> Closing:
        ended = closing(one.open.call_id, input_tokens=input_tokens, output_tokens=output_tokens)
        one.state, one.cost_nano, one.tokens = "settled", ended.cost_nano_usd or 0, input_tokens + output_tokens
        return ended

    def _release(self, one: Known) -> Closing:
        one.state = "released"
        return Closing(one.open.call_id, "released", error="provider_unreachable")

    def _check(self, one: Known, opening: Opening, output_tokens: int, *, granted: bool) -> None:
        """That a sum over all calls decides the same."""
        fits = True
        for limit in self._limits():
            at_s = one.open.started_at_s
            if limit.soft or not one.counts_in(limit, one, at_s):
                continue
            taken = sum(other.takes(limit) for other in self.calls if other.counts_in(limit, one, at_s))
            need = needed(limit, opening.demand, output_tokens)
            more = self._granted(limit, one.open.user_id, one.end_user)
            fits = fits and (need <= 0 or taken + need <= limit.amount + more)
        assert fits == granted

    def _as_if(self, opening: Opening) -> Known:
        caller = opening.caller
        call = OpenCall(
            opening.call_id,
            opening.started_at_ms,
            0,
            (),
            caller.lineage,
            0,
            caller.user_id,
            caller.key_id,
            0,
            0,
            opening.provider,
            opening.model,
            0,
            0,
            0,
        )
        return Known(call, opening.end_user, 0, self.deployed)

    def _open(self, owner: int | None = None) -> list[Known]:
        return [one for one in self.calls if one.state == "open" and owner in (None, one.owner)]

    def _is_below(self, group: str, other: str) -> bool:
        """Whether a group is another, or below it."""
        at: str | None = group
        while at is not None and at != other:
            at = self.parents[at]
        return at == other

    def _granted(self, limit: Limit, user_id: int, end_user: str) -> int:
        names = {name: self.user_ids[name] for name in USERS}
        return sum(
            given.amount
            for given in self.grants
            if given.limit_id == limit.id
            and given.until_s > self.now_s
            and (not given.member or names.get(given.member) == user_id or given.member == end_user)
        )

    def _limits(self) -> list[Limit]:
        with self.books.store.read() as tx:
            return limits.listing(tx, default_zone=DEFAULT_ZONE)

    def _zone(self, group: str, zone: str) -> None:
        with self.books.store.write() as tx:
            groups.change(tx, self.books.author, group, parent=self.parents[group], timezone=zone, allow_from=None)
        self.zones[group] = zone

    def _apply(self, owner: int, closings: Any, openings: list[Opening], replaced: Any = ()) -> Outcome:
        with self.stores[owner].write() as tx:
            outcome = self._batch(tx, owner).apply(closings, openings, dict(replaced))
        self.remembered[owner].committed(self.stores[owner].connection)
        return outcome

    def _batch(self, tx: Any, owner: int) -> Batch:
        remembered = self.remembered[owner]
        remembered.look(tx)
        if remembered.state is None:
            version, folded = tx.execute("SELECT settings_version, folded_bucket FROM settings").fetchone()
            remembered.state = State(version, folded, DEFAULT_ZONE)
        self.slots[owner].look_at_clock(self.now_s)
        return Batch(
            tx,
            self.interned[owner],
            owner=owner,
            share_percent=25,
            now_s=self.now_s,
            state=remembered.state,
            deployments=deployments.load(tx),
            slots=self.slots[owner],
            remembered=remembered,
        )


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_every_decision_is_the_one_that_a_sum_over_all_calls_gives() -> None:
    run(250, 40)


@pytest.mark.soak
def test_so_in_thousands_of_histories() -> None:
    run(3_000, 60)
