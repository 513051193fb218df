"""Files beside the database: they belong to whom it belongs, whoever runs the command that makes them. A lock on one
dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from llmctl.domain.errors import StoreUnavailable


def open_beside(database: Path, suffix: str) -> int:
    """Opens `DATABASE + suffix`, made if it is not there. Raises StoreUnavailable.

    A file that root makes is given to the database's owner, as SQLite does with its own: else the daemon of another
    user could not open it any more.
    """
    path = f"{database}{suffix}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error.strerror}", hint="check its owner and mode") from None
    if os.geteuid() == 0:
        with suppress(FileNotFoundError):  # removed meanwhile: the ledger notices
            owner = database.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def try_lock(database: Path, suffix: str) -> int | None:
    """As `open_beside`, and locked: until it is closed or the process ends. None: another holds it."""
    fd = open_beside(database, suffix)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def said_by_holder(database: Path, suffix: str, bytes_max: int) -> bytes | None:
    """What stands in a file that some process holds locked; None: none does. The file is only read, and not made."""
    try:
        fd = os.open(f"{database}{suffix}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # never taken, or not ours to read
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, bytes_max, 0)
    finally:
        os.close(fd)
    return None


def last_write_ns(database: Path) -> int:
    """When something was written last, by whomever: the same twice means that there is nothing new."""
    times = [0]
    for path in (database, Path(f"{database}-wal")):
        with suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return max(times)
