"""Groups and users are changed, renamed, moved and removed; whoever removes is asked."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli
from .shop import DOLLAR, Shop

Fill = Callable[..., None]


def names(cli: Cli, noun: str) -> list[str]:
    return [row["name"] for row in cli.json(noun, "list")]


def test_a_group_gets_another_parent_and_time_zone_and_loses_them_again(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("group", "add", "emea")
    changed = cli("group", "set", "emea", "--parent", "sales", "--timezone", "Europe/Berlin")
    assert changed.out == "Changed group emea: parent none -> sales, time zone inherited -> Europe/Berlin.\n"
    assert cli.json("group", "set", "emea", "--parent", "sales")["changed"] is False
    back = cli.json("group", "set", "emea", "--no-parent", "--no-timezone")
    assert (back["parent"], back["timezone"], back["changed"]) == (None, None, True)


def test_a_group_never_comes_below_itself_nor_too_deep(cli: Cli) -> None:
    parent: list[str] = []
    for depth in range(16):
        cli("group", "add", f"g{depth}", *parent)
        parent = ["--parent", f"g{depth}"]
    assert "cannot go below itself" in cli("group", "set", "g3", "--parent", "g3", code=1).err
    assert "which lies below it" in cli("group", "set", "g3", "--parent", "g9", code=1).err
    cli("group", "add", "roof")
    assert "at most 16 deep" in cli("group", "set", "g0", "--parent", "roof", code=1).err


def test_contradictions_and_empty_changes_are_usage_errors(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    assert cli("group", "set", "sales", code=2).err.startswith("error: nothing to change is given")
    assert "both given" in cli("user", "move", "alice", "--group", "sales", "--no-group", code=2).err
    assert "none of --group, --no-group" in cli("user", "move", "alice", code=2).err


def test_a_renamed_group_or_user_keeps_members_keys_and_limits(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--group", "sales", "--cost", "5", "--per", "month")
    key = cli.json("key", "show", "alice")["id"]
    assert cli("group", "rename", "sales", "Vertrieb").out == "Renamed group sales to Vertrieb.\n"
    assert cli("user", "rename", "alice", "alicia").out == "Renamed user alice to alicia.\n"
    assert cli.json("user", "show", "alicia")["group"] == "Vertrieb"
    assert cli.json("key", "show", "alicia")["id"] == key
    assert cli.json("limit", "list", "--group", "vertrieb")[0]["name"] == "Vertrieb"
    assert cli.json("user", "rename", "alicia", "alicia")["changed"] is False
    assert cli.json("user", "rename", "alicia", "ALICIA")["changed"] is True


def test_a_name_that_is_taken_is_not_given_again(cli: Cli, filled: Fill) -> None:
    filled("sales/alice", "emea/bob")
    assert 'user "bob" exists' in cli("user", "rename", "alice", "BOB", code=1).err
    assert 'group "emea" exists' in cli("group", "rename", "sales", "Emea", code=1).err


def test_a_moved_user_keeps_what_was_spent_where_it_was_spent(cli: Cli, filled: Fill) -> None:
    filled("sales/alice", "emea/bob")
    moved = cli("user", "move", "alice", "--group", "emea")
    assert moved.out == "Changed user alice: group sales -> emea.\n"
    assert cli.json("user", "move", "alice", "--no-group")["group"] is None
    assert [entry["action"] for entry in cli.json("audit", "alice")][:2] == ["user move", "user move"]


async def test_a_change_of_zone_parent_or_group_makes_limits_count_anew(empty: Path, cli: Cli) -> None:
    """At 14:00 UTC it is the next day in Auckland: what was spent at noon UTC is yesterday's there."""
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("sales")
        shop.user("alice", "sales")
        cli("limit", "set", "--group", "sales", "--cost", "5", "--per", "day")
        await shop.call("alice", at_s=shop.now_s - 4 * 3600, cost=DOLLAR)
    assert cli.json("limit", "show", "l1")["spent"] == "1.000000000"
    cli("group", "set", "sales", "--timezone", "Pacific/Auckland")
    assert cli.json("limit", "show", "l1")["spent"] == "0.000000000"
    cli("group", "set", "sales", "--no-timezone")
    assert cli.json("limit", "show", "l1")["spent"] == "1.000000000"
    cli("user", "move", "alice", "--no-group")
    assert cli.json("limit", "show", "l1")["spent"] == "1.000000000"


def test_a_disabled_group_stops_its_keys_and_those_below(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    assert cli("group", "disable", "sales").out == "Group sales is disabled.\n"
    assert cli.json("group", "disable", "sales")["changed"] is False
    assert cli.json("group", "list")[0]["disabled"] is True
    assert cli.json("group", "enable", "sales") == {"group": "sales", "disabled": False, "changed": True}


def test_who_is_shut_out_by_a_group_or_user_is_shown_as_such(
    cli: Cli, filled: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled("emea/alice", "bob")
    secret = cli.secret("key", "create", "alice", "--name", "ci")
    cli("group", "add", "sales")
    cli("group", "set", "emea", "--parent", "sales")
    cli("group", "disable", "sales")
    cli("user", "disable", "bob")
    said = [(user["name"], user["state"], user["disabled_by"]) for user in cli.json("user", "list", "--disabled")]
    assert said == [("alice", "disabled", "group sales"), ("bob", "disabled", "user bob")]
    assert "disabled (group sales)" in cli("user", "list").out
    assert "State   disabled (group sales)" in cli("user", "show", "alice").out
    assert cli.json("user", "show", "alice")["disabled_by"] == "group sales"
    assert "disabled (user bob)" in cli("key", "list").out
    keys = [(key["state"], key["disabled_by"]) for key in cli.json("key", "list")]
    assert keys == [("disabled", "group sales"), ("disabled", "group sales"), ("disabled", "user bob")]
    monkeypatch.setattr("sys.stdin", io.StringIO(secret))
    shown = cli("key", "show", "-").out
    assert "State               disabled (group sales)" in shown
    assert "the current one: it does not work, the key is disabled (group sales)" in shown
    assert cli.json("key", "show", "bob")["disabled_by"] == "user bob"
    cli("group", "enable", "sales")
    assert [user["state"] for user in cli.json("user", "list")] == ["active", "disabled"]
    cli("key", "revoke", "bob")
    assert cli.json("key", "list", "bob", "--all")[0]["state"] == "revoked"


def test_a_group_with_members_is_removed_only_if_they_go_elsewhere(cli: Cli, filled: Fill) -> None:
    filled("sales/alice", "emea/bob")
    cli("group", "add", "north", "--parent", "sales")
    refused = cli("group", "remove", "sales", "--yes", code=1)
    assert refused.err == "error: group sales has 1 user and 1 group; say where they go: --move-to GROUP\n"
    for flag in ("--yes", "--dry-run"):
        assert "below it" in cli("group", "remove", "sales", "--move-to", "north", flag, code=1).err
    cli("group", "remove", "sales", "--move-to", "emea", "--yes")
    assert names(cli, "group") == ["emea", "north"]
    assert cli.json("user", "show", "alice")["group"] == "emea"
    assert cli.json("group", "show", "north")["parent"] == "emea"
    assert cli.json("audit", "alice")[0]["action"] == "user move"


def test_a_removed_users_keys_are_dead_and_the_name_is_free(cli: Cli, filled: Fill) -> None:
    filled("alice")
    dry = cli("user", "remove", "alice", "--dry-run")
    assert dry.out == "Would remove user alice and revoke 1 key.\n"
    assert names(cli, "user") == ["alice"]
    cli("user", "remove", "alice", "--yes")
    assert names(cli, "user") == []
    assert [key["state"] for key in cli.json("key", "list", "--all")] == ["revoked"]
    assert cli.json("user", "remove", "alice", "--if-exists", "--yes")["removed"] is False
    cli("user", "add", "alice")
    assert [entry["action"] for entry in cli.json("audit", "user remove")] == ["user remove"]


def test_without_a_terminal_a_removal_needs_yes(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("group", "add", "void")
    for command in (["user", "remove", "alice"], ["group", "remove", "void"]):
        failed = cli(*command, code=1)
        assert failed.err.startswith(f"error: nobody is there to answer: Remove {command[0]} {command[2]}")
        assert "--yes" in failed.err
    assert names(cli, "user") == ["alice"]


def test_on_a_terminal_a_removal_asks_and_no_is_no(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("alice")
    for answer, code, left in ((b"\n", 1, ["alice"]), (b"y\n", 0, [])):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "llmctl", "user", "remove", "alice"],
            cwd=empty,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(ours, answer)
            assert process.wait(20) == code
        shown = os.read(ours, 4096).decode()
        os.close(ours)
        assert "Remove user alice and revoke 1 key? [y/N]" in shown
        assert names(cli, "user") == left
