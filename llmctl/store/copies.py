"""Copies of the database: made while it is in use, checked before they count, put back in one step."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmctl.domain.errors import AlreadyExists, LlmctlError, NotFound, SchemaMismatch, StoreBroken, StoreUnavailable

from . import audit, owners
from .audit import Author
from .carried import Carried, carry_over
from .database import LOCK_TIMEOUT_S, Store, WriteLock, migrate_file, must_exist, schema_of, schema_version, storing
from .files import open_beside

COPY_PAGES = 512  # 2 MB
COPY_PAUSE_S = 0.005
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
    with _alone(database), _finished(database, replace=True) as unfinished:
        _copy(source, unfinished)
        migrate_file(unfinished)
        carried = carry_over(unfinished, database) if database.exists() else Carried()
        with closing(Store(unfinished)) as store, store.write() as tx:
            facts = {"from": str(source.absolute())} | (carried.facts if carried else {})
            audit.record(tx, author, "restore", str(database), after=facts)
        _drop_log(unfinished)
        kept = None
        if any(file.exists() for file in _parts(database)):
            moment = datetime.fromtimestamp(author.at_s, UTC)
            name = f"before-restore-{moment:%Y%m%dT%H%M%SZ}"
            try:
                kept = _kept(database, name)
                _drop_log(database)  # what it held is in the kept copy: it must not be taken for the new file's
            except (NotFound, StoreBroken):
                kept = _moved(database, name)
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


@contextmanager
def _finished(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A file to write beside `target`, which becomes `target` in one step, and on disk, when the block ends well."""
    if target.exists() and not replace:
        raise AlreadyExists(f"{target} exists already", hint="choose another name, or remove it")
    try:
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)  # mode 0600
    except OSError as error:
        raise StoreUnavailable(f"cannot write beside {target}: {error.strerror}", hint="choose another place") from None
    unfinished = Path(name)
    try:
        owner = target.stat() if replace and target.exists() else None
        yield unfinished
        os.fsync(fd)
        if owner is not None and os.geteuid() == 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)
        if replace:
            unfinished.replace(target)
        else:
            os.link(unfinished, target)  # fails, where replacing would not, if somebody was faster
            unfinished.unlink()
        _sync_directory(target)
    except FileExistsError:
        raise AlreadyExists(f"{target} exists already", hint="choose another name, or remove it") from None
    except OSError as error:
        raise StoreUnavailable(f"cannot write {target}: {error.strerror}", hint="check disk space") from None
    finally:
        os.close(fd)
        unfinished.unlink(missing_ok=True)
        for suffix in ("-journal", "-wal", "-shm", ".lock"):
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Nobody else serves or writes, also where somebody took the file away under them. Raises LlmctlError,
    StoreUnavailable."""
    _check_unserved(database)
    lock = WriteLock(database, LOCK_TIMEOUT_S)
    try:
        with lock.held():
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
