"""Care of the file between batches: the write-ahead log is cut down, room on the disk is watched, balances of windows
that are over are dropped, and objects that their providers have forgotten.

A reader that stays keeps the log from being cut down: it grows by some 10 kB a call, and only the disk bounds it. So
new calls are turned away while there is still room: for booking those that are open, and for the file to take what is
in the log as soon as the reader goes. On a disk without any room that would never end by itself.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from llmctl.domain.errors import StoreUnavailable

from . import balances, objects
from .balances import Row
from .database import UNLIMITED, Checkpoint, Store, storing, wal_bytes

logger = logging.getLogger(__name__)

# The log's file keeps its size when it is begun anew, so what was written is counted: 4,000 entries are about 10 MB.
CHECKPOINT_EVERY = 4_000
TRUNCATE_BYTES = 64 << 20
CUT_BYTES = 8 << 20  # at once: to give back 8 MB takes 4 ms, 100 MB take 50
TRUNCATE_AGAIN_S = 30.0  # after readers did not let it happen: it costs all who write a tenth of a second
TRUNCATE_AGAIN_SHORT_S = 1.0  # the same while there is no room: nobody is let in anyway
RESERVE_BYTES = 32 << 20  # of a small disk a sixteenth
PLENTY_BYTES = 4 << 30
PLENTY_S = 0.1  # where there is plenty, nobody looks again for so long
LOG_SHARE = 8  # what the log adds to the file: most of it is the same pages again and again
# Each caller with a limit per minute leaves a balance for each slot: at 3,000 calls a second as many begin.
PAST_ROWS = 1_000  # looked at in one step: some milliseconds
PAST_EVERY_S = 5.0
PAST_PAUSE_S = 0.1  # while there are more
FORGET_EVERY_S = 600.0
FORGET_PAUSE_S = 1.0  # while there is more


def room(database: Path) -> tuple[int, int]:
    """The bytes that are free on the disk of a database, and those that have to be. Raises OSError."""
    found = os.statvfs(database.parent)
    free, reserve = found.f_bavail * found.f_frsize, min(RESERVE_BYTES, found.f_blocks * found.f_frsize // 16)
    if free > PLENTY_BYTES:  # one question to the system less
        return free, reserve
    return free, reserve + wal_bytes(database) // LOG_SHARE


class Upkeep:
    """Of one ledger's store, on its thread."""

    def __init__(self) -> None:
        self._since_checkpoint = 0
        self._last = Checkpoint(0, 0, 0)
        self._truncate_at_s = 0.0
        self._told_bytes = TRUNCATE_BYTES
        self._past_from: Row = (0, 0, 0)
        self._past_at_s = 0.0
        self._forget_at_s = 0.0
        self._look_at_s = 0.0
        self.short: StoreUnavailable | None = None  # of room

    def wrote(self, entries: int) -> None:
        self._since_checkpoint += entries

    def look_for_room(self, store: Store) -> StoreUnavailable | None:
        """Why no call may start, if the disk is nearly full: those that are open are booked all the same."""
        if time.monotonic() < self._look_at_s:
            return None
        try:
            free, wanted = room(store.path)
        except OSError:  # what is wrong there, writing tells
            return self.short
        if free < wanted:
            if self.short is None:
                logger.warning("no new calls: the disk has %d kB left of %d kB needed", free >> 10, wanted >> 10)
            self.short = StoreUnavailable("the disk is nearly full", hint="make room")
            return self.short
        if self.short is not None:
            logger.warning("there is room on the disk again")
        self.short = None
        if free > PLENTY_BYTES:
            self._look_at_s = time.monotonic() + PLENTY_S
        return None

    def checkpoint_if_due(self, store: Store) -> None:
        now_s = time.monotonic()
        if self.short is not None and now_s >= self._truncate_at_s:
            self._truncate_at_s = now_s + TRUNCATE_AGAIN_SHORT_S
            store.checkpoint("TRUNCATE")
            self.look_for_room(store)
        elif self._since_checkpoint >= CHECKPOINT_EVERY:
            self._since_checkpoint = 0
            self._checkpoint(store, now_s)

    def _checkpoint(self, store: Store, now_s: float) -> None:
        before, found = self._last, store.checkpoint()
        self._last = found
        size = store.wal_bytes()
        # Where all of it is in the file, the next write begins it anew.
        store.cut_log_to(UNLIMITED if found.is_partial else max(TRUNCATE_BYTES, size - CUT_BYTES))
        if size <= TRUNCATE_BYTES or not found.is_partial:
            self._told_bytes = TRUNCATE_BYTES
            return
        # Who was in the way the last time has gone: then whoever is now goes soon, and is waited for. A backup stays.
        readers_pass = before.is_partial and found.moved >= before.frames
        if readers_pass and now_s >= self._truncate_at_s:
            if not store.checkpoint("TRUNCATE").busy:
                return
            self._truncate_at_s = now_s + TRUNCATE_AGAIN_S
        if size > 2 * self._told_bytes:
            self._told_bytes = size
            logger.warning(
                "the database's log grew to %d MB: somebody reads without end (a shell with an open transaction?)",
                size >> 20,
            )

    def drop_past_balances_if_due(self, store: Store, now_s: int) -> None:
        """A few of them, and soon the next ones."""
        if time.monotonic() < self._past_at_s:
            return
        with storing():
            rows = balances.some(store.connection, self._past_from, PAST_ROWS)
        more = len(rows) == PAST_ROWS
        self._past_from = rows[-1][:3] if more else (0, 0, 0)
        if past := balances.past(rows, now_s):
            with store.write() as tx:
                balances.drop(tx, past)
        self._past_at_s = time.monotonic() + (PAST_PAUSE_S if more else PAST_EVERY_S)

    def forget_objects_if_due(self, store: Store, now_s: int) -> None:
        if time.monotonic() < self._forget_at_s:
            return
        more = False
        with storing():
            some = objects.has_old(store.connection, now_s)
        if some:
            with store.write() as tx:
                more = objects.forget_old(tx, now_s)
        self._forget_at_s = time.monotonic() + (FORGET_PAUSE_S if more else FORGET_EVERY_S)
