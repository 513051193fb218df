from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from llmctl.store.audit import Author
from llmctl.store.database import Store, create
from llmctl.store.ledger import Ledger
from tests.support.ledgers import Books

NOW_S = 1_795_442_400  # 23 November 2026, 14:00 UTC


@pytest.fixture
def author() -> Author:
    return Author("tester", NOW_S)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    create(tmp_path / "llmctl.db")
    store = Store(tmp_path / "llmctl.db")
    yield store
    store.close()


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "llmctl.db")
    yield books
    books.store.close()


@pytest.fixture
async def ledger(books: Books) -> AsyncIterator[Ledger]:
    ledger = books.ledger()
    await ledger.start()
    yield ledger
    await ledger.close()
