"""Grants on the command line: given, seen wherever limits are, and taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from .conftest import Cli
from .shop import DOLLAR, Shop

Fill = Callable[..., None]
LAST_S = 253_402_300_799  # the end of the year 9999, in UTC


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
        assert done.out == "Withdrew $30.00 more for alice until 30 Nov 14:00 UTC, on l1.\n"
        assert [grant["reason"] for grant in cli.json("limit", "show", "l1")["grants"]] == ["fair"]
        (entry,) = cli.json("audit", "--action", "limit withdraw")
        assert entry["before"]["until"] == "2026-11-30T14:00:00Z"
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
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--for", "7d", "--reason", " "], "error: --reason is empty; write --reason TEXT\n"),
        (
            ["--until", "2020-01-01", "--reason", "x"],
            "error: '2020-01-01' has passed already; write a later date or a span such as 90d\n",
        ),
    ],
)
def test_no_hint_of_a_grant_is_refused_in_its_turn(cli: Cli, flags: list[str], told: str) -> None:
    assert cli("limit", "grant", "l1", "--cost", "1", *flags, code=2).err == told


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


@pytest.fixture
async def spending(empty: Path) -> None:
    """sales: alice spent 4 dollars, bob 3."""
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("sales")
        shop.user("alice", "sales")
        shop.user("bob", "sales")
        await shop.call("alice", cost=4 * DOLLAR)
        await shop.call("bob", cost=3 * DOLLAR)


def grant(cli: Cli, limit: str, cost: str, *member: str) -> None:
    cli("limit", "grant", limit, *member, "--cost", cost, "--for", "20d", "--reason", "x")


@pytest.mark.usefixtures("spending")
class TestAmounts:
    def test_a_limit_is_listed_with_amounts_that_add_up(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "8", "--per", "month")
        cli("limit", "set", "--org", "--tokens", "2M", "--per", "day")
        cli("limit", "set", "--org", "--concurrency", "4")
        grant(cli, "l1", "2")
        cli("limit", "grant", "l2", "--tokens", "500k", "--for", "1d", "--reason", "x")
        cli("limit", "grant", "l3", "--concurrency", "1", "--for", "1d", "--reason", "x")
        (row, _, _) = cli.json("limit", "list")
        assert (row["amount"], row["granted"]) == ("8.000000000", "2.000000000")
        exact = {name: Decimal(row[name]) for name in ("amount", "granted", "spent", "held", "left")}
        assert exact["amount"] + exact["granted"] - exact["spent"] - exact["held"] == exact["left"]
        table = cli("limit", "list").out
        assert "$8.00 +$2.00/month" in table
        assert "2,000,000 +500,000 tokens/day" in table
        assert "4 +1 at once" in table
        assert "granted" in cli("limit", "list", "-o", "csv").out.splitlines()[0].split(",")
        assert "Amount   $8.00 +$2.00/month\n" in cli("limit", "show", "l1").out
        cli("limit", "withdraw", "l1", "--yes")
        assert "$8.00/month" in cli("limit", "list").out

    def test_groups_and_users_show_it(self, cli: Cli) -> None:
        cli("limit", "set", "--group", "sales", "--cost", "8", "--per", "month")
        grant(cli, "l1", "2")
        assert "$8.00 +$2.00/month ($3.00 left)" in cli("group", "show", "sales").out
        assert "$8.00 +$2.00/month, sales ($3.00 left)" in cli("user", "show", "alice").out

    def test_members_of_a_limit_on_each_show_what_was_granted_to_them(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "5", "--per", "month", "--each", "user")
        assert "GRANTED" not in cli("limit", "show", "l1").out
        grant(cli, "l1", "2", "--user", "alice")
        shown = cli("limit", "show", "l1").out
        assert "alice    $2.00  $4.00  $0.00  $3.00\n" in shown

    def test_what_is_granted_to_all_counts_before_anybody_called(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "5", "--per", "day", "--each", "user")
        cli("limit", "set", "--org", "--cost", "5", "--per", "day", "--each", "end-user")
        for limit in ("l1", "l2"):
            grant(cli, limit, "2")
        cli.now_s += 2 * 86_400
        assert [row["left"] for row in cli.json("limit", "list")] == ["7.000000000", "7.000000000"]

    def test_reports_count_it_in_notes_as_in_the_total(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "20", "--per", "month")
        grant(cli, "l1", "2")
        lines = cli("usage", "--by", "user").out
        assert "of $22.00\n" in lines
        assert "of $22.00/month on 1 Dec (linear)" in lines

    def test_top_counts_it(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "8", "--per", "month")
        grant(cli, "l1", "2")
        assert "$10.00/month" in cli("top", "--once").out
        (limit,) = cli.json("top")["limits"]
        assert (limit["amount"], limit["granted"], limit["used_percent"]) == ("8.000000000", "2.000000000", 70)


class TestNearest:
    @pytest.mark.usefixtures("spending")
    def test_it_is_who_has_the_least_left_of_the_amount_with_grants(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "5", "--per", "month", "--each", "user")
        assert cli.json("limit", "list")[0]["member"] == "alice"
        grant(cli, "l1", "5", "--user", "alice")
        (row,) = cli.json("limit", "list")
        assert (row["member"], row["granted"], row["left"]) == ("bob", "0.000000000", "2.000000000")
        assert cli.json("limit", "show", "l1")["member"] == "bob"
        assert cli.json("top")["limits"][0] == row | {"used_percent": 60}

    async def test_of_end_users_too(self, cli: Cli, empty: Path) -> None:
        cli("limit", "set", "--org", "--cost", "5", "--per", "month", "--each", "end-user")
        async with Shop(empty / "llmctl.db") as shop:
            shop.user("app")
            await shop.call("app", cost=4 * DOLLAR, end_user="ann")
            await shop.call("app", cost=3 * DOLLAR, end_user="ben")
        assert cli.json("limit", "list")[0]["member"] == "ann"
        grant(cli, "l1", "5", "--end-user", "ann")
        (row,) = cli.json("limit", "list")
        assert (row["member"], row["left"]) == ("ben", "2.000000000")
        cli("limit", "withdraw", "l1", "--yes")
        assert cli.json("limit", "list")[0]["member"] == "ann"


async def test_what_end_users_have_left_is_shown_after_somebody_was_moved(cli: Cli, empty: Path) -> None:
    cli("limit", "set", "--org", "--cost", "5", "--per", "month", "--each", "end-user")
    async with Shop(empty / "llmctl.db") as shop:
        shop.user("app")
        await shop.call("app", cost=4 * DOLLAR + DOLLAR // 2, end_user="ann")
        for number in range(24):
            await shop.call("app", cost=DOLLAR + number, end_user=f"customer-{number}")
    cli("group", "add", "sales")
    cli("user", "move", "app", "--group", "sales")
    (row,) = cli.json("limit", "list")
    assert (row["member"], row["left"]) == ("ann", "0.500000000")
    assert "* nearest of 25: llmctl limit show l1" in cli("limit", "list").out
    found = cli.json("limit", "show", "l1")
    assert [one["member"] for one in found["members"]] == [
        "ann",
        *(f"customer-{number}" for number in range(23, 4, -1)),
    ]
    assert (found["members"][0]["spent"], found["members_more"]) == ("4.500000000", 5)
    shown = cli("limit", "show", "l1").out
    assert "END USER" in shown
    assert "5 more have more left" in shown
    (near,) = cli.json("status")["limits_near"]
    assert (near["member"], near["used_percent"]) == ("ann", 90)


def test_an_end_that_no_date_has_is_refused_and_one_that_is_there_is_read(cli: Cli, empty: Path) -> None:
    cli("group", "add", "tokyo", "--timezone", "Asia/Tokyo")
    cli("limit", "set", "--group", "tokyo", "--requests", "5", "--per", "day")
    grant = ["limit", "grant", "l1", "--requests", "1", "--reason", "x", "--until"]
    failed = cli(*grant, "9999-12-31T23:59:59Z", code=2)
    assert failed.err == "error: '9999-12-31T23:59:59Z' is after the year 8999; check the year\n"
    assert cli.json("limit", "show", "l1")["grants"] == []
    assert "is after the year 8999" in cli("usage", "--until", "9999-12-31T23:59:59Z", code=2).err
    cli(*grant, "2027-01-01")
    with closing(sqlite3.connect(empty / "llmctl.db")) as database, database:
        database.execute("UPDATE grants SET until_at = ?", (LAST_S,))
    assert "1 more for all until 31 Dec 9999 08:59 Asia/Tokyo" in cli("limit", "show", "l1").out
    assert cli.json("limit", "show", "l1")["grants"][0]["until"] == "9999-12-31T23:59:59Z"
    assert cli("limit", "withdraw", "l1", "--yes").out.startswith("Withdrew ")
