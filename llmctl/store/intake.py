"""What waits for the ledger's thread, and how much of it one transaction takes on."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from msgspec import Struct

from .booking import Closing, Deferral, HoldResult, Opening, Refusal

BATCH_MAX = 512
# Settles wait this long for others to share their transaction with; a hold waits for nothing, and for no settle either
# while there are few: what each statement costs is shared by all in it, and a client waits for the hold alone.
SETTLE_WAIT_S = 0.005
# After a batch of this size the next is given time to gather as many: what a transaction costs is shared by all in it,
# and a crowd that keeps the interpreter busy gets on faster while the ledger does not ask for its share.
CROWD = 8
CROWD_WAIT_S = 0.001


class Waiting(Struct, eq=False):
    """A hold that waits for its batch."""

    opening: Opening
    future: asyncio.Future[HoldResult]


Ending = Closing | Deferral
Work = Waiting | Ending | Refusal
_STOP: Sequence[Work] = ()


@dataclass(slots=True)
class Taken:
    """What one transaction takes on."""

    holds: list[Waiting] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    deferrals: list[Deferral] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, work: Work) -> None:
        if isinstance(work, Waiting):
            self.holds.append(work)
        elif isinstance(work, Closing):
            self.closings.append(work)
        elif isinstance(work, Deferral):
            self.deferrals.append(work)
        else:
            self.refusals.append(work)

    @property
    def endings(self) -> list[Ending]:
        """What must be written, however long it takes."""
        return [*self.deferrals, *self.closings]

    def __len__(self) -> int:
        return len(self.holds) + len(self.closings) + len(self.deferrals) + len(self.refusals)


class Intake:
    """The event loop puts work in, and asks whether there is some; all else is the thread's. `may_wait`: whether a
    settle can be kept back from a transaction with holds."""

    def __init__(self, may_wait: Callable[[Closing], bool]) -> None:
        self._may_wait = may_wait
        self._queue: SimpleQueue[Sequence[Work]] = SimpleQueue()
        self._kept_back: list[Closing] = []  # settles that have time, until `_settle_by_s`
        self._settle_by_s = 0.0
        self._crowded = False  # the last transaction was large
        self._busy = False
        self.unsettled: deque[Ending] = deque()  # what waits for a database that is not available

    def put(self, works: Sequence[Work]) -> None:
        self._queue.put(works)

    def stop(self) -> None:
        """`take` ends when it has given out all that was put in before."""
        self._queue.put(_STOP)

    @property
    def idle(self) -> bool:
        """True if nothing waits, and nothing that was taken is being written."""
        return self._queue.empty() and not self.unsettled and not self._kept_back and not self._busy

    def take(self, idle_s: float) -> Taken | None:
        """What waits, at least one if anything comes in that time; None: stop."""
        taken, count = Taken(closings=self._kept_back), len(self._kept_back)
        self._busy, self._kept_back = count > 0, []
        try:
            while count < BATCH_MAX:
                works = self._more(taken) if count else self._queue.get(timeout=idle_s)
                self._busy = True
                if not works:
                    if not count:
                        return None
                    self.stop()
                    return taken
                if not count:
                    self._settle_by_s = time.monotonic() + SETTLE_WAIT_S
                for work in works:
                    taken.add(work)
                count += len(works)
        except Empty:
            if not count and self.unsettled:
                self.add_unsettled(taken)
        if taken.holds and count < CROWD and not self._crowded and time.monotonic() < self._settle_by_s:
            self._keep_back(taken)
        return taken

    def written(self, count: int) -> None:
        """So many were taken and are dealt with."""
        self._busy = False
        self._crowded = count >= CROWD

    def let_gather(self) -> None:
        if self._crowded:
            time.sleep(CROWD_WAIT_S)

    def add_unsettled(self, taken: Taken) -> None:
        while self.unsettled and len(taken) < BATCH_MAX:
            taken.add(self.unsettled.popleft())

    def add_kept_back(self, taken: Taken) -> None:
        taken.closings += self._kept_back
        self._kept_back = []

    @property
    def keeps_back(self) -> bool:
        return bool(self._kept_back)

    def drain(self) -> list[Waiting]:
        """The holds that nobody will take on."""
        holds: list[Waiting] = []
        while not self._queue.empty():
            holds += [work for work in self._queue.get() if isinstance(work, Waiting)]
        return holds

    def _more(self, taken: Taken) -> Sequence[Work]:
        """Raises Empty: nothing that these would wait for."""
        wait_s = 0.0 if taken.holds else self._settle_by_s - time.monotonic()
        return self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()

    def _keep_back(self, taken: Taken) -> None:
        if all(map(self._may_wait, taken.closings)):
            self._kept_back, taken.closings = taken.closings, []
