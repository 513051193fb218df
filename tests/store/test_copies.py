"""A database is only put back while nobody serves it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

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
