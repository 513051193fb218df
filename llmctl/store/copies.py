"""Copies of the database: made while it is in use, checked before they count, put back in one step."""

from __future__ import annotations

import fcntl
import glob
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmctl.domain.errors import (
    AlreadyExists,
    LlmctlError,
    NotFound,
    SchemaMismatch,
    StoreBroken,
    StoreError,
    StoreUnavailable,
)

from . import audit, owners
from .audit import Author
from .carried import Carried, carry_over
from .database import LOCK_TIMEOUT_S, Store, WriteLock, migrate_file, must_exist, schema_of, schema_version, storing
from .files import open_beside

COPY_PAGES = 512  # 2 MB
COPY_PAUSE_S = 0.005
UNFINISHED = ".unfinished"
ABANDONED_S = 60.0
BACKED_UP = ".backed-up"  # a file whose time is that of the last backup


def backup(source: Path, target: Path) -> int:
    """A copy of the database as it is at this moment, whoever writes meanwhile; checked, in one file that only its
    owner may read. Returns its size. Raises AlreadyExists, StoreError."""
    must_exist(source)
    with _finished(target) as unfinished:
        _copy(source, unfinished)
        check(unfinished)
    with suppress(StoreUnavailable):  # who may only read it may back it up, and leaves no note
        os.close(open_beside(source, BACKED_UP))
        os.utime(f"{source}{BACKED_UP}")
    return target.stat().st_size


def last_backup_s(database: Path) -> float | None:
    """When a backup was made last; None: never, or nobody could note it."""
    try:
        return Path(f"{database}{BACKED_UP}").stat().st_mtime
    except OSError:
        return None


def check(path: Path) -> int:
    """The schema of a file that is a sound database of ours. Raises NotFound, StoreBroken, SchemaMismatch."""
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="check the path")
    schema = schema_of(path)
    if schema > schema_version():
        raise SchemaMismatch(
            f"{path} has schema {schema}, this llmctl speaks {schema_version()}", hint="use a newer llmctl"
        )
    with storing(), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        faults = [text for (text,) in connection.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise StoreBroken(f"{path} is damaged: {faults[0]}", hint="use another copy")
    return schema


@dataclass(frozen=True, slots=True)
class Restored:
    """`kept`: where the replaced database is now, if there was one. `carried`: what of it counts on; None where it
    could not be read."""

    kept: Path | None
    carried: Carried | None


def restore(source: Path, database: Path, author: Author) -> Restored:
    """Puts a copy in the place of the database, in one step; what was revoked since stays so. Raises LlmctlError
    (a gateway runs), NotFound, StoreError: then nothing has changed."""
    check(source)
    with _alone(database), _unfinished(database) as copy:
        _copy(source, copy.path)
        migrate_file(copy.path)
        carried = carry_over(copy.path, database) if database.exists() else Carried()
        with closing(Store(copy.path)) as store, store.write() as tx:
            facts = {"from": str(source.absolute())} | (carried.facts if carried else {})
            audit.record(tx, author, "restore", str(database), after=facts)
        _drop_log(copy.path)
        if not any(file.exists() for file in _parts(database)):
            copy.publish(database)
            return Restored(None, carried)
        moment = datetime.fromtimestamp(author.at_s, UTC)
        name = f"before-restore-{moment:%Y%m%dT%H%M%SZ}"
        kept = _kept_if_sound(database, name)
        if kept is None:
            kept = _moved(database, name)
            copy.publish(database)
        else:
            try:
                _fill(database, copy.path)
            except StoreError:
                kept.unlink()
                raise
    return Restored(kept, carried)


def migrate(database: Path, author: Author) -> tuple[int, Path | None]:
    """Brings an older database to this program's schema. Returns the schema that it had, and where it is kept as it
    was. Raises LlmctlError (a gateway runs), SchemaMismatch (a newer one), StoreError: then nothing has changed."""
    must_exist(database)
    before = check(database)
    if before == schema_version():
        return before, None
    with _alone(database):
        kept = _kept(database, f"schema-{before}")
        migrate_file(database)
    with closing(Store(database)) as store, store.write() as tx:
        facts: dict[str, object] = {"schema": before}
        audit.record(tx, author, "migrate", str(database), before=facts, after={"schema": schema_version()})
    return before, kept


def _kept(database: Path, name: str) -> Path:
    must_exist(database)
    kept = _free(database, name)
    with _finished(kept) as unfinished:
        _copy(database, unfinished)
    return kept


def _kept_if_sound(database: Path, name: str) -> Path | None:
    try:
        return _kept(database, name)
    except (NotFound, StoreBroken):
        return None


def _fill(database: Path, source: Path) -> None:
    """All pages of `source` into the database, in one transaction like any other: who reads or waits for the lock
    meanwhile has this file open, and would go on with what was taken away if another took its name. Raises StoreError:
    then nothing has changed."""
    with (
        storing(),
        closing(sqlite3.connect(source, isolation_level=None)) as reading,
        closing(sqlite3.connect(database, isolation_level=None, timeout=LOCK_TIMEOUT_S)) as writing,
    ):
        (pages,), (wanted,) = (one.execute("PRAGMA page_size").fetchone() for one in (reading, writing))
        if pages != wanted:  # who has the database open cannot change its own
            reading.execute(f"PRAGMA page_size = {wanted}")
            reading.execute("VACUUM")
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("PRAGMA synchronous = FULL")
        writing.execute("PRAGMA wal_autocheckpoint = 0")
        reading.backup(writing)
        with suppress(sqlite3.Error):  # as far as readers and the disk let it: it is done already
            writing.execute("PRAGMA wal_checkpoint").fetchall()


def _moved(database: Path, name: str) -> Path:
    """A damaged one is kept as it is, with its log, or what is left of it: somebody may still read something out of
    it, and SQLite would take the log for the new file's."""
    kept = zip(_parts(database), _parts(_free(database, name)), strict=True)
    there = [(old, new) for old, new in kept if old.exists()]
    for old, new in there:
        old.rename(new)
    return there[0][1]


def _parts(database: Path) -> list[Path]:
    return [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")]


def _free(database: Path, name: str) -> Path:
    kept = Path(f"{database}.{name}")
    number = 1
    while any(file.exists() for file in _parts(kept)):
        number += 1
        kept = Path(f"{database}.{name}-{number}")
    return kept


def _copy(source: Path, target: Path) -> None:
    """From one snapshot, which stops no writer. Piece by piece, each on disk before the next: else the ledger's own
    flushes would wait for all that the copy has written (measured: half a second)."""
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        storing(),
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reading,
        closing(sqlite3.connect(target)) as writing,
        target.open("rb") as copied,
    ):

        def on_disk(_status: int, _remaining: int, _pages: int) -> None:
            os.fdatasync(copied.fileno())
            time.sleep(COPY_PAUSE_S)

        reading.execute("BEGIN")  # a copy in pieces begins anew with each write, but for this snapshot
        reading.execute("SELECT 1 FROM sqlite_schema").fetchone()
        writing.execute("PRAGMA synchronous = OFF")
        reading.backup(writing, pages=COPY_PAGES, progress=on_disk)
        writing.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that has not got its name yet."""

    path: Path
    fd: int

    def publish(self, target: Path) -> None:
        """Gives it that name, in one step, and on disk. Raises AlreadyExists, StoreUnavailable."""
        try:
            os.fsync(self.fd)
            os.link(self.path, target)  # fails, where replacing would not, if somebody was faster
            _sync_directory(target)
        except FileExistsError:
            raise AlreadyExists(f"{target} exists already", hint="choose another name, or remove it") from None
        except OSError as error:
            raise StoreUnavailable(f"cannot write {target}: {error.strerror}", hint="check disk space") from None


@contextmanager
def _finished(target: Path) -> Iterator[Path]:
    """A file to write beside `target`, which becomes `target` when the block ends well."""
    for there in _parts(target):  # SQLite would take a log that is left for the new file's
        if there.exists():
            raise AlreadyExists(f"{there} exists already", hint="choose another name, or remove it")
    with _unfinished(target) as copy:
        yield copy.path
        copy.publish(target)


@contextmanager
def _unfinished(target: Path) -> Iterator[Unfinished]:
    """A file beside `target`, readable by its owner alone; gone when the block ends, but for what was published."""
    place = target.absolute().parent
    prefix = f".{target.name}."
    _remove_abandoned(place, prefix)
    try:
        fd, name = tempfile.mkstemp(prefix=prefix, suffix=UNFINISHED, dir=place)  # mode 0600
    except OSError as error:
        raise StoreUnavailable(f"cannot write beside {target}: {error.strerror}", hint="choose another place") from None
    unfinished = Path(name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # as long as this process lives
        if os.geteuid() == 0 and target.exists():
            owner = target.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        yield Unfinished(unfinished, fd)
    except OSError as error:
        raise StoreUnavailable(f"cannot write beside {target}: {error.strerror}", hint="check disk space") from None
    finally:
        _remove(unfinished)
        os.close(fd)


def _remove_abandoned(place: Path, prefix: str) -> None:
    """What those left that were killed."""
    for path in place.glob(f"{glob.escape(prefix)}*{UNFINISHED}"):
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - path.stat().st_mtime > ABANDONED_S:  # one that was just made is not locked yet
                    _remove(path)
            finally:
                os.close(fd)


def _remove(unfinished: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm", ".lock"):
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Nobody else serves or writes, also where somebody took the file away under them. Raises LlmctlError,
    StoreUnavailable."""
    _check_unserved(database)
    lock = WriteLock(database, LOCK_TIMEOUT_S)
    try:
        with lock:
            _check_unserved(database)  # one may have started while we waited
            yield
    finally:
        lock.close()


def _check_unserved(database: Path) -> None:
    if serving := owners.living(database):
        what = f"a gateway serves {database} (process {serving[0].pid})"
        raise LlmctlError(what, hint="stop it first", code="gateway_runs")


def _drop_log(database: Path) -> None:
    """Moves the write-ahead log into the file, and removes it."""
    with storing(), closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()


def _sync_directory(path: Path) -> None:
    fd = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
