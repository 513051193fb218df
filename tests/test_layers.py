"""What the import contracts cannot see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmctl"
SQL = re.compile(r"\.execute(?:many|script)?\(|\bSELECT\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE \w+ SET\b")


@pytest.mark.parametrize("place", ["cli", "config", "dialects", "domain", "proxy", "sandbox"])
def test_sql_stays_inside_the_store(place: str) -> None:
    assert [path.name for path in (PACKAGE / place).rglob("*.py") if SQL.search(path.read_text())] == []
