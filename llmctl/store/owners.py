"""Which process has a call open. Each holds a `flock` on a file of its own: the lock dies with the process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmctl.domain.errors import StoreUnavailable

from .files import said_by_holder, try_lock
from .ids import SLOT_BITS

BYTES_MAX = 100  # of what a process says of itself


class Owner:
    """This process's place among those that serve one database."""

    def __init__(self, database: Path, slot: int, fd: int) -> None:
        self._database = database
        self.slot = slot
        self._fd = fd

    @classmethod
    def claim(cls, database: Path) -> Owner:
        """The first free place. Raises StoreUnavailable when all are taken."""
        for slot in range(1 << SLOT_BITS):
            fd = try_lock(database, _suffix(slot))
            if fd is not None:
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()} {int(time.time())}\n".encode(), 0)
                return cls(database, slot, fd)
        raise StoreUnavailable(f"{1 << SLOT_BITS} processes serve {database} already", hint="stop one of them")

    @contextmanager
    def adopting(self, slot: int) -> Iterator[bool]:
        """True if no living process has that place; none can take it until the block ends."""
        if slot == self.slot:
            yield True
            return
        fd = try_lock(self._database, _suffix(slot))
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def release(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Living:
    """A process that serves a database now. 0: it did not say (an older version)."""

    pid: int
    since_s: int


def living(database: Path) -> list[Living]:
    """Who serves this database, seen from outside: their files are only read, and none is made."""
    found = []
    for slot in range(1 << SLOT_BITS):
        said = said_by_holder(database, _suffix(slot), BYTES_MAX)
        if said is not None:
            numbers = [int(part) for part in said.split() if part.isdigit()]
            found.append(Living(*numbers) if len(numbers) == len(Living.__slots__) else Living(0, 0))
    return found


def _suffix(slot: int) -> str:
    return f".owner-{slot}"
