"""A database is only put back while nobody serves it."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from llmctl.domain.errors import LlmctlError
from llmctl.store import copies
from llmctl.store.database import LOCK_TIMEOUT_S, WriteLock
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
    with writing.held():
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


def test_the_log_of_a_file_that_is_gone_is_kept_and_not_taken_for_the_copys(tmp_path: Path) -> None:
    books = Books(tmp_path / "llmctl.db")
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
