"""The ledger: hold before a call is sent, settle when it ended. Exactly once, on disk, never above a limit.

Requests never write alone. Those that wait are taken together by the ledger's own thread and written in one
transaction (`batch.py`): the number of statements and of disk syncs does not grow with the number of calls.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from llmctl.domain.errors import LlmctlError, StoreBroken, StoreError, StoreUnavailable

from . import recovery
from .batch import Batch, OpenCall, Outcome
from .booking import Closing, HoldResult, Opening, Refusal
from .database import Store, check_schema, must_exist, storing
from .ids import CallIds
from .interned import Interned
from .owners import Owner
from .refusal_log import RefusalLog

logger = logging.getLogger(__name__)

BATCH_MAX = 512
UNSETTLED_MAX = 100_000  # settles that wait for a database that is not available; beyond it, no new calls
# Each transaction costs a sync and a dozen statements, whatever its size. In a crowd a short pause makes twice the
# batches of half of them; with few calls there is none, and a hold waits for nothing.
CROWD = 12
GATHER_S = 0.002
RETRY_S = 0.2
RECOVER_EVERY_S = 5.0
# The log's file keeps its size when it is begun anew, so what was written is counted: 4,000 entries are about 10 MB.
CHECKPOINT_EVERY = 4_000
TRUNCATE_BYTES = 64 << 20
LOCK_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Waiting:
    """A hold that waits for its batch."""

    opening: Opening
    future: asyncio.Future[HoldResult]


@dataclass(slots=True)
class LedgerStats:
    """Counters since the start of this process, for metrics. Written by the ledger's thread alone."""

    commits: int = 0
    commit_s: float = 0.0
    holds: int = 0
    settles: int = 0
    settled_above_hold: int = 0
    estimated: int = 0
    unpriced: int = 0
    recovered: int = 0


Work = Waiting | Closing | Refusal
_STOP: Sequence[Work] = ()


@dataclass(slots=True)
class _Taken:
    holds: list[Waiting] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, work: Work) -> None:
        if isinstance(work, Waiting):
            self.holds.append(work)
        elif isinstance(work, Closing):
            self.closings.append(work)
        else:
            self.refusals.append(work)

    def __len__(self) -> int:
        return len(self.holds) + len(self.closings) + len(self.refusals)


class Ledger:
    """One per process. `hold`, `settle` and `refuse` belong to the event loop; the rest happens on a thread."""

    def __init__(
        self,
        path: Path,
        *,
        default_zone: str,
        share_percent: int,
        synchronous: str = "FULL",
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._default_zone = default_zone
        self._share_percent = share_percent
        self._synchronous = synchronous
        self._lock_timeout_s = lock_timeout_s
        self._clock_s = clock_s
        self._queue: SimpleQueue[Sequence[Work]] = SimpleQueue()
        self._gathered: list[Work] = []
        self._retry: deque[Closing] = deque()
        self._open: dict[int, OpenCall] = {}
        self._interned = Interned()
        self._refusal_log = RefusalLog()
        self._thread: threading.Thread | None = None
        self._failed: StoreError | None = None
        self._unavailable: StoreError | None = None
        self._busy = False
        self._since_checkpoint = 0
        self._recover_at_s = 0.0
        self.stats = LedgerStats()

    async def start(self) -> None:
        """Opens the file, claims an owner's place and books what a dead process left open. Raises StoreError."""
        self._loop = asyncio.get_running_loop()
        must_exist(self.path)
        self._owner = Owner.claim(self.path)
        started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="ledger", daemon=True)
        self._thread.start()
        try:
            await started
        except BaseException:
            self._owner.release()
            raise

    async def close(self) -> None:
        """Writes everything that waits, then closes the file."""
        if self._thread is None:
            return
        self._flush()
        self._queue.put(_STOP)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._owner.release()

    @property
    def failed(self) -> StoreError | None:
        """Why nothing more can be admitted, for good: a broken file, a newer schema. None while all is well."""
        return self._failed

    @property
    def unavailable(self) -> StoreError | None:
        """Why the last batch could not be written; None once one was."""
        return self._unavailable

    @property
    def open_calls(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> bool:
        """True if nothing waits to be written."""
        return not self._gathered and self._queue.empty() and not self._retry and not self._busy

    @property
    def held_nano_usd(self) -> int:
        return sum(call.held_nano for call in list(self._open.values()))

    def new_call_id(self) -> int:
        return self._ids.next(int(self._clock_s() * 1_000_000))

    async def hold(self, opening: Opening) -> HoldResult:
        """Checks every limit and holds the call's worst case: one transaction, on disk when this returns.

        None: the settings changed since the caller was read. Raises StoreUnavailable, StoreBroken.
        """
        self._check()
        future: asyncio.Future[HoldResult] = self._loop.create_future()
        self._put(Waiting(opening, future))
        return await future

    def settle(self, closing: Closing) -> None:
        """Books the end of a call. Never blocks, never fails; written with the next batch, retried until it is."""
        self._put(closing)

    def refuse(self, refusal: Refusal) -> None:
        """Notes a call that was refused. Best effort: it is dropped when the database is not available."""
        self._put(refusal)

    def _put(self, work: Work) -> None:
        """Work goes to the thread once for each round of the event loop: woken at the first piece, it would fight for
        the interpreter with the handlers that bring the others, and write smaller batches."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(work)

    def _flush(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed
        if len(self._retry) > UNSETTLED_MAX:
            raise StoreUnavailable("too many calls wait to be settled", hint="check disk space and permissions")

    # ---- the ledger's thread ----

    def _run(self, started: asyncio.Future[None]) -> None:
        try:
            store = Store(self.path, synchronous=self._synchronous, lock_timeout_s=self._lock_timeout_s)
        except LlmctlError as error:
            self._loop.call_soon_threadsafe(_fail, started, error)
            return
        try:
            with storing():
                self._begin(store)
        except LlmctlError as error:
            store.close()
            self._loop.call_soon_threadsafe(_fail, started, error)
            return
        self._loop.call_soon_threadsafe(_succeed, started, None)
        try:
            self._serve(store)
        finally:
            self._close_store(store)

    def _begin(self, store: Store) -> None:
        (last_id,) = store.connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()
        self._ids = CallIds(self._owner.slot, last_id)
        with store.write() as tx:
            (zone,) = tx.execute("SELECT timezone FROM settings").fetchone()
            if zone != self._default_zone:
                # Balances of the old zone's windows would miss what is settled from now on.
                tx.execute("DELETE FROM balances")
                tx.execute("UPDATE settings SET timezone = ?", (self._default_zone,))
        self._recover(store, [self._owner.slot])

    def _serve(self, store: Store) -> None:
        while True:
            taken = self._take()
            if taken is None:
                break
            if len(taken):
                self._commit(store, taken)
            self._busy = False
            if len(taken) >= CROWD:
                time.sleep(GATHER_S)
            self._care(store)
        # Whatever still waits is written before the end; a database that stays unavailable gets some more tries.
        deadline_s = time.monotonic() + 10 * RETRY_S
        while self._retry and time.monotonic() < deadline_s and self._failed is None:
            self._commit(store, _Taken())
            time.sleep(RETRY_S if self._retry else 0)
        if self._retry:
            logger.error("%d calls could not be settled: the next start books them as estimated", len(self._retry))

    def _take(self) -> _Taken | None:
        """What waits, at least one if anything comes in time; None: stop."""
        taken = _Taken()
        try:
            works = self._queue.get(timeout=RETRY_S if self._retry else RECOVER_EVERY_S)
            self._busy = True
            while works:
                for work in works:
                    taken.add(work)
                if len(taken) >= BATCH_MAX:
                    return taken
                works = self._queue.get_nowait()
        except Empty:
            if not len(taken) and self._retry:
                self._queue_retry(taken)
            return taken
        if len(taken):
            self._queue.put(_STOP)
            return taken
        return None

    def _queue_retry(self, taken: _Taken) -> None:
        while self._retry and len(taken) < BATCH_MAX:
            taken.closings.append(self._retry.popleft())

    def _commit(self, store: Store, taken: _Taken) -> None:
        self._queue_retry(taken)
        began_s = time.perf_counter()
        try:
            outcome = self._write(store, taken)
        except StoreUnavailable as error:
            self._not_written(taken, error)
            return
        except StoreError as error:
            if isinstance(error, StoreBroken) or self._failed is not None or len(taken) == 1:
                self._give_up(taken, error)
            else:
                self._one_by_one(store, taken)
            return
        except Exception as error:
            logger.exception("a batch of %d failed", len(taken))
            if len(taken) == 1:
                self._give_up(taken, StoreError(f"the ledger failed: {type(error).__name__}"))
            else:
                self._one_by_one(store, taken)
            return
        self._unavailable = None
        self._since_checkpoint += len(taken)
        self.stats.commits += 1
        self.stats.commit_s += time.perf_counter() - began_s
        self._written(taken, outcome)

    def _write(self, store: Store, taken: _Taken) -> Outcome:
        """One transaction for all that was taken. Nothing outside the file changes here."""
        try:
            with store.write() as tx:
                self._check_schema(tx)
                batch = self._batch(tx)
                closings = [(self._open[c.call_id], c) for c in taken.closings if c.call_id in self._open]
                outcome = batch.apply(closings, [waiting.opening for waiting in taken.holds])
                if taken.refusals:
                    self._refusal_log.write(tx, self._interned, taken.refusals)
                return outcome
        except BaseException:
            self._interned.forget()
            raise

    def _batch(self, tx: sqlite3.Connection) -> Batch:
        return Batch(
            tx,
            self._interned,
            owner=self._owner.slot,
            default_zone=self._default_zone,
            share_percent=self._share_percent,
            now_s=int(self._clock_s()),
        )

    def _check_schema(self, tx: sqlite3.Connection) -> None:
        try:
            check_schema(tx)
        except StoreError as error:
            self._failed = error
            raise

    def _written(self, taken: _Taken, outcome: Outcome) -> None:
        stats = self.stats
        for call in outcome.opened:
            self._open[call.call_id] = call
        for closing in taken.closings:
            self._open.pop(closing.call_id, None)
        stats.holds += len(outcome.opened)
        stats.settles += len(outcome.closed)
        stats.settled_above_hold += outcome.above_hold
        stats.estimated += sum(closing.usage_source == "estimated" for closing in outcome.closed)
        stats.unpriced += sum(closing.cost_nano_usd is None for closing in outcome.closed)
        if taken.holds:
            results = list(zip(taken.holds, outcome.holds, strict=True))
            self._loop.call_soon_threadsafe(self._deliver, results)

    def _not_written(self, taken: _Taken, error: StoreError) -> None:
        """Nothing of this batch happened: holds are told so, settles wait for better times."""
        self._unavailable = error
        self._retry.extend(taken.closings)
        if taken.holds:
            self._loop.call_soon_threadsafe(_fail_all, taken.holds, error)
        logger.warning("%s", error)

    def _give_up(self, taken: _Taken, error: StoreError) -> None:
        """A broken database, or one item that no transaction takes: it fails alone, and is not repeated for ever."""
        if isinstance(error, StoreBroken):
            self._failed = error
            self._retry.extend(taken.closings)
        for closing in taken.closings:
            logger.error("call %d could not be settled: %s", closing.call_id, error)
        if taken.holds:
            self._loop.call_soon_threadsafe(_fail_all, taken.holds, error)

    def _one_by_one(self, store: Store, taken: _Taken) -> None:
        for closing in taken.closings:
            self._commit(store, _Taken(closings=[closing]))
        for waiting in taken.holds:
            self._commit(store, _Taken(holds=[waiting]))
        for refusal in taken.refusals:
            self._commit(store, _Taken(refusals=[refusal]))

    def _deliver(self, results: Sequence[tuple[Waiting, HoldResult]]) -> None:
        for waiting, result in results:
            if not waiting.future.done():
                waiting.future.set_result(result)
            elif waiting.opening.call_id in self._open:
                # The waiter vanished: nothing was sent, nothing may stay held.
                self.settle(Closing(waiting.opening.call_id, "released", error="abandoned"))

    # ---- care of the file, between batches ----

    def _care(self, store: Store) -> None:
        try:
            if self._since_checkpoint >= CHECKPOINT_EVERY:
                store.checkpoint("TRUNCATE" if store.wal_bytes() > TRUNCATE_BYTES else "PASSIVE")
                self._since_checkpoint = 0
            if time.monotonic() >= self._recover_at_s:
                self._recover_at_s = time.monotonic() + RECOVER_EVERY_S
                with storing():
                    owners = recovery.open_owners(store.connection)
                self._recover(store, [slot for slot in owners if slot != self._owner.slot])
        except StoreError as error:
            logger.warning("%s", error)

    def _recover(self, store: Store, slots: Sequence[int]) -> None:
        """Books what dead owners left open."""
        for slot in slots:
            with self._owner.adopting(slot) as gone:
                while gone and (booked := self._book_orphans(store, slot)):
                    self.stats.recovered += booked
                    self.stats.estimated += booked
                    logger.warning("booked %d calls as estimated that were open when their process died", booked)

    def _book_orphans(self, store: Store, slot: int) -> int:
        try:
            with store.write() as tx:
                found = recovery.orphans(tx, slot)
                if found:
                    self._batch(tx).apply(found, [])
                return len(found)
        except BaseException:
            self._interned.forget()
            raise

    def _close_store(self, store: Store) -> None:
        try:
            store.checkpoint("TRUNCATE")
            store.close()
        except StoreError as error:
            logger.warning("%s", error)


def _succeed(future: asyncio.Future[None], result: None) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _fail_all(holds: Sequence[Waiting], error: StoreError) -> None:
    for waiting in holds:
        if not waiting.future.done():
            waiting.future.set_exception(error)
