"""limit set --dry-run: the calls of last month and of this one under a limit that is not set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli
from .shop import DAY_S, DOLLAR, NOW_S, Shop

OCTOBER_S = NOW_S - 30 * DAY_S  # 24 October 2026, 14:00 UTC


@pytest.fixture
def shop(cli: Cli, empty: Path) -> Iterator[Path]:
    """alice: 20 calls of $1 in an hour of October, 3 of this month; bob: 5 calls."""
    path = empty / "llmctl.db"

    async def fill() -> None:
        async with Shop(path) as shop:
            shop.group("company")
            shop.group("sales", parent="company")
            shop.user("alice", "sales")
            shop.user("bob", "company")
            for number in range(20):
                await shop.call("alice", at_s=OCTOBER_S + number, cost=DOLLAR, latency_ms=2_500)
            for number in range(5):
                await shop.call("bob", at_s=OCTOBER_S + 100 + number, cost=DOLLAR, model="o3", latency_ms=100)
            for number in range(3):
                await shop.call("alice", at_s=NOW_S - 600 + number, cost=DOLLAR)
            await shop.call("alice", at_s=NOW_S - 500, cost=5 * DOLLAR, settle=False)  # open: nobody knows yet

    asyncio.run(fill())
    yield path


def refused(cli: Cli, *args: str) -> list[int]:
    found: dict[str, Any] = cli.json("limit", "set", *args, "--dry-run")
    assert found["dry_run"]
    assert cli.json("limit", "list") == []
    return [found["last_month"]["refused"], found["this_month"]["refused"]]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--user", "alice", "--cost", "6", "--per", "month"], [14, 0]),
        (["--user", "alice", "--cost", "2", "--per", "month"], [18, 1]),
        (["--group", "company", "--cost", "22", "--per", "month"], [3, 0]),  # and what is below it
        (["--group", "sales", "--cost", "22", "--per", "month"], [0, 0]),
        (["--org", "--each", "user", "--cost", "4", "--per", "day"], [16 + 1, 0]),
        (["--org", "--cost", "4", "--per", "day", "--model", "o3"], [1, 0]),
        (["--user", "alice", "--cost", "21", "--per", "total"], [0, 2]),  # 20 of them were spent before
        (["--user", "alice", "--cost", "1.50", "--per", "hour"], [19, 2]),
        (["--user", "alice", "--requests", "5", "--per", "minute"], [15, 0]),
        (["--user", "alice", "--tokens", "3600", "--per", "week"], [17, 0]),
        (["--user", "alice", "--concurrency", "2"], [6, 0]),  # each took 2.5 s: of three, the third
        (["--user", "alice", "--cost", "0", "--per", "month"], [20, 3]),
    ],
)
def test_calls_that_would_not_have_fitted_are_counted(cli: Cli, shop: Path, args: list[str], wanted: list[int]) -> None:
    assert refused(cli, *args) == wanted


def test_it_is_said_in_a_sentence_and_nothing_is_set(cli: Cli, shop: Path) -> None:
    said = cli("limit", "set", "--user", "alice", "--cost", "6", "--per", "month", "--dry-run").out
    assert said.splitlines()[0] == (
        "$6.00/month on user alice would have refused 14 of 20 calls ($14.00) last month, 0 of 3 calls this month."
    )
    assert "Nothing was set" in said
    assert cli.json("limit", "list") == [] and cli.json("audit", "--action", "limit set") == []


def test_as_json_the_limit_is_told_as_lists_tell_it(cli: Cli, shop: Path) -> None:
    args = ("limit", "set", "--org", "--each", "end-user", "--cost", "6", "--per", "month")
    told = cli.json(*args, "--dry-run")
    cli(*args)
    (listed,) = cli.json("limit", "list")
    names = ("on", "name", "each", "measure", "amount", "window", "models", "soft")
    assert [told[name] for name in names] == [listed[name] for name in names]


def test_forgotten_calls_are_told(cli: Cli, shop: Path) -> None:
    cli.now_s += 20 * DAY_S
    cli("prune", "--keep", "45d", "--yes")
    found = cli.json("limit", "set", "--user", "alice", "--cost", "6", "--per", "month", "--dry-run")
    assert found["last_month"]["complete"] is True  # November
    cli.now_s -= 20 * DAY_S
    assert "are forgotten" in cli("limit", "set", "--org", "--cost", "6", "--per", "month", "--dry-run").out


def test_an_unknown_name_is_an_error_all_the_same(cli: Cli, shop: Path) -> None:
    assert "no user" in cli("limit", "set", "--user", "zoe", "--cost", "6", "--per", "month", "--dry-run", code=1).err
