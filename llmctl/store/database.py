"""Opening, migrating and writing the one SQLite file.

All write transactions and checkpoints, of the daemon, its workers and the commands, happen under one `flock` on
`DATABASE.lock`: fairer and faster than SQLite's busy polling, and it keeps two connections from writing and
checkpointing at once (SQLite's WAL-reset bug, 3.7.0 to 3.51.2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llmctl.domain.errors import (
    LlmctlError,
    NotFound,
    SchemaMismatch,
    StoreBroken,
    StoreError,
    StoreUnavailable,
)

from . import filesystem
from .files import open_beside

Tx = sqlite3.Connection  # an open transaction, for those above `store/`: they only hand it on

MIGRATIONS = Path(__file__).with_name("migrations")
SQLITE_VERSION = sqlite3.sqlite_version
SQLITE_MIN = (3, 38, 0)  # -> and ->> on JSON, RETURNING, STRICT
BUSY_TIMEOUT_MS = 5_000
READERS_WAIT_S = 0.1
READERS_POLL_MS = 5
LOCK_TIMEOUT_S = 10.0
LOCK_POLL_S = 0.001
UNLIMITED = -1

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_INTERRUPT,
}
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Checkpoint(NamedTuple):
    """What `PRAGMA wal_checkpoint` says. `busy`: it was not all that was asked; `frames`: of the log; `moved`: how many
    of them are in the file now."""

    busy: int
    frames: int
    moved: int

    @property
    def is_partial(self) -> bool:
        """Somebody reads what was there before the rest."""
        return self.moved < self.frames


class Store:
    """One connection to the file, with write transactions under the lock. Not shared between threads."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        readonly: bool = False,
    ) -> None:
        """Opens an existing database of exactly this program's schema. `readonly`: no rights, no lock are needed.

        Raises NotFound (no file), SchemaMismatch, StoreUnavailable, StoreBroken.
        """
        must_exist(path)
        status = path.stat()
        self._file = (status.st_dev, status.st_ino)
        self.path = path
        self._name = str(path)
        self._readonly = readonly
        self._busy_timeout_ms = BUSY_TIMEOUT_MS
        self._lock = WriteLock(path, lock_timeout_s)
        with storing():
            self.connection = _connect_readonly(path) if readonly else _connect(path, synchronous)
            try:
                check_schema(self.connection)
            except BaseException:
                self.connection.close()
                raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back on any error."""
        assert not self._readonly
        try:
            with self._lock:
                if (gone := self.replaced()) is not None:
                    raise gone
                with transaction(self.connection):
                    yield self.connection
        except sqlite3.Error as error:
            raise self._explained(translated(error)) from error
        except StoreBroken as error:
            raise self._explained(error) from None

    def _explained(self, error: StoreError) -> StoreError:
        """What can no longer be written fails like a broken disk. Raises StoreUnavailable if it is that."""
        if isinstance(error, StoreBroken) and self.replaced() is None:
            filesystem.check_writable(self.path)
        return error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent snapshot. Keep it short: it holds back checkpoints."""
        with storing(), transaction(self.connection, "BEGIN"):
            yield self.connection

    def checkpoint(self, mode: str = "PASSIVE") -> Checkpoint:
        """Moves the write-ahead log into the database file, as far as readers let it. TRUNCATE waits for them only for
        a moment: everybody who writes waits for it meanwhile.

        It is begun anew every few milliseconds, as SQLite waits for a reader's slot, not for that reader: the next one
        takes the same slot, and with two of them in turn it is never seen free, though neither is in the way any more.
        """
        with storing(), self._lock:
            self.connection.execute(f"PRAGMA busy_timeout = {READERS_POLL_MS}")
            deadline_s = time.monotonic() + READERS_WAIT_S
            try:
                while (found := self._checkpointed(mode)).busy and mode != "PASSIVE" and time.monotonic() < deadline_s:
                    pass
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
        return found

    def _checkpointed(self, mode: str) -> Checkpoint:
        (row,) = self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        return Checkpoint(*row)

    def cut_log_to(self, size: int) -> None:
        """The write that begins the log anew cuts its file down to so many bytes, or UNLIMITED."""
        self.connection.execute(f"PRAGMA journal_size_limit = {size}")

    def wait_at_most(self, timeout_s: float) -> None:
        """How long a write waits for others, from now on."""
        self._busy_timeout_ms = min(BUSY_TIMEOUT_MS, int(timeout_s * 1000))
        self._lock.timeout_s = timeout_s
        self.connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")

    def wal_bytes(self) -> int:
        return wal_bytes(self.path)

    def replaced(self) -> StoreBroken | None:
        """Whether the file that is open is no longer the one of that name: what is written to it would be lost."""
        with suppress(OSError):
            now = os.stat(self._name)  # noqa: PTH116 - of each transaction: it takes a third of what a Path does
            if (now.st_dev, now.st_ino) == self._file:
                return None
        return StoreBroken(f"{self.path} was removed or replaced while it was open", hint="start it anew")

    def close(self) -> None:
        if self._readonly:
            self.connection.close()
            return
        # SQLite checkpoints and deletes the log when the last connection closes: that too only under the lock.
        with storing(), self._lock:
            self.connection.close()
        self._lock.close()


def wal_bytes(path: Path) -> int:
    """Of a database's write-ahead log; 0: it has none."""
    try:
        return Path(f"{path}-wal").stat().st_size
    except OSError:
        return 0


def must_exist(path: Path) -> None:
    """Raises NotFound, StoreError (a directory). A database is only ever made by `llmctl init`: an empty one would hide
    a wrong path."""
    if not path.exists():
        raise NotFound(f"no database {path}", hint="mount it", code="no_database")
    if path.is_dir():
        raise _directory(path)


def _directory(path: Path) -> StoreError:
    return StoreError(f"{path} is a directory, not a database", hint=f"name the file: {path / 'llmctl.db'}")


class WriteLock:
    """The exclusive right to write, over all processes that use this database: `with` holds it."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._database = path
        self.timeout_s = timeout_s
        self._fd: int | None = None
        self._mask: set[int] | None = None  # the signals that were blocked before it was taken

    def __enter__(self) -> None:
        if self._fd is None:
            self._fd = open_beside(self._database, ".lock")
        # Ctrl-Z has to wait: a command that is stopped with the lock would stop whoever serves. The ledger's own thread
        # is not asked: nobody stops a daemon from its terminal, and each batch would pay for it.
        if threading.current_thread() is threading.main_thread():
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTSTP,))
        try:
            self._acquire(self._fd)
        except BaseException:
            self._unblock()
            raise

    def __exit__(self, *_: object) -> None:
        assert self._fd is not None
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._unblock()

    def _unblock(self) -> None:
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None

    def _acquire(self, fd: int) -> None:
        deadline_s = time.monotonic() + self.timeout_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise StoreUnavailable(
                        f"the database is locked for more than {self.timeout_s:g} s", hint="try again"
                    ) from None
                time.sleep(LOCK_POLL_S)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def file_bytes(path: Path) -> int:
    """The size of the database with its write-ahead log."""
    return sum(item.stat().st_size for item in (path, Path(f"{path}-wal")) if item.exists())


def create(path: Path) -> None:
    """A new database with the current schema, readable by its owner alone. Raises StoreError if the file exists."""
    if path.is_dir():
        raise _directory(path)
    if path.exists():
        raise StoreError(f"{path} exists already", hint="llmctl init --if-not-exists keeps it")
    check_place(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        hint = "choose another place with --database"
        raise StoreError(f"cannot create {path}: {error.strerror}", hint=hint) from None
    lock = WriteLock(path, LOCK_TIMEOUT_S)
    try:
        with storing(), lock:
            connection = _connect(path, "FULL")
            try:
                _migrate(connection)
            finally:
                connection.close()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        lock.close()


def check_place(path: Path) -> None:
    """Raises StoreError where no database can be made."""
    if not path.parent.is_dir():
        raise StoreError(f"no directory {path.parent}", hint=f"mkdir -p {path.parent}")
    filesystem.check_writable(path)


def schema_of(path: Path, *, hint: str = "check the path") -> int:
    """The schema of a database of ours, which may be another than this program's. Raises SchemaMismatch for a file that
    is none, StoreBroken, StoreError (a directory)."""
    must_exist(path)
    with storing(), closing(_connect_readonly(path)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if schema == 0 or not {"settings", "calls", "rollups"} <= tables:
        raise SchemaMismatch(f"{path} is not an llmctl database", hint=hint)
    assert isinstance(schema, int)
    return schema


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, in order."""
    files = sorted(MIGRATIONS.glob("*.sql"))
    return [(int(file.name.split("_")[0]), file.read_text(encoding="utf-8")) for file in files]


@cache
def schema_version() -> int:
    """The schema that this program speaks: the number of its last migration."""
    return max(int(file.name.split("_")[0]) for file in MIGRATIONS.glob("*.sql"))


def check_schema(connection: sqlite3.Connection) -> None:
    """Raises SchemaMismatch unless the file has exactly the schema that this program speaks."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    wanted = schema_version()
    if found > wanted:
        raise SchemaMismatch(f"the database has schema {found}, this llmctl speaks {wanted}", hint="use a newer llmctl")
    if found == 0:
        raise SchemaMismatch("this file is not an llmctl database", hint="check --database, or move it away")
    if found < wanted:
        raise SchemaMismatch(
            f"the database has schema {found}, this llmctl speaks {wanted}",
            hint="stop the daemon, then: llmctl migrate",
        )


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT (disk full) may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def storing() -> Iterator[None]:
    """SQLite's errors as ours: nobody above `store/` handles `sqlite3.Error`."""
    try:
        yield
    except LlmctlError:
        raise
    except sqlite3.Error as error:
        raise translated(error) from error


def translated(error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"the database is not available: {error}", hint="check disk space and permissions")
    if code in _BROKEN:
        return StoreBroken(f"the database is broken: {error}", hint="restore a backup")
    return StoreError(f"the database refused a statement: {error}", hint="this is a bug in llmctl")


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. In a place that nobody may write (a mounted backup) SQLite cannot make the
    index that it reads the write-ahead log with: where there is no log either, the file is read as it is."""
    place = path.absolute()
    wal = Path(f"{place}-wal")
    frozen = not wal.exists() and not os.access(place.parent, os.W_OK)
    uri = f"{place.as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN))
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old", hint=f"llmctl needs {needed} or newer")
    assert synchronous in ("FULL", "NORMAL", "EXTRA"), synchronous
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, cached_statements=256)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def migrate_file(path: Path) -> None:
    """Brings the file to this program's schema, one migration after another, each whole or not at all. The caller has
    it to himself."""
    with storing():
        connection = _connect(path, "FULL")
        try:
            _migrate(connection)
        finally:
            connection.close()


def _migrate(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    for number, sql in migrations():
        if number > found:
            # executescript commits what is open before it starts: the transaction is in the script itself.
            try:
                connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
