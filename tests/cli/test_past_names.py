"""Who was removed or renamed stays in reports and in the audit, and is not taken for who has the name now."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from .conftest import Cli
from .shop import DOLLAR, Shop


@pytest.fixture
async def past(cli: Cli, empty: Path) -> None:
    """bob in sales spent 3 dollars, and is removed, as is the group."""
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("sales")
        shop.group("support")
        shop.user("bob", "sales")
        shop.user("carol", "sales")
        await shop.call("bob", cost=3 * DOLLAR)
        await shop.call("carol", cost=DOLLAR)
    cli("user", "remove", "bob", "--yes")
    cli("group", "remove", "sales", "--move-to", "support", "--yes")


@pytest.fixture
async def again(past: None, cli: Cli, empty: Path) -> None:
    """Another bob, in another group of the same name, who spent 2 dollars."""
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("sales")
        shop.user("bob", "sales")
        await shop.call("bob", cost=2 * DOLLAR)


@pytest.mark.usefixtures("past")
class TestRemoved:
    def test_users_are_reported_and_their_calls_listed(self, cli: Cli) -> None:
        (row,) = cli.json("usage", "--user", "BOB")
        assert row["cost_usd"] == "3.000000000"
        assert cli("usage", "--user", "bob").out.startswith("bob (removed)  1-23 Nov 2026 UTC")
        assert [call["user"] for call in cli.json("calls", "--user", "bob")] == ["bob"]
        assert [call["user"] for call in cli.json("calls", "--key", "bob/default")] == ["bob"]

    def test_groups_are_too(self, cli: Cli) -> None:
        rows = cli.json("usage", "--group", "sales")
        assert [(row["user"], row["cost_usd"]) for row in rows] == [("bob", "3.000000000"), ("carol", "1.000000000")]
        assert cli("usage", "--group", "sales").out.startswith("sales (removed)  1-23 Nov 2026 UTC")
        assert len(cli.json("calls", "--group", "sales")) == 2

    def test_a_name_that_never_was_is_a_slip(self, cli: Cli) -> None:
        assert 'no user "carrol"; did you mean "carol"' in cli("usage", "--user", "carrol", code=1).err
        assert 'no group "suport"; did you mean "support"' in cli("calls", "--group", "suport", code=1).err

    def test_only_reports_know_them(self, cli: Cli) -> None:
        assert 'no user "bob"' in cli("user", "show", "bob", code=1).err
        assert 'no group "sales"' in cli("limit", "list", "--group", "sales", code=1).err


@pytest.mark.usefixtures("again")
def test_a_name_that_is_there_again_means_the_living_one(cli: Cli) -> None:
    assert [row["cost_usd"] for row in cli.json("usage", "--user", "bob")] == ["2.000000000"]
    assert [row["cost_usd"] for row in cli.json("usage", "--group", "sales")] == ["2.000000000"]
    assert [call["cost_usd"] for call in cli.json("calls", "--user", "bob")] == ["2.000000000"]
    assert cli("usage", "--user", "bob").out.startswith("bob  ")


@pytest.mark.usefixtures("again")
class TestTwoOfOneName:
    def test_tables_mark_who_is_gone(self, cli: Cli) -> None:
        def names(by: str) -> list[str]:
            lines = cli("usage", "--by", by).out.splitlines()[3:-1]
            return [line.partition("  ")[0] for line in lines]

        assert names("user") == ["bob (removed)", "bob", "carol"]
        assert names("group") == ["sales (removed)", "sales"]
        assert names("key") == ["bob/default (revoked)", "bob/default", "carol/default"]

    def test_json_csv_and_focus_tell_them_apart_by_their_ids(self, cli: Cli) -> None:
        rows = cli.json("usage", "--by", "user,group")
        assert [row["user"] for row in rows] == ["bob", "bob", "carol"]
        assert len({row["user_id"] for row in rows}) == 3
        assert len({row["group_id"] for row in rows}) == 2
        (first, *_) = cli.json("usage", "--by", "key")
        assert first["key_id"] == cli.json("calls", "--key", first["key_id"])[0]["key_id"]
        assert cli("usage", "--by", "user", "-o", "csv").out.splitlines()[0].endswith(",cost_usd,user_id")
        charges = list(csv.DictReader(io.StringIO(cli("usage", "-o", "focus").out)))
        assert len({(charge["x_User"], charge["x_UserId"], charge["x_KeyId"]) for charge in charges}) == 3
        assert len({charge["x_GroupId"] for charge in charges}) == 2


class TestAudit:
    @pytest.fixture(autouse=True)
    def renamed(self, cli: Cli) -> None:
        cli("user", "add", "carl", "--group", cli.json("group", "add", "sales")["name"])
        cli("limit", "set", "--user", "carl", "--cost", "5", "--per", "day")
        cli("user", "rename", "carl", "carol")
        cli("user", "set", "carol", "--email", "carol@example.org")
        cli("user", "rename", "carol", "zoe")
        cli("user", "add", "carl")

    def test_whoever_was_renamed_is_found_with_the_changes_under_older_names(self, cli: Cli) -> None:
        wanted = ["user rename", "user set", "user rename", "limit set", "key create", "user add"]
        assert [entry["action"] for entry in cli.json("audit", "zoe")] == wanted
        assert [entry["action"] for entry in cli.json("audit", "--subject", "Zoe")] == wanted

    def test_texts_of_before_and_after_are_searched_but_not_what_they_are_called(self, cli: Cli) -> None:
        assert [entry["action"] for entry in cli.json("audit", "@EXAMPLE.org")] == ["user set"]
        assert cli.json("audit", "window") == []

    def test_it_is_sorted_on_demand(self, cli: Cli) -> None:
        ids = [entry["id"] for entry in cli.json("audit", "--sort", "id")]
        assert ids == sorted(ids)
        assert 'did you mean "actor"' in cli("audit", "--sort", "actr", code=2).err

    def test_what_matches_nothing_says_so(self, cli: Cli) -> None:
        assert cli("audit", "nobody").out == "No change matches.\n"
        assert cli("audit", "--until", "2020-01-01").out == "No change matches.\n"
