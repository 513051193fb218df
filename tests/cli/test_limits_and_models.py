from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli

Fill = Callable[..., None]


def test_a_limit_is_set_changed_and_left_unchanged(cli: Cli) -> None:
    assert cli("limit", "set", "--org", "--cost", "200", "--per", "month").out == "Set l1 on org: $200.00/month.\n"
    changed = cli("limit", "set", "--org", "--cost", "300.50", "--per", "month")
    assert changed.out == "Changed l1 on org: $200.00/month -> $300.50/month.\n"
    again = cli.json("limit", "set", "--org", "--cost", "300.5", "--per", "month")
    assert (again["before"], again["amount"], again["changed"]) == ("300.500000000", "300.500000000", False)
    assert "unchanged" in cli("limit", "set", "--org", "--cost", "300.5", "--per", "month").out


def test_limits_of_every_measure_and_scope_are_listed_with_their_standing(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--org", "--tokens", "2M", "--per", "day", "--model", "gpt-5*", "--soft")
    cli("limit", "set", "--group", "sales", "--each", "user", "--requests", "500k", "--per", "week")
    cli("limit", "set", "--user", "alice", "--concurrency", "4")
    cli("limit", "set", "--key", "alice/default", "--cost", "5", "--per", "total")
    rows = cli.json("limit", "list")
    assert [(r["on"], r["name"], r["each"], r["measure"], r["amount"], r["window"]) for r in rows] == [
        ("org", None, None, "tokens", 2_000_000, "day"),
        ("group", "sales", "user", "requests", 500_000, "week"),
        ("user", "alice", None, "concurrency", 4, None),
        ("key", "alice/default", None, "cost", "5.000000000", "total"),
    ]
    assert rows[0]["resets_at"] == "2026-11-24T00:00:00Z"
    assert rows[1]["resets_at"] == "2026-11-30T00:00:00Z"
    assert (rows[0]["models"], rows[0]["soft"]) == ("gpt-5*", True)
    table = cli("limit", "list").out
    assert "2,000,000 tokens/day on gpt-5*, soft" in table
    assert "4 at once" in table
    assert [row["id"] for row in cli.json("limit", "list", "--user", "alice")] == ["l3"]


def test_a_limit_is_removed_by_its_id(cli: Cli) -> None:
    cli("limit", "set", "--org", "--cost", "200", "--per", "month")
    assert cli("limit", "remove", "l1", "--yes").out == "Removed l1: $200.00/month on org.\n"
    assert cli("limit", "remove", "l1", code=1).err == "error: no limit l1; See: llmctl limit list\n"


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        (["--cost", "200", "--per", "month"], "none of --org, --group, --user, --key"),
        (["--org", "--user", "alice", "--cost", "2", "--per", "month"], "more than one of --org"),
        (["--org", "--per", "month"], "none of --cost"),
        (["--org", "--cost", "2", "--tokens", "5", "--per", "month"], "more than one of --cost"),
        (["--org", "--cost", "200"], "--per is missing"),
        (["--org", "--cost", "$200", "--per", "month"], "--cost '$200' is not an amount"),
        (["--org", "--cost", "1e3", "--per", "month"], "--cost '1e3' is not an amount"),
        (["--org", "--cost", "-5", "--per", "month"], "--cost '-5' is not an amount"),
        (["--org", "--tokens", "2MB", "--per", "day"], "--tokens '2MB' is not a number"),
        (["--org", "--cost", "2", "--per", "fortnight"], "--per 'fortnight' is not possible; use minute, hour, day"),
        (["--org", "--concurrency", "2", "--per", "day"], "--concurrency takes no --per"),
        (["--user", "alice", "--each", "user", "--cost", "2", "--per", "day"], "--each user needs --org or --group"),
    ],
)
def test_a_limit_that_cannot_be_understood_is_wrong_usage(cli: Cli, args: list[str], wrong: str) -> None:
    failed = cli("limit", "set", *args, code=2)
    assert wrong in failed.err
    assert failed.err.startswith("error: ")
    assert failed.err.count("\n") == 1
    assert cli.json("limit", "list") == []


def test_limits_per_minute_and_on_each_end_user_are_set_and_shown(cli: Cli) -> None:
    cli("limit", "set", "--org", "--requests", "60", "--per", "minute")
    cli("limit", "set", "--org", "--cost", "5", "--per", "month", "--each", "end-user")
    rows = cli.json("limit", "list")
    assert [(row["window"], row["each"]) for row in rows] == [("minute", None), ("month", "end_user")]
    assert "end-user" in cli("limit", "show", "l2").out


def test_model_rules_are_put_listed_and_taken_back(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    assert cli("model", "allow", "gpt-5*").out == "Allowed gpt-5*; the organisation may now use only: gpt-5*.\n"
    assert cli("model", "allow", "gpt-5*").out == "gpt-5* is allowed for organisation already: unchanged.\n"
    cli("model", "deny", "openai/gpt-5-pro", "--group", "sales")
    rows = cli.json("model", "list")
    assert [(r["on"], r["name"], r["effect"], r["pattern"]) for r in rows] == [
        ("org", None, "allow", "gpt-5*"),
        ("group", "sales", "deny", "openai/gpt-5-pro"),
    ]
    assert len(cli.json("model", "list", "--group", "sales")) == 1
    assert "say it with --yes" in cli("model", "reset", "gpt-5*", code=1).err
    assert cli("model", "reset", "gpt-5*", "--dry-run").out.startswith("Would remove the rule on organisation: ")
    assert cli.json("model", "reset", "gpt-5*", "--yes")["changed"] is True
    assert cli("model", "reset", "gpt-5*").out == "There is no rule for gpt-5* on organisation: unchanged.\n"
    assert "is not a model pattern" in cli("model", "deny", "a b", code=2).err
    assert cli("model", "deny", "x", "--group", "sales", "--user", "alice", code=2).err.startswith("error: more than")


def test_a_model_rule_says_what_is_left_and_what_it_lifts(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")

    def said(effect: str, pattern: str, *flags: str) -> str:
        return cli("model", effect, pattern, "--group", "sales", *flags).out

    assert said("deny", "o4") == "Denied o4; group sales may now use all models but: o4.\n"
    assert said("allow", "o4") == ("Allowed o4; group sales may now use only: o4. The rule to deny o4 is lifted.\n")
    assert cli.json("model", "deny", "o4", "--group", "sales")["replaced"] == "allow"
    assert said("allow", "gpt-*") == "Allowed gpt-*; group sales may now use only: gpt-*; and not: o4.\n"
    assert said("reset", "gpt-*", "--yes").endswith("allow gpt-*; group sales may now use all models but: o4.\n")


def test_a_limit_is_shown_with_its_members(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--group", "sales", "--each", "user", "--cost", "50", "--per", "month")
    shown = cli.json("limit", "show", "l1")
    assert (shown["id"], shown["amount"], shown["members"]) == ("l1", "50.000000000", [])
    assert cli("limit", "show", "l1").out.startswith("Limit   l1 on sales, each user\nAmount  $50.00/month\n")


def test_a_grant_allows_more_for_a_time_and_is_shown(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--group", "sales", "--cost", "20", "--per", "day", "--each", "user")
    done = cli("limit", "grant", "l1", "--user", "alice", "--cost", "30", "--for", "7d", "--reason", "launch week")
    assert "$30.00 more for alice until" in done.out
    (grant,) = cli.json("limit", "show", "l1")["grants"]
    assert (grant["member"], grant["amount"], grant["reason"]) == ("alice", "30.000000000", "launch week")
    assert "launch week" in cli("limit", "show", "l1").out
    (entry,) = cli.json("audit", "--action", "limit grant")
    assert entry["after"]["reason"] == "launch week"


def test_in_the_audit_a_grant_reads_as_a_limit_does(cli: Cli) -> None:
    cli("limit", "set", "--org", "--cost", "5000", "--per", "day")
    cli("limit", "set", "--org", "--concurrency", "4")
    cli("limit", "set", "--org", "--tokens", "2M", "--per", "day")
    for limit, much in (("l1", ["--cost", "1500"]), ("l2", ["--concurrency", "2"]), ("l3", ["--tokens", "500k"])):
        cli("limit", "grant", limit, *much, "--for", "1d", "--reason", "x")
    shown = cli("audit", "--action", "limit grant").out
    assert all(f"  {text}, until" in shown for text in ("$1,500.00", "2 at once", "500,000 tokens"))


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        (["--cost", "5"], "how long is not said"),
        (["--cost", "5", "--for", "never"], "a grant has an end"),
        (["--cost", "5", "--for", "1d", "--until", "2099-01-01"], "both given"),
    ],
)
def test_a_grant_that_makes_no_sense_is_wrong_usage(cli: Cli, filled: Fill, args: list[str], wrong: str) -> None:
    filled("sales/alice")
    cli("limit", "set", "--org", "--cost", "20", "--per", "day")
    assert wrong in cli("limit", "grant", "l1", *args, "--reason", "x", code=2).err


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (["--tokens", "5"], "limit l1 is on cost; write --cost"),
        (["--cost", "5", "--user", "alice"], "limit l1 is not on each user; leave out --user"),
        (["--cost", "5", "--end-user", "eve"], "limit l1 is not on each end-user; leave out --end-user"),
    ],
)
def test_a_grant_that_the_limit_has_no_room_for_is_refused(
    cli: Cli, filled: Fill, args: list[str], refused: str
) -> None:
    filled("sales/alice")
    cli("limit", "set", "--org", "--cost", "20", "--per", "day")
    failed = cli("limit", "grant", "l1", *args, "--for", "1d", "--reason", "x", "-o", "json", code=1).error
    assert (failed["code"], f"{failed['message']}; {failed['hint']}") == ("does_not_fit", refused)


def test_times_of_limits_name_their_zone(cli: Cli) -> None:
    cli("limit", "set", "--org", "--cost", "20", "--per", "day")
    assert "RESETS UTC\n" in cli("limit", "list").out
    assert cli("limit", "list").out.endswith("  24 Nov\n")
    cli("group", "add", "emea", "--timezone", "Europe/Berlin")
    cli("limit", "set", "--group", "emea", "--cost", "20", "--per", "day")
    rows = cli("limit", "list").out.splitlines()
    assert rows[0].endswith("RESETS")
    assert [row.rpartition("24 Nov ")[2] for row in rows[1:]] == ["UTC", "Europe/Berlin"]
    assert cli("limit", "list", "--group", "emea").out.splitlines()[0].endswith("RESETS Europe/Berlin")
    assert cli("limit", "show", "l2").out.endswith("Resets  24 Nov Europe/Berlin\n")
    more = cli("limit", "grant", "l2", "--cost", "1", "--for", "1d", "--reason", "x").out
    assert more.startswith("$1.00 more for all until 24 Nov 15:00 Europe/Berlin, on l2")


class TestAnAlias:
    """`fast` is openai/gpt-5 here."""

    def test_in_a_rule_is_the_model_behind_it(self, cli: Cli) -> None:
        assert cli("model", "deny", "fast").out == (
            "fast is openai/gpt-5. Denied openai/gpt-5; the organisation may now use all models but: openai/gpt-5.\n"
        )
        assert cli("model", "deny", "fast").out == (
            "fast is openai/gpt-5. openai/gpt-5 is denied for organisation already: unchanged.\n"
        )
        allowed = cli.json("model", "allow", "fast")
        assert (allowed["pattern"], allowed["replaced"]) == ("openai/gpt-5", "deny")
        assert [row["pattern"] for row in cli.json("model", "list")] == ["openai/gpt-5"]
        assert cli("model", "deny", "fast*").out.startswith("Denied fast*; ")  # a pattern is no name

    def test_binds_who_asks_by_it(self, cli: Cli) -> None:
        cli("user", "add", "alice")
        cli("model", "deny", "fast", "--user", "alice")
        assert "denied for user alice by the rule openai/gpt-5" in cli("why", "--user", "alice", "--model", "fast").out

    def test_takes_its_rule_away_again(self, cli: Cli) -> None:
        cli("model", "deny", "fast")
        assert "fast is openai/gpt-5. Would remove the rule" in cli("model", "reset", "fast", "--dry-run").out
        assert cli.json("model", "reset", "fast", "--yes")["pattern"] == "openai/gpt-5"
        assert cli("model", "reset", "fast").out == (
            "fast is openai/gpt-5. There is no rule for openai/gpt-5 on organisation: unchanged.\n"
        )

    def test_leaves_a_rule_from_before_it_to_be_reset(self, cli: Cli, empty: Path) -> None:
        config = (empty / "config.toml").read_text()
        (empty / "config.toml").write_text(config.replace("fast =", "swift ="))
        cli("model", "deny", "fast")
        (empty / "config.toml").write_text(config)
        assert cli("model", "reset", "fast", "--yes").out.startswith("Removed the rule on organisation: deny fast; ")
        assert cli.json("model", "list") == []

    def test_in_a_limit_is_the_model_behind_it(self, cli: Cli) -> None:
        limit = ["limit", "set", "--org", "--cost", "5", "--per", "day", "--model", "fast"]
        assert cli(*limit, "--dry-run").out.startswith("fast is openai/gpt-5. $5.00/day on openai/gpt-5 on ")
        assert cli(*limit).out == "fast is openai/gpt-5. Set l1 on org: $5.00/day on openai/gpt-5.\n"
        again = cli.json(*limit)
        assert (again["models"], again["changed"]) == ("openai/gpt-5", False)


NAMES_NOBODY = "acts for end users. Next: llmctl key create"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (["--org"], f"! This limit binds nobody: no key of the organisation {NAMES_NOBODY} USER --name app"),
        (["--group", "sales"], f"! This limit binds nobody: no key of group sales {NAMES_NOBODY} USER --name app"),
        (["--user", "shop"], f"! This limit binds nobody: no key of user shop {NAMES_NOBODY} shop --name app"),
        (["--key", "shop"], "! This limit binds nobody: key shop/default does not act for end users. Set it on one"),
    ],
)
def test_a_limit_on_each_end_user_of_keys_that_name_none_says_so(
    cli: Cli, filled: Fill, where: list[str], says: str
) -> None:
    filled("sales/shop", "other")
    cli("key", "create", "other", "--name", "app", "--acts-for-end-users")
    if where == ["--org"]:
        cli("key", "revoke", "other/app")
    limit = ["limit", "set", *where, "--each", "end-user", "--cost", "1", "--per", "day"]
    told = cli(*limit).err
    assert told.startswith(says) and told.endswith(" --acts-for-end-users\n")
    assert cli(*limit, "-o", "json").err == told


@pytest.mark.parametrize("where", [["--org"], ["--group", "all"], ["--group", "sales"], ["--user", "shop"]])
def test_a_limit_on_each_end_user_of_a_key_that_names_them_is_set_without_more(
    cli: Cli, filled: Fill, where: list[str]
) -> None:
    filled("sales/shop")
    cli("group", "add", "all")
    cli("group", "set", "sales", "--parent", "all")
    cli("key", "create", "shop", "--name", "app", "--acts-for-end-users")
    limit = ["limit", "set", *where, "--each", "end-user", "--cost", "1", "--per", "day"]
    assert cli(*limit).err == ""
    cli("key", "revoke", "shop/app")
    assert "binds nobody" in cli(*limit).err


def test_what_is_set_above_somebody_is_told_where_nothing_is_set_on_them(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("user", "add", "bob", "--group", "sales")
    assert cli("limit", "list", "--user", "bob").out.startswith("No limits on user bob, nor above it")
    assert cli("model", "list", "--user", "bob").out == "No rules on user bob, nor above it.\n"
    cli("limit", "set", "--org", "--cost", "5", "--per", "month")
    cli("model", "allow", "small", "--group", "sales")
    assert cli("limit", "list", "--user", "bob").out == ("No limits on user bob itself; from above it: l1 on org.\n")
    assert cli("limit", "list", "--key", "bob/default").out.endswith("from above it: l1 on org.\n")
    above = "group sales may use only: small"
    assert cli("model", "list", "--user", "bob").out == f"No rules on user bob itself; {above}.\n"
    said = cli("model", "allow", "large", "--user", "bob").out
    assert said == f"Allowed large; user bob may now use only: large, where all agree: {above}.\n"
    said = cli("model", "reset", "large", "--user", "bob", "--yes").out
    assert said.endswith(f"user bob may now use all models, where all agree: {above}.\n")


def test_amounts_that_differ_by_less_than_a_cent_are_told_apart(cli: Cli) -> None:
    cli("user", "add", "bob")
    assert cli("limit", "set", "--user", "bob", "--cost", "0.019", "--per", "day").out == "Set l1 on bob: $0.019/day.\n"
    said = cli("limit", "set", "--user", "bob", "--cost", "0.0151", "--per", "day").out
    assert said == "Changed l1 on bob: $0.019/day -> $0.0151/day.\n"
    assert "$0.019/day -> $0.0151/day" in cli("audit").out
    said = cli("limit", "set", "--user", "bob", "--cost", "0.0151", "--per", "day", "-o", "json").out
    assert json.loads(said)["changed"] is False


def test_a_users_own_limit_on_each_end_user_is_shown_with_the_user(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--user", "alice", "--each", "end-user", "--cost", "1", "--per", "day")
    cli("limit", "set", "--user", "alice", "--cost", "20", "--per", "month")
    assert "Limits  $1.00/day for each end-user\n        $20.00/month, own\n" in cli("user", "show", "alice").out
    limits = cli.json("user", "show", "alice")["limits"]
    assert [(one["on"], one["name"], one["each"]) for one in limits] == [
        ("user", "alice", "end_user"),
        ("user", "alice", None),
    ]
