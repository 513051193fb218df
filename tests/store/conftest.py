from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.store.audit import Author
from llmctl.store.database import Store, create

NOW_S = 1_795_442_400  # 23 November 2026, 14:00 UTC


@pytest.fixture
def author() -> Author:
    return Author("tester", NOW_S)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    create(tmp_path / "llmctl.db", now_s=NOW_S)
    store = Store(tmp_path / "llmctl.db")
    yield store
    store.close()
