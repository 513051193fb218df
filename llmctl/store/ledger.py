"""The ledger: hold before a call is sent, settle when it ended. Exactly once, on disk, never above a limit.

Requests never write alone. Those that wait are taken together by the ledger's own thread (`writer.py`) and written in
one transaction (`batch.py`): the number of statements and of disk syncs does not grow with the number of calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmctl.domain.errors import LlmctlError, StoreError, StoreUnavailable

from . import filesystem
from .booking import Closing, Deferral, HoldResult, Opening, Refusal
from .database import must_exist
from .intake import Waiting, Work
from .owners import Owner
from .writer import Delivered, LedgerStats, Writer

UNSETTLED_MAX = 100_000  # settles that wait for a database that is not available; beyond it, no new calls
LOCK_TIMEOUT_S = 2.0  # a client waits for its 503 no longer than twice this


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
        stats: LedgerStats | None = None,
    ) -> None:
        self.path = path
        self._default_zone = default_zone
        self._share_percent = share_percent
        self._synchronous = synchronous
        self._lock_timeout_s = lock_timeout_s
        self._clock_s = clock_s
        self._stats = stats or LedgerStats()
        self._gathered: list[Work] = []
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Opens the file, claims an owner's place and books what a dead process left open. Raises StoreError."""
        self._loop = asyncio.get_running_loop()
        must_exist(self.path)
        filesystem.check(self.path)
        self._owner = Owner.claim(self.path)
        self._writer = Writer(
            self.path,
            self._owner,
            default_zone=self._default_zone,
            share_percent=self._share_percent,
            synchronous=self._synchronous,
            lock_timeout_s=self._lock_timeout_s,
            clock_s=self._clock_s,
            deliver=lambda results: self._soon(self._deliver, results),
            stats=self._stats,
        )
        started: asyncio.Future[LlmctlError | None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._writer.run,
            args=(lambda error: self._soon(_resolve, started, error),),
            name="ledger",
            daemon=True,
        )
        self._thread.start()
        error = await started
        if error is not None:
            self._owner.release()
            self._thread = None
            raise error

    async def close(self) -> None:
        """Writes everything that waits, then closes the file."""
        if self._thread is None:
            return
        self._flush()
        self._writer.intake.stop()
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._owner.release()

    def configure(self, *, share_percent: int) -> None:
        """For holds from now on."""
        self._writer.share_percent = share_percent

    @property
    def failed(self) -> StoreError | None:
        """Why nothing more can be admitted, for good: a broken file, a newer schema. None while all is well."""
        return self._writer.failed

    @property
    def unavailable(self) -> StoreError | None:
        """Why the last batch could not be written; None once one was."""
        return self._writer.unavailable

    @property
    def stats(self) -> LedgerStats:
        return self._writer.stats

    @property
    def open_calls(self) -> int:
        return len(self._writer.open)

    @property
    def idle(self) -> bool:
        """True if nothing waits to be written."""
        return not self._gathered and self._writer.intake.idle

    @property
    def held_nano_usd(self) -> int:
        return sum(call.held_nano for call in list(self._writer.open.values()))

    def new_call_id(self) -> int:
        return self._writer.ids.next(int(self._clock_s() * 1_000_000))

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

    def defer(self, deferral: Deferral) -> None:
        """The call goes on at the provider: whoever learns its usage settles it. As sure as a settle."""
        self._put(deferral)

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
            self._writer.intake.put(self._gathered)
            self._gathered = []

    def _check(self) -> None:
        if self._writer.failed is not None:
            raise self._writer.failed
        if len(self._writer.intake.unsettled) > UNSETTLED_MAX:
            raise StoreUnavailable("too many calls wait to be settled", hint="check disk space and permissions")

    def _deliver(self, results: Delivered) -> None:
        for waiting, result in results:
            if not waiting.future.done():
                if isinstance(result, StoreError):
                    waiting.future.set_exception(result)
                else:
                    waiting.future.set_result(result)
            elif waiting.opening.call_id in self._writer.open:
                # The waiter vanished: nothing was sent, nothing may stay held.
                self.settle(Closing(waiting.opening.call_id, "released", error="abandoned"))

    def _soon(self, act: Callable[..., None], *args: object) -> None:
        """On the event loop, from the thread; nothing where the loop has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act, *args)


def _resolve(future: asyncio.Future[LlmctlError | None], error: LlmctlError | None) -> None:
    if not future.done():
        future.set_result(error)
