"""prune: what is old goes, and what a limit or today still needs stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .conftest import Cli
from .shop import DAY_S, NOW_S, Shop


@pytest.fixture
def calls(cli: Cli, empty: Path) -> None:
    """Of today, of the 20th, of the 10th of November, and of October."""

    async def fill() -> None:
        async with Shop(empty / "llmctl.db") as shop:
            shop.user("alice")
            for days in (40, 13, 3, 0):
                await shop.call("alice", at_s=NOW_S - days * DAY_S - 3600)

    asyncio.run(fill())


@pytest.mark.parametrize("span", ["1m", "59m", "13h"])
def test_today_is_not_forgotten(cli: Cli, calls: None, span: str) -> None:
    failed = cli("prune", "--keep", span, "--yes", code=2)
    assert failed.err == f"error: --keep {span} reaches into today; keep at least 2d; a month is 1mo\n"
    assert len(cli.json("calls")) == 4


def test_today_began_first_where_the_sun_rises_last(cli: Cli, calls: None) -> None:
    assert cli.json("prune", "--keep", "14h", "--dry-run")["calls"] == 3
    cli("group", "add", "west", "--timezone", "Pacific/Honolulu")  # 04:00 of the same day
    cli("group", "add", "far", "--timezone", "Asia/Tokyo")  # 23:00: its day is 23 hours old
    assert "reaches into today" in cli("prune", "--keep", "14h", "--yes", code=2).err


def test_a_window_that_has_not_ended_keeps_its_calls(cli: Cli, calls: None) -> None:
    cli("limit", "set", "--org", "--cost", "100", "--per", "total")
    cli("limit", "set", "--user", "alice", "--cost", "10", "--per", "day")
    assert cli.json("prune", "--keep", "2d", "--dry-run")["calls"] == 3
    cli("limit", "set", "--user", "alice", "--cost", "100", "--per", "month")
    done = cli("prune", "--keep", "2d", "--yes")
    assert done.err == "! Calls since 1 Nov UTC stay: l3 counts in a window that has not ended.\n"
    assert done.out.startswith("Forgot 1 call from before 1 Nov UTC.")
    cli("limit", "remove", "l3", "--yes")
    assert cli.json("prune", "--keep", "2d", "--yes")["calls"] == 2
    assert cli.json("audit", "prune")[0]["after"]["before"] == "2026-11-21T14:00:00Z"
    assert "before 2026-11-21T14:00:00Z" in cli("audit", "prune").out
