"""What all lists take: an order, filters, and a suggestion for what is not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Cli

Fill = Callable[..., None]


def test_groups_are_filtered_by_name_and_parent(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("group", "add", "sales-emea", "--parent", "sales")
    cli("group", "add", "support")

    def names(*flags: str) -> list[str]:
        return [row["name"] for row in cli.json("group", "list", *flags)]

    assert names("SALES") == ["sales", "sales-emea"]
    assert names("--parent", "Sales") == names("emea", "--parent", "sales") == ["sales-emea"]
    assert cli("group", "list", "nothing").out == "No groups.\n"
    assert 'did you mean "sales"' in cli("group", "list", "--parent", "slaes", code=1).err


def test_providers_are_filtered_by_name_and_address(cli: Cli) -> None:
    assert [row["name"] for row in cli.json("provider", "list", "sand")] == ["sandbox"]
    assert [row["name"] for row in cli.json("provider", "list", "api.openai.com")] == ["openai"]
    assert cli("provider", "list", "nothing").out == "No providers.\n"


def test_alerts_are_filtered_by_kind_and_text_before_they_are_counted(cli: Cli, empty: Path) -> None:
    with closing(sqlite3.connect(empty / "llmctl.db")) as database, database:
        database.executemany(
            "INSERT INTO alerts (at, kind, key, text, facts) VALUES (?, ?, ?, ?, '{}')",
            [(1, "limit", "a", "90 % of limit l1"), (2, "provider", "b", "openai fails"), (3, "provider", "c", "x")],
        )

    def texts(*flags: str) -> list[str]:
        return [row["text"] for row in cli.json("alert", "list", *flags)]

    assert texts("--kind", "provider") == ["x", "openai fails"]
    assert texts("--kind", "limit", "-n", "1") == ["90 % of limit l1"]
    assert texts("OPENAI") == ["openai fails"]
    assert cli("alert", "list", "nothing").out == "No alert matches.\n"
    assert 'did you mean "provider"' in cli("alert", "list", "--kind", "providers", code=2).err


def test_alerts_that_none_waits_for_leave_the_room_to_the_text(cli: Cli, empty: Path) -> None:
    with closing(sqlite3.connect(empty / "llmctl.db")) as database, database:
        database.execute("INSERT INTO alerts (at, kind, key, text, facts) VALUES (1, 'limit', 'a', 'x', '{}')")
    assert cli("alert", "list").out.splitlines()[0].split() == ["WHEN", "UTC", "KIND", "TOLD", "REACHED"]
    with closing(sqlite3.connect(empty / "llmctl.db")) as database, database:
        database.execute("INSERT INTO deliveries (alert_id, receiver, next_at) VALUES (1, 'ops', 2)")
    assert cli("alert", "list").out.splitlines()[0].split()[-2:] == ["REACHED", "WAITS"]
    assert [(row["pending"], row["failed"]) for row in cli.json("alert", "list")] == [(["ops"], [])]


@pytest.mark.parametrize(
    ("args", "suggested"),
    [
        (["limit", "set", "--org", "--cost", "5", "--per", "mont"], "month"),
        (["limit", "set", "--org", "--cost", "5", "--per", "day", "--each", "users"], "user"),
        (["calls", "--sort", "cost_us"], "cost_usd"),
        (["usage", "--by", "usr"], "user"),
        (["group", "add", "x", "--timezone", "Europe/Belrin"], "Europe/Berlin"),
        (["group", "add", "x", "--timezone", "new york"], "America/New_York"),
    ],
    ids=" ".join,
)
def test_a_slip_gets_a_suggestion(cli: Cli, args: list[str], suggested: str) -> None:
    assert f'did you mean "{suggested}"?  ' in cli(*args, code=2).err


def test_an_order_means_the_same_in_every_list(cli: Cli, filled: Fill) -> None:
    filled("carol", "alice", "bob")
    assert [row["name"] for row in cli.json("user", "list", "--sort", "name")] == ["alice", "bob", "carol"]
    assert [row["name"] for row in cli.json("user", "list", "--sort", "-name")] == ["carol", "bob", "alice"]
