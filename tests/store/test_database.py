from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmctl.domain.errors import NotFound, SchemaMismatch, StoreBroken, StoreError, StoreUnavailable
from llmctl.store.database import Store, WriteLock, create, migrations, schema_version


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "llmctl.db"
    create(path)
    return path


def test_a_new_database_is_its_owners_alone_and_has_the_current_schema(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = Store(path)
    assert store.connection.execute("PRAGMA user_version").fetchone() == (schema_version(),)
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_nothing_is_overwritten_and_nothing_is_created_by_opening(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="exists already"):
        create(path)
    with pytest.raises(StoreError, match="no directory"):
        create(tmp_path / "no" / "x.db")
    for readonly in (False, True):
        with pytest.raises(NotFound):
            Store(tmp_path / "other.db", readonly=readonly)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize("readonly", [False, True])
def test_files_of_other_schemas_and_other_files_are_refused(tmp_path: Path, *, readonly: bool) -> None:
    for version, hint in ((0, "not an llmctl database"), (schema_version() + 1, "has schema")):
        other = tmp_path / f"v{version}.db"
        connection = sqlite3.connect(other)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        connection.close()
        with pytest.raises(SchemaMismatch, match=hint):
            Store(other, readonly=readonly)
    text = tmp_path / "text.db"
    text.write_text("this is not a database at all " * 100)
    with pytest.raises(StoreBroken):
        Store(text, readonly=readonly)


def test_a_failed_write_leaves_nothing(path: Path) -> None:
    store = Store(path)
    with pytest.raises(RuntimeError), store.write() as tx:
        tx.execute("UPDATE settings SET settings_version = 99")
        raise RuntimeError
    assert store.connection.execute("SELECT settings_version FROM settings").fetchone() == (1,)
    store.close()


def test_writers_wait_for_each_other_and_give_up_in_words(path: Path) -> None:
    one, two = Store(path), Store(path, lock_timeout_s=0.05)
    with one.write(), pytest.raises(StoreUnavailable, match=r"locked for more than 0\.05 s"), two.write():
        pass
    with two.write() as tx:
        tx.execute("UPDATE settings SET settings_version = 2")
    one.close()
    two.close()


def test_many_writers_lose_no_update(path: Path) -> None:
    def add() -> None:
        store = Store(path)
        for _ in range(25):
            with store.write() as tx:
                (version,) = tx.execute("SELECT settings_version FROM settings").fetchone()
                tx.execute("UPDATE settings SET settings_version = ?", (version + 1,))
        store.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(path, readonly=True)
    assert store.connection.execute("SELECT settings_version FROM settings").fetchone() == (101,)
    store.close()


def test_a_reader_sees_commits_waits_for_no_writer_and_can_change_nothing(path: Path) -> None:
    writer, reader = Store(path), Store(path, readonly=True)
    with writer.write() as tx:
        tx.execute("UPDATE settings SET settings_version = 7")
        began_s = time.monotonic()
        with reader.read() as snapshot:
            assert snapshot.execute("SELECT settings_version FROM settings").fetchone() == (1,)
        assert time.monotonic() - began_s < 1
    with reader.read() as snapshot:
        assert snapshot.execute("SELECT settings_version FROM settings").fetchone() == (7,)
    with pytest.raises(StoreUnavailable), reader.read() as snapshot:
        snapshot.execute("UPDATE settings SET settings_version = 8")
    reader.close()
    writer.close()


def test_a_reader_leaves_the_log_for_the_writer(path: Path) -> None:
    writer = Store(path)
    with writer.write() as tx:
        tx.execute("UPDATE settings SET settings_version = 7")
    reader = Store(path, readonly=True)
    reader.close()
    assert writer.wal_bytes() > 0
    with writer.write() as tx:
        tx.execute("UPDATE settings SET settings_version = 8")
    writer.close()
    reader = Store(path, readonly=True)
    assert reader.connection.execute("SELECT settings_version FROM settings").fetchone() == (8,)
    reader.close()


def test_migrations_are_numbered_one_by_one() -> None:
    assert [number for number, _ in migrations()] == list(range(1, schema_version() + 1))


WRITING = """
import sys, time
from pathlib import Path
from llmctl.store.database import Store

with Store(Path(sys.argv[1])).write():
    print("writing", flush=True)
    time.sleep(0.3)
time.sleep(0.3)
"""


def test_a_command_that_is_stopped_by_ctrl_z_gives_the_lock_free_first(tmp_path: Path) -> None:
    path = tmp_path / "llmctl.db"
    create(path)
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, process_group=0, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "writing\n"
        command.send_signal(signal.SIGTSTP)
        with WriteLock(path, 5.0):
            pass
        _, status = os.waitpid(command.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        command.send_signal(signal.SIGCONT)
        assert command.wait(5) == 0
