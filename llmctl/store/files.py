"""Files beside the database: they belong to whom it belongs, whoever runs the command that makes them."""

from __future__ import annotations

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


def last_write_ns(database: Path) -> int:
    """When something was written last, by whomever: the same twice means that there is nothing new."""
    times = [0]
    for path in (database, Path(f"{database}-wal")):
        with suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return max(times)
