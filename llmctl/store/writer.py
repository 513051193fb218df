"""The ledger's own thread: takes what waits, writes it in one transaction, and looks after the file in between."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmctl.domain.errors import LlmctlError, StoreBroken, StoreError, StoreUnavailable

from . import balances, deployments, fold, limits, recovery
from .batch import Batch, Ended, Outcome
from .booking import Closing, HoldResult, OpenCall, Opening
from .database import Store, check_schema, schema_version, storing
from .deployments import Deployments
from .ids import CallIds, shown
from .intake import Intake, Taken, Waiting
from .interned import Interned
from .owners import Owner
from .refusal_log import RefusalLog
from .remembered import Remembered, State
from .slots import Slots
from .upkeep import Upkeep

logger = logging.getLogger(__name__)

RETRY_S = 0.2
# While the database is known to be unavailable: clients shall not wait again for what others waited for in vain.
IMPATIENT_S = 0.1
RECOVER_EVERY_S = 5.0
FOLD_EVERY_S = 60.0
FOLD_PAUSE_S = 0.02  # between steps of some milliseconds: most of the time is the calls'


@dataclass(slots=True)
class LedgerStats:
    """Counters since the start of this process, for metrics. Written by the ledger's thread alone."""

    holds: int = 0
    settled_above_hold: int = 0
    estimated: int = 0
    unpriced: int = 0
    recovered: int = 0

    def count(self, name: str, number: int = 1) -> None:
        setattr(self, name, getattr(self, name) + number)

    def committed(self, seconds: float) -> None:
        """How long one transaction took: for those who count it elsewhere too."""


Delivered = Sequence[tuple[Waiting, HoldResult | StoreError]]


class SettlesCount(Exception):
    """Not every hold fits as it is: what was kept back has to be settled before it is decided."""


class Writer:
    """Only `queue` and what is public to read is touched by the event loop."""

    def __init__(
        self,
        path: Path,
        owner: Owner,
        *,
        default_zone: str,
        share_percent: int,
        synchronous: str,
        lock_timeout_s: float,
        clock_s: Callable[[], float],
        deliver: Callable[[Delivered], None],
        stats: LedgerStats,
    ) -> None:
        self._path = path
        self._owner = owner
        self._default_zone = default_zone
        self.share_percent = share_percent
        self._synchronous = synchronous
        self._lock_timeout_s = lock_timeout_s
        self._clock_s = clock_s
        self._deliver = deliver
        self._interned = Interned()
        self._deployments = deployments.NONE  # as of that version of the settings
        self._deployments_version = -1
        self._refusal_log = RefusalLog()
        self._upkeep = Upkeep()
        self._slots = Slots()
        self._remembered = Remembered()
        self._recover_at_s = 0.0
        self._fold_at_s = 0.0
        self._folding = True  # until it is known: an old database has much to fold
        self.intake = Intake(self._may_wait)
        self.open: dict[int, OpenCall] = {}
        self.stats = stats
        self.failed: StoreError | None = None
        self._unavailable: StoreError | None = None
        self.ids: CallIds

    @property
    def unavailable(self) -> StoreError | None:
        """Why the last batch was not written, or the next call would not be let in."""
        return self._unavailable or self._upkeep.short

    def run(self, started: Callable[[LlmctlError | None], None]) -> None:
        """The thread's body, until `STOP`. `started` is called once: with None, or with why it could not begin."""
        try:
            store = Store(self._path, synchronous=self._synchronous, lock_timeout_s=self._lock_timeout_s)
        except LlmctlError as error:
            started(error)
            return
        try:
            store.wait_at_most(self._lock_timeout_s)
            with storing():
                # For `state IN (...)` SQLite builds a table, for each row: a tenth of all that the ledger does. What it
                # writes there are its own words.
                store.connection.execute("PRAGMA ignore_check_constraints = ON")
                self._begin(store)
        except LlmctlError as error:
            store.close()
            started(error)
            return
        started(None)
        try:
            self._serve(store)
        except Exception as error:
            # A bug. Nobody may wait for a thread that is gone: the daemon sees `failed` and ends.
            logger.exception("the ledger stopped")
            self.failed = StoreUnavailable(f"the ledger stopped: {type(error).__name__}", hint="start the daemon again")
            self._fail(self.intake.drain(), self.failed)
        finally:
            self._close_store(store)

    def _begin(self, store: Store) -> None:
        (last_id,) = store.connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()
        self.ids = CallIds(self._owner.slot, last_id)
        self._slots = Slots(last_id)
        with store.write() as tx:
            if limits.default_zone(tx) != self._default_zone:
                # Balances of the old zone's windows would miss what is settled from now on; who serves too goes by the
                # new one from its next call on.
                balances.forget(tx)
                tx.execute(
                    "UPDATE settings SET timezone = ?, settings_version = settings_version + 1", (self._default_zone,)
                )
        self._recover(store, [self._owner.slot])

    def _serve(self, store: Store) -> None:
        intake = self.intake
        while (taken := intake.take(self._idle_s())) is not None:
            if count := len(taken):
                self._commit(store, taken)
            intake.written(count)
            self._care(store)
            intake.let_gather()
        # Whatever still waits is written before the end; a database that stays unavailable gets some more tries.
        deadline_s = time.monotonic() + 10 * RETRY_S
        while intake.unsettled and time.monotonic() < deadline_s and self.failed is None:
            self._commit(store, Taken())
            time.sleep(RETRY_S if intake.unsettled else 0)
        if left := len(intake.unsettled):
            logger.error("%d calls could not be settled: the next start books them as estimated", left)

    def _may_wait(self, closing: Closing) -> bool:
        """Not a settle above what was held: until it is written, others could be let in that do not fit."""
        call = self.open.get(closing.call_id)
        return call is not None and call.covers(closing)

    def _idle_s(self) -> float:
        if self.intake.unsettled:
            return RETRY_S
        return FOLD_PAUSE_S if self._folding else RECOVER_EVERY_S

    def _commit(self, store: Store, taken: Taken) -> None:
        self.intake.add_unsettled(taken)
        if taken.holds and (short := self._upkeep.look_for_room(store)) is not None:
            self._fail(taken.holds, short)
            taken.holds = []
            if not len(taken):
                return
        began_s = time.perf_counter()
        try:
            outcome = self._write(store, taken)
        except SettlesCount:
            self.intake.add_kept_back(taken)
            self._commit(store, taken)
            return
        except StoreUnavailable as error:
            self._not_written(store, taken, error)
            return
        except StoreError as error:
            if isinstance(error, StoreBroken) or self.failed is not None or len(taken) == 1:
                self._give_up(store, taken, error)
            else:
                self._one_by_one(store, taken)
            return
        except Exception as error:
            logger.exception("a batch of %d failed", len(taken))
            if len(taken) == 1:
                self._give_up(store, taken, StoreError(f"the ledger failed: {type(error).__name__}"))
            else:
                self._one_by_one(store, taken)
            return
        if self._unavailable is not None:
            logger.warning("the database is available again")
            store.wait_at_most(self._lock_timeout_s)
        self._unavailable = None
        self._upkeep.wrote(len(taken))
        self.stats.committed(time.perf_counter() - began_s)
        self._written(taken, outcome)

    def _write(self, store: Store, taken: Taken) -> Outcome:
        """One transaction for all that was taken. Nothing outside the file changes here."""
        try:
            with store.write() as tx:
                batch = self._batch(tx)
                if taken.deferrals:
                    batch.defer([(self.open[d.call_id], d) for d in taken.deferrals if d.call_id in self.open])
                closings = [(call, c) for c in taken.closings if (call := self._opened(tx, c)) is not None]
                openings = [waiting.opening for waiting in taken.holds]
                outcome = batch.apply(closings, openings, self._replaced(openings))
                if self.intake.keeps_back and not outcome.all_fit:
                    raise SettlesCount
                refused = self._refusal_log.write(tx, self._interned, taken.refusals) if taken.refusals else None
            self._remembered.committed(store.connection)
            if refused is not None:
                self._refusal_log.committed(refused)
            return outcome
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """What a transaction has told us that was rolled back."""
        self._interned.forget()
        self._slots.forget()

    def _opened(self, tx: sqlite3.Connection, closing: Closing) -> OpenCall | None:
        """The call that ends; None: it has ended already."""
        call = self.open.get(closing.call_id)
        if call is None and closing.deferred:
            return recovery.deferred(tx, closing.call_id)
        return call

    def _replaced(self, openings: Sequence[Opening]) -> dict[int, Ended]:
        """Whose place these take, by their ids."""
        found = {}
        for opening in openings:
            end = opening.replaces
            if end is not None and (call := self.open.get(end.call_id)) is not None:
                found[opening.call_id] = (call, end)
        return found

    def _batch(self, tx: sqlite3.Connection) -> Batch:
        self._remembered.look(tx)
        state = self._remembered.state
        if state is None:
            state = self._remembered.state = self._state(tx)
        now_s = int(self._clock_s())
        self._slots.look_at_clock(now_s)
        return Batch(
            tx,
            self._interned,
            owner=self._owner.slot,
            share_percent=self.share_percent,
            now_s=now_s,
            state=state,
            deployments=self._deployments_at(tx, state.settings_version),
            slots=self._slots,
            remembered=self._remembered,
        )

    def _state(self, tx: sqlite3.Connection) -> State:
        """Sees too that nobody has migrated the file under us."""
        version, schema, folded, zone = tx.execute(
            "SELECT settings_version, user_version, folded_bucket, timezone FROM settings, pragma_user_version"
        ).fetchone()
        if schema != schema_version():
            try:
                check_schema(tx)
            except StoreError as error:
                self.failed = error
                raise
        return State(version, folded, zone)

    def _deployments_at(self, tx: sqlite3.Connection, version: int) -> Deployments:
        if version != self._deployments_version:
            self._deployments, self._deployments_version = deployments.load(tx), version
        return self._deployments

    def _written(self, taken: Taken, outcome: Outcome) -> None:
        for call in outcome.opened:
            self.open[call.call_id] = call
        for endings in (taken.deferrals, taken.closings, outcome.replaced):
            for ending in endings:
                self.open.pop(ending.call_id, None)
        if taken.holds:
            self._deliver(list(zip(taken.holds, outcome.holds, strict=True)))
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        stats = self.stats
        if outcome.opened:
            stats.count("holds", len(outcome.opened))
        if outcome.above_hold:
            stats.count("settled_above_hold", outcome.above_hold)
        if outcome.closed:
            stats.count("estimated", sum([closing.usage_source == "estimated" for closing in outcome.closed]))
            stats.count("unpriced", sum([closing.cost_nano_usd is None for closing in outcome.closed]))

    def _not_written(self, store: Store, taken: Taken, error: StoreError) -> None:
        """Nothing of this batch happened: holds are told so, settles wait for better times."""
        if self._unavailable is None:  # said once: a log of each try would help to fill the disk
            logger.warning("%s", error)
            store.wait_at_most(min(IMPATIENT_S, self._lock_timeout_s))
        self._unavailable = error
        self.intake.unsettled.extend(taken.endings)
        self._fail(taken.holds, error)

    def _give_up(self, store: Store, taken: Taken, error: StoreError) -> None:
        """A broken database, or one item that no transaction takes: it fails alone, and is not repeated for ever."""
        self._fail(taken.holds, error)
        if isinstance(error, StoreBroken):
            if self.failed is None:
                logger.error("calls wait to be settled: %s", error)
            self.failed = error
            self.intake.unsettled.extend(taken.endings)
            return
        for ending in taken.endings:
            logger.error("call %s could not be settled: %s", shown(ending.call_id), error)
        for closing in taken.closings:
            call = self.open.get(closing.call_id)
            if call is not None and self.failed is None and (other := recovery.simpler(call, closing)) is not None:
                self._commit(store, Taken(closings=[other]))

    def _one_by_one(self, store: Store, taken: Taken) -> None:
        for deferral in taken.deferrals:
            self._commit(store, Taken(deferrals=[deferral]))
        for closing in taken.closings:
            self._commit(store, Taken(closings=[closing]))
        for waiting in taken.holds:
            self._commit(store, Taken(holds=[waiting]))
        for refusal in taken.refusals:
            self._commit(store, Taken(refusals=[refusal]))

    def _fail(self, holds: Sequence[Waiting], error: StoreError) -> None:
        if holds:
            self._deliver([(waiting, error) for waiting in holds])

    # ---- care of the file, between batches ----

    def _care(self, store: Store) -> None:
        try:
            self._upkeep.checkpoint_if_due(store)
            if time.monotonic() >= self._recover_at_s:
                self._recover_at_s = time.monotonic() + RECOVER_EVERY_S
                self._slots.look_at_clock(int(self._clock_s()))  # who has no calls sees a clock change too
                self.failed = self.failed or store.replaced()
                with storing():
                    owners = recovery.open_owners(store.connection)
                self._recover(store, [slot for slot in owners if slot != self._owner.slot])
            self._upkeep.drop_past_balances_if_due(store, int(self._clock_s()))
            self._upkeep.forget_objects_if_due(store, int(self._clock_s()))
            if time.monotonic() >= self._fold_at_s:
                self._fold(store)
        except (StoreError, OSError) as error:
            logger.warning("%s", error)

    def _fold(self, store: Store) -> None:
        """A few rows of old roll-ups into the summaries; the next ones soon, but not before others had their turn."""
        now_s = int(self._clock_s())
        with storing():
            zone = limits.default_zone(store.connection)
            self._folding = fold.due(store.connection, default_zone=zone, now_s=now_s)
        if self._folding:
            with store.write() as tx:
                fold.step(tx, default_zone=zone, now_s=now_s)
        self._fold_at_s = time.monotonic() + (FOLD_PAUSE_S if self._folding else FOLD_EVERY_S)

    def _recover(self, store: Store, slots: Sequence[int]) -> None:
        """Books what dead owners left open."""
        for slot in slots:
            with self._owner.adopting(slot) as gone:
                while gone and (booked := self._book_orphans(store, slot)):
                    self.stats.count("recovered", booked)
                    self.stats.count("estimated", booked)
                    logger.warning("booked %d calls as estimated that were open when their process died", booked)

    def _book_orphans(self, store: Store, slot: int) -> int:
        try:
            with store.write() as tx:
                found = recovery.orphans(tx, slot)
                if found:
                    self._batch(tx).apply(found, [])
                return len(found)
        except BaseException:
            self._forget()
            raise

    def _close_store(self, store: Store) -> None:
        try:
            store.checkpoint("TRUNCATE")
            store.close()
        except StoreError as error:
            logger.warning("%s", error)
