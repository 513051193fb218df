"""Grants on the command line: given, seen wherever limits are, and taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Cli

Fill = Callable[..., None]


@pytest.fixture
def granted(cli: Cli, filled: Fill) -> None:
    """l1: 20 dollars a day for each user in sales; 30 more for alice, 5 more for all."""
    filled("sales/alice", "sales/bob", "support/carol")
    cli("limit", "set", "--group", "sales", "--cost", "20", "--per", "day", "--each", "user")
    cli("limit", "grant", "l1", "--user", "alice", "--cost", "30", "--for", "7d", "--reason", "launch")
    cli("limit", "grant", "l1", "--cost", "5", "--for", "2d", "--reason", "fair")


@pytest.mark.usefixtures("granted")
class TestWithdraw:
    def test_what_was_granted_to_one_member_or_to_all_is_taken_back(self, cli: Cli) -> None:
        done = cli("limit", "withdraw", "l1", "--user", "ALICE", "--yes")
        assert done.out == "Withdrew $30.00 more for alice until 30 Nov 14:00, on l1.\n"
        assert [grant["reason"] for grant in cli.json("limit", "show", "l1")["grants"]] == ["fair"]
        (entry,) = cli.json("audit", "--action", "limit withdraw")
        assert (entry["before"]["member"], entry["before"]["amount"], entry["after"]) == ("alice", "30.00", None)
        assert [one["amount"] for one in cli.json("limit", "withdraw", "l1", "--yes")["withdrawn"]] == ["5.000000000"]
        assert cli.json("limit", "show", "l1")["grants"] == []

    def test_it_asks_tells_beforehand_and_is_harmless_again(self, cli: Cli) -> None:
        assert "say it with --yes" in cli("limit", "withdraw", "l1", code=1).err
        assert cli("limit", "withdraw", "l1", "--dry-run").out.startswith("Would withdraw $5.00 more for all until")
        assert len(cli.json("limit", "show", "l1")["grants"]) == 2
        assert cli("limit", "withdraw", "l1", "--user", "bob").out == "Nothing is granted to bob on l1: unchanged.\n"
        assert 'did you mean "alice"' in cli("limit", "withdraw", "l1", "--user", "alicce", code=1).err

    def test_it_ends_also_what_a_removed_user_had(self, cli: Cli) -> None:
        cli("user", "remove", "alice", "--yes")
        assert "for alice" in cli("limit", "withdraw", "l1", "--user", "alice", "--yes").out


@pytest.mark.usefixtures("granted")
class TestWhom:
    def test_a_member_to_whom_the_limit_never_applies_gets_none(self, cli: Cli) -> None:
        failed = cli("limit", "grant", "l1", "--user", "carol", "--cost", "1", "--for", "1d", "--reason", "x", code=1)
        assert failed.err == "error: limit l1 (group sales, each user) never applies to carol; carol is in support\n"
        assert len(cli.json("limit", "show", "l1")["grants"]) == 2

    def test_a_limit_of_one_user_is_raised_for_them_alone(self, cli: Cli) -> None:
        cli("limit", "set", "--user", "alice", "--cost", "9", "--per", "day")
        more = ["--cost", "1", "--for", "1d", "--reason", "x"]
        assert (
            "limit l2 (user alice) never applies to bob"
            in cli("limit", "grant", "l2", "--user", "bob", *more, code=1).err
        )
        assert cli("limit", "grant", "l2", "--user", "alice", *more).out.startswith("$1.00 more for all until")

    def test_who_is_in_a_group_below_or_under_the_organisation_gets_it(self, cli: Cli, filled: Fill) -> None:
        cli("group", "add", "emea", "--parent", "sales")
        filled("emea/dora")
        cli("limit", "set", "--org", "--cost", "9", "--per", "day", "--each", "user")
        more = ["--cost", "1", "--for", "1d", "--reason", "x"]
        cli("limit", "grant", "l1", "--user", "dora", *more)
        cli("limit", "grant", "l2", "--user", "carol", *more)
