"""Which daemons serve a database: each holds a `flock` on a file beside it that says how to reach it, and what became
of the last reload. The lock dies with the process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmctl.domain.errors import StoreUnavailable

from .files import said_by_holder, try_lock

DAEMONS_MAX = 16  # of one database: a blue and a green one, and some more
BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that lives. `reloads`: how many ended, well or not; `error`: why the last one changed nothing. `urls`,
    `admin` (host and port): where it listens, which no reload changes; empty: it did not say (an older version)."""

    pid: int
    since_s: int
    config: str
    reloads: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()  # what the last reload could not change
    urls: tuple[str, ...] = ()
    admin: str = ""


class Serving:
    """This daemon's own place. Belongs to the process that the signals go to."""

    def __init__(self, fd: int, daemon: Daemon) -> None:
        self._fd = fd
        self._daemon = daemon
        self._write()

    @classmethod
    def claim(cls, database: Path, config: Path, *, urls: Sequence[str] = (), admin: str = "") -> Serving:
        """Raises StoreUnavailable when all places are taken."""
        for number in range(DAEMONS_MAX):
            fd = try_lock(database, _suffix(number))
            if fd is not None:
                daemon = Daemon(os.getpid(), int(time.time()), str(config.absolute()), urls=tuple(urls), admin=admin)
                return cls(fd, daemon)
        raise StoreUnavailable(f"{DAEMONS_MAX} daemons serve {database} already", hint="stop one of them")

    def reloaded(self, *, error: str = "", notes: Sequence[str] = ()) -> None:
        """What became of a reload, for whoever asked for it."""
        self._daemon = replace(self._daemon, reloads=self._daemon.reloads + 1, error=error, notes=tuple(notes))
        self._write()

    def release(self) -> None:
        """Also in a child: the place stays with its parent."""
        os.close(self._fd)

    def _write(self) -> None:
        text = json.dumps(asdict(self._daemon)).encode()
        os.pwrite(self._fd, text + b"\n", 0)  # one write: a reader sees the old or the new first line
        os.ftruncate(self._fd, len(text) + 1)


def daemons(database: Path) -> list[Daemon]:
    """Those that live, seen from outside: their files are only read."""
    found = []
    for number in range(DAEMONS_MAX):
        said = said_by_holder(database, _suffix(number), BYTES_MAX)
        if said is not None and (daemon := _read(said)) is not None:
            found.append(daemon)
    return found


def _suffix(number: int) -> str:
    return f".daemon-{number}"


def _read(said: bytes) -> Daemon | None:
    try:
        values = json.loads(said.partition(b"\n")[0])
        return Daemon(**values | {name: tuple(values.get(name, ())) for name in ("notes", "urls")})
    except (ValueError, TypeError, KeyError):  # it has not said anything yet
        return None
