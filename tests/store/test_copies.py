"""A database is only put back while nobody serves it; commands that read or write meanwhile neither stop that nor lose
anything."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from llmctl.domain.errors import AlreadyExists, LlmctlError, StoreBroken
from llmctl.store import copies
from llmctl.store.database import LOCK_TIMEOUT_S, Store, WriteLock
from llmctl.store.owners import Owner
from tests.support.ledgers import Books


def test_a_gateway_that_starts_while_a_restore_waits_stops_it(books: Books, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    failures: list[LlmctlError] = []

    def restore() -> None:
        try:
            copies.restore(copy, books.path, books.author)
        except LlmctlError as error:
            failures.append(error)

    writing = WriteLock(books.path, LOCK_TIMEOUT_S)
    with writing:
        restoring = threading.Thread(target=restore)
        restoring.start()
        time.sleep(0.2)  # it has looked, and waits for the lock
        owner = Owner.claim(books.path)
    restoring.join()
    writing.close()
    owner.release()
    assert [error.code for error in failures] == ["gateway_runs"]
    assert not list(tmp_path.glob("*before-restore*"))


def test_a_gateway_whose_file_was_taken_away_still_serves(books: Books, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    owner = Owner.claim(books.path)
    books.path.rename(tmp_path / "taken.db")
    with pytest.raises(LlmctlError) as caught:
        copies.restore(copy, books.path, books.author)
    owner.release()
    assert caught.value.code == "gateway_runs"


def test_the_log_of_a_file_that_is_gone_is_kept_and_not_taken_for_the_copys(books: Books, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    with closing(sqlite3.connect(books.path)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM users").fetchall()  # its log is not dropped while somebody reads
        for number in range(300):
            books.add_user(f"user{number}")
        books.path.rename(tmp_path / "damaged.db")
        restored = copies.restore(copy, books.path, books.author)
    assert restored.kept is not None
    assert restored.kept.name.endswith("Z-wal")
    assert restored.kept.stat().st_size > 0
    with closing(sqlite3.connect(books.path)) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_command_that_has_the_database_open_during_a_restore_writes_into_what_was_restored(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    for number in range(300):
        books.add_user(f"user{number}")
    waiting = threading.Event()

    def write() -> None:
        with closing(Store(books.path)) as store:
            waiting.set()
            with store.write() as tx:
                tx.executemany("INSERT INTO users (name, created_at) VALUES (?, 1)", [(f"new{n}",) for n in range(300)])

    writing = threading.Thread(target=write)

    def kept(database: Path, name: str) -> Path | None:
        found = keep(database, name)
        writing.start()
        assert waiting.wait(5)
        return found

    keep = copies._kept_if_sound
    monkeypatch.setattr(copies, "_kept_if_sound", kept)
    with closing(sqlite3.connect(books.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM users").fetchone() == (300,)
        restored = copies.restore(copy, books.path, books.author)
        writing.join()
        assert reader.execute("SELECT count(*) FROM users").fetchone() == (300,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*), min(name) FROM users").fetchone() == (300, "new0")
    assert restored.kept is not None
    with closing(sqlite3.connect(restored.kept)) as connection:
        assert connection.execute("SELECT count(*), min(name) FROM users").fetchone() == (300, "user0")
    with closing(sqlite3.connect(books.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_restore_that_fails_leaves_nothing(books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    books.add_user("alice")
    there = sorted(tmp_path.iterdir())

    def fill(database: Path, source: Path) -> None:
        raise StoreBroken("no more disk")

    monkeypatch.setattr(copies, "_fill", fill)
    with pytest.raises(StoreBroken):
        copies.restore(copy, books.path, books.author)
    assert sorted(tmp_path.iterdir()) == there
    assert books.rows("SELECT count(*) FROM users") == [(1,)]


def test_what_was_there_is_kept_where_the_disk_is_full_after_the_restore(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    books.add_user("alice")

    class Full(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql == "PRAGMA wal_checkpoint":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *parameters)

    connect = sqlite3.connect
    monkeypatch.setattr(copies.sqlite3, "connect", lambda *args, **more: connect(*args, **{"factory": Full, **more}))
    restored = copies.restore(copy, books.path, books.author)
    assert restored.kept is not None and restored.kept.exists()


@pytest.mark.parametrize("larger", ["copy", "database"])
def test_a_copy_is_put_back_whatever_size_its_pages_have(tmp_path: Path, larger: str) -> None:
    books = Books(tmp_path / "llmctl.db")
    books.add_user("alice")
    copy = tmp_path / "copy.db"
    copies.backup(books.path, copy)
    books.add_user("bob")
    books.store.close()
    with closing(sqlite3.connect(copy if larger == "copy" else books.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("VACUUM")
    copies.restore(copy, books.path, books.author)
    with closing(sqlite3.connect(books.path)) as connection:
        assert connection.execute("SELECT name FROM users").fetchall() == [("alice",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_written_into_a_file_that_has_lost_its_name(books: Books, tmp_path: Path) -> None:
    with Books(tmp_path / "other.db") as other:
        pass
    other.path.rename(books.path)
    with pytest.raises(StoreBroken, match="removed or replaced"):
        books.add_user("alice")


def test_no_backup_is_put_beside_the_log_of_an_earlier_one(books: Books, tmp_path: Path) -> None:
    target = tmp_path / "nightly.db"
    Path(f"{target}-wal").write_bytes(b"frames of another file")
    with pytest.raises(AlreadyExists, match=r"nightly\.db-wal"):
        copies.backup(books.path, target)
    assert not target.exists()


def test_what_a_killed_backup_left_goes_with_the_next_one(books: Books, tmp_path: Path) -> None:
    abandoned, fresh = tmp_path / ".copy.db.abc.unfinished", tmp_path / ".copy.db.def.unfinished"
    for path in (abandoned, fresh):
        path.write_bytes(b"half a copy")
    Path(f"{abandoned}-journal").touch()
    os.utime(abandoned, (1, 1))
    copies.backup(books.path, tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.glob(".copy*")) == [fresh.name]
