"""Prompts and answers, where a group's admin wants them kept: JSON lines in a file a day, beside the database and never
in it. Days end by UTC; a file is removed whole when its time is over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmctl.domain.errors import NotFound, StoreUnavailable

from . import ids, upkeep

SUFFIX = ".jsonl"
DIRECTORY_SUFFIX = ".contents"
ROOM_TIMES = 4  # what the ledger needs for itself: nothing is kept there long before no call could be booked


def directory_of(database: Path) -> Path:
    return Path(f"{database}{DIRECTORY_SUFFIX}")


def add(directory: Path, records: Sequence[Mapping[str, object]], now_s: int) -> None:
    """Appends to the day's file: all of them, or none. Raises StoreUnavailable, also where the disk is nearly full."""
    lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / f"{_day(now_s)}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # the workers share it, and what one takes back must be its own
            _append(fd, directory, lines.encode("utf-8", "replace"))
        finally:
            os.close(fd)
    except OSError as error:
        raise StoreUnavailable(f"contents cannot be written to {directory}: {error.strerror}") from None


def _append(fd: int, directory: Path, lines: bytes) -> None:
    end = os.fstat(fd).st_size
    if end and os.pread(fd, 1, end - 1) != b"\n":  # of a process that was killed: what follows is a line of its own
        lines = b"\n" + lines
    free, wanted = upkeep.room(Path(str(directory).removesuffix(DIRECTORY_SUFFIX)))
    if free - len(lines) < ROOM_TIMES * wanted:
        raise StoreUnavailable("the disk is nearly full", hint="make room, or keep them for fewer days")
    left = memoryview(lines)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        os.ftruncate(fd, end)
        raise


def find(directory: Path, call: str) -> dict[str, Any]:
    """What was kept of the call `c_...`. Raises BadInput, NotFound, StoreUnavailable."""
    call_id = ids.parsed(call)
    began = datetime.fromtimestamp(((call_id >> ids.SLOT_BITS) + ids.EPOCH_US) / 1e6, UTC)
    # It was written when it ended: on the same day, or on the next.
    for day in (began, began + timedelta(days=1)):
        for record in _records(directory / f"{day:%Y-%m-%d}{SUFFIX}"):
            if record.get("call") == call:
                return record
    raise NotFound(f"nothing is kept of {call}", hint="its group does not keep contents, or their time is over")


def prune(directory: Path, keep_days: int, now_s: int) -> int:
    """Removes the files of days that are over for longer. Returns how many. Raises StoreUnavailable: when all that can
    be removed is."""
    oldest, removed, kept = _day(now_s - keep_days * 86_400), 0, ""
    try:
        over = sorted(path for path in directory.glob(f"*{SUFFIX}") if path.stem < oldest)
    except OSError as error:
        raise StoreUnavailable(f"contents in {directory} cannot be listed: {error.strerror}") from None
    for path in over:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            kept = kept or f"{path}: {error.strerror}"
        else:
            removed += 1
    if kept:
        raise StoreUnavailable(f"old contents cannot be removed: {kept}")
    return removed


def days(directory: Path) -> list[tuple[str, int]]:
    """The days of which something is kept, and the bytes of their files."""
    return [(path.stem, path.stat().st_size) for path in sorted(directory.glob(f"*{SUFFIX}"))]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # the last line of a process that was killed: it may end within a letter
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnavailable(f"contents in {path} cannot be read: {error.strerror}") from None


def _day(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"
