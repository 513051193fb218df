"""Reports and single calls, over what the real ledger booked."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from llmctl.domain.usage import USAGE_CLASSES, Usage

from .conftest import Cli
from .shop import DAY_S, DOLLAR, NOW_S, Shop

HOSTILE = "x[/bold]"
WIDE = "模型-大きい"


@pytest.fixture
async def shop(empty: Path) -> None:
    """sales (alice, bob) with a subgroup emea (dora, in Berlin); solo in no group."""
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("sales")
        shop.group("emea", parent="sales", timezone="Europe/Berlin")
        shop.user("alice", "sales")
        shop.user("bob", "sales")
        shop.user("dora", "emea")
        shop.user("solo")
        for days in range(3):
            await shop.call("alice", at_s=NOW_S - days * DAY_S, cost=10 * DOLLAR)
        await shop.call("bob", model="gpt-5-mini", cost=2 * DOLLAR)
        await shop.call("bob", model=HOSTILE, cost=None)
        await shop.call("bob", model=WIDE, provider="local", cost=1)
        await shop.call("bob", model="=cmd()", provider="local", usage_source="estimated", status=None)
        await shop.call("bob", cost=0, status=500, error="server_error", usage=Usage(), usage_source=None)
        # 23:30 UTC is the next day in Berlin.
        await shop.call("dora", at_s=NOW_S - NOW_S % DAY_S - 1_800, cost=5 * DOLLAR)
        await shop.call("solo", cost=DOLLAR, asked="fast")
        await shop.call("solo", at_s=NOW_S - 40 * DAY_S, cost=70 * DOLLAR)
        await shop.call("alice", settle=False)
        shop.refused("alice")


@pytest.fixture
async def tagged(shop: None, empty: Path) -> None:
    async with Shop(empty / "llmctl.db") as again:
        again.knows("alice")
        await again.call("alice", cost=3 * DOLLAR, tags="nightly,team=a")
        await again.call("alice", cost=2 * DOLLAR, tags="nightly")
        await again.call("alice", cost=DOLLAR, end_user="customer-7")


FIELDS = [
    "calls",
    "errors",
    "estimated_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
]


@pytest.mark.usefixtures("shop")
class TestUsage:
    def test_the_organisation_is_shown_by_group_this_month_and_rows_are_direct(self, cli: Cli) -> None:
        rows = cli.json("usage")
        assert list(rows[0]) == ["group", *FIELDS, "group_id"]
        assert [(row["group"], row["calls"], row["cost_usd"]) for row in rows] == [
            ("sales", 8, "32.010000001"),
            ("emea", 1, "5.000000000"),
            (None, 1, "1.000000000"),
        ]
        assert (rows[0]["errors"], rows[0]["estimated_calls"], rows[0]["unpriced_calls"]) == (1, 1, 1)

    def test_a_group_includes_the_groups_below_it_and_is_shown_by_user(self, cli: Cli) -> None:
        rows = cli.json("usage", "--group", "sales")
        assert [(row["user"], row["calls"]) for row in rows] == [("alice", 3), ("dora", 1), ("bob", 5)]

    def test_a_user_is_shown_by_model_and_what_has_no_price_is_null(self, cli: Cli) -> None:
        rows = {row["model"]: row for row in cli.json("usage", "--user", "bob")}
        assert set(rows) == {"gpt-5", "gpt-5-mini", HOSTILE, WIDE, "=cmd()"}
        assert (rows[HOSTILE]["cost_usd"], rows[HOSTILE]["unpriced_calls"]) == (None, 1)
        assert rows[WIDE]["cost_usd"] == "0.000000001"

    def test_days_are_those_of_the_group(self, cli: Cli) -> None:
        (row,) = cli.json("usage", "--group", "emea", "--by", "day")
        assert row["day"] == "2026-11-23"
        days = [row["day"] for row in cli.json("usage", "--by", "day", "--user", "dora")]
        assert days == ["2026-11-23"]
        assert "2026-11-22" in [row["day"] for row in cli.json("usage", "--by", "day")]

    def test_several_columns_and_periods_in_order(self, cli: Cli) -> None:
        rows = cli.json("usage", "--by", "user,day", "--last", "7d", "--group", "sales")
        assert [(row["user"], row["day"]) for row in rows if row["user"] == "alice"] == [
            ("alice", "2026-11-21"),
            ("alice", "2026-11-22"),
            ("alice", "2026-11-23"),
        ]
        hours = cli.json("usage", "--by", "hour", "--since", "today", "--user", "alice")
        assert [row["hour"] for row in hours] == ["2026-11-23T14:00:00Z"]
        assert [row["month"] for row in cli.json("usage", "--by", "month", "--since", "2026-01-01")] == [
            "2026-10",
            "2026-11",
        ]
        assert cli.json("usage", "--by", "week")[0]["week"] == "2026-11-16"

    def test_filters_narrow_by_model_alias_provider_and_time(self, cli: Cli) -> None:
        assert sum(row["calls"] for row in cli.json("usage", "--model", "gpt-5*")) == 7
        assert sum(row["calls"] for row in cli.json("usage", "--model", "fast")) == 6
        assert sum(row["calls"] for row in cli.json("usage", "--provider", "local")) == 2
        assert sum(row["calls"] for row in cli.json("usage", "--until", "2026-11-22")) == 1
        assert cli.json("usage", "--key", "dora/default")[0]["calls"] == 1
        assert 'no provider "locla"' in cli("usage", "--provider", "locla", code=1).err

    def test_the_heading_names_every_filter(self, cli: Cli) -> None:
        both = cli("usage", "--group", "sales", "--user", "solo").out
        assert both.startswith("sales, solo  1-23 Nov 2026 UTC")
        assert cli("usage", "--user", "solo").out.startswith("solo  1-23 Nov")

    def test_the_table_has_totals_limits_trends_and_notes(self, cli: Cli) -> None:
        cli("limit", "set", "--group", "sales", "--cost", "100", "--per", "month")
        cli("limit", "set", "--group", "sales", "--each", "user", "--cost", "40", "--per", "month")
        lines = cli("usage", "--group", "sales").out.splitlines()
        assert lines[0] == "sales  1-23 Nov 2026 UTC   1 open call holds $0.01"
        assert lines[2].split() == ["USER", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "OF", "LIMIT", "7", "DAYS"]
        assert lines[3].startswith("alice      3   3.0k     40%     600   $30.00   ███████░░░  75%")
        assert lines[3].endswith("▁▁▁▁███")
        assert lines[6].startswith("TOTAL      9")
        assert lines[6].endswith("███░░░░░░░  37%  of $100.00")
        assert "! 1 call without a price, not in COST (+): llmctl calls --group sales --unpriced" in lines
        assert "! 1 call estimated (~): llmctl calls --group sales --estimated" in lines
        assert "! 1 call failed: llmctl calls --group sales --failed" in lines

    def test_beside_the_total_a_limit_stands_as_it_was_set(self, cli: Cli) -> None:
        cli("limit", "set", "--group", "sales", "--cost", "0.0015", "--per", "month")
        assert cli("usage", "--group", "sales").out.splitlines()[6].endswith("of $0.0015")

    def test_where_spending_leads_is_told_and_said_to_be_linear(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "100", "--per", "month")
        cli("limit", "set", "--user", "alice", "--cost", "35", "--per", "month")
        cli("limit", "set", "--user", "dora", "--cost", "4", "--per", "month")
        notes = cli("usage", "--group", "sales").out.splitlines()[8:]
        # 30 dollars in 22 days and 14 hours: 35 after 26 days and 8 hours.
        assert notes[:2] == [
            "! dora has spent $4.00/month; resets 1 Dec",
            "! alice reaches $35.00/month about 27 Nov (linear)",
        ]
        assert "organisation ends near $50.49 of $100.00/month on 1 Dec (linear)" in cli("usage").out
        cli("limit", "set", "--org", "--cost", "40", "--per", "month")
        assert "! organisation reaches $40.00/month about 24 Nov (linear)" in cli("usage").out

    async def test_of_a_minute_that_slides_nothing_is_foretold(self, cli: Cli, empty: Path) -> None:
        cli.now_s = NOW_S + 4
        async with Shop(empty / "llmctl.db", now_s=cli.now_s) as again:
            again.knows("alice")
            await again.call("alice", at_s=NOW_S + 1)
        cli("limit", "set", "--org", "--cost", "0.012", "--per", "minute")
        assert "linear" not in cli("usage").out
        assert [limit["runs_out_at_linear"] for limit in cli.json("status")["limits_near"]] == [None]

    def test_groups_are_a_tree_whose_own_lines_add_up_and_whose_sums_limits_count(self, cli: Cli) -> None:
        cli("limit", "set", "--group", "sales", "--cost", "100", "--per", "month")
        lines = [line.split("  ▁")[0].rstrip() for line in cli("usage").out.splitlines()[3:8]]
        assert [line[:17].rstrip() for line in lines] == ["sales", "  emea", "= sales in all", "(no group)", "TOTAL"]
        assert [line.split()[-5] for line in lines if "░" not in line] == ["8", "1", "1", "10"]
        assert "37%" in lines[2]
        below = cli("usage", "--group", "emea", "--by", "group").out
        assert "sales" not in below

    def test_unpriced_and_estimated_calls_mark_the_cost_of_their_line(self, cli: Cli) -> None:
        by_model = {line.split()[0]: line for line in cli("usage", "--user", "bob").out.splitlines()[3:9]}
        assert "unpriced" in by_model[HOSTILE]
        assert " ~$0.01 " in by_model["=cmd()"]
        assert "~$2.01+" in by_model["TOTAL"]

    def test_by_end_user_agrees_with_the_other_reports(self, cli: Cli) -> None:
        for by in ("end-user", "end-user,day", "user,end-user"):
            rows = cli.json("usage", "--by", by)
            assert sum(row["calls"] for row in rows) == 10
            for name in ("errors", "estimated_calls", "unpriced_calls", "input_tokens"):
                assert sum(row[name] for row in rows) == sum(row[name] for row in cli.json("usage"))
        days = {row["day"]: row["calls"] for row in cli.json("usage", "--by", "end-user,day")}
        assert days == {row["day"]: row["calls"] for row in cli.json("usage", "--by", "day")}

    def test_by_tag_a_call_counts_in_each_of_its_tags_and_once_in_the_total(self, cli: Cli, tagged: None) -> None:
        rows = {row["tag"]: row for row in cli.json("usage", "--by", "tag")}
        assert {tag: (row["calls"], row["cost_usd"]) for tag, row in rows.items() if tag} == {
            "nightly": (2, "5.000000000"),
            "team=a": (1, "3.000000000"),
        }
        assert rows[None]["calls"] == 12  # one was open, and is recovered
        lines = cli("usage", "--by", "tag").out.splitlines()
        assert [line.split()[1] for line in lines if line.startswith("TOTAL")] == ["14"]
        assert "Calls with several tags are in several lines." in lines
        assert [call["tags"] for call in cli.json("calls", "--user", "alice", "--tag", "nightly")] == [
            ["nightly"],
            ["nightly", "team=a"],
        ]

    def test_one_tag_and_one_end_user_are_reported_and_listed(self, cli: Cli, tagged: None) -> None:
        (row,) = cli.json("usage", "--tag", "nightly")
        assert (row["group"], row["calls"], row["cost_usd"]) == ("sales", 2, "5.000000000")
        assert cli.json("usage", "--tag", "team=a", "--by", "user")[0]["cost_usd"] == "3.000000000"
        assert [call["tags"] for call in cli.json("calls", "--tag", "team=a")] == [["nightly", "team=a"]]
        assert cli("usage", "--tag", "team=a").out.startswith("organisation  tag team=a  ")
        (row,) = cli.json("usage", "--end-user", "customer-7", "--by", "end-user")
        assert (row["end_user"], row["calls"], row["cost_usd"]) == ("customer-7", 1, "1.000000000")
        assert [call["end_user"] for call in cli.json("calls", "--end-user", "customer-7")] == ["customer-7"]

    def test_calls_with_and_without_labels_add_up_to_what_other_reports_say(self, cli: Cli, tagged: None) -> None:
        by_user = {row["user"]: row["calls"] for row in cli.json("usage", "--by", "user")}
        for label in ("end-user", "tag,end-user"):
            found: dict[str, int] = {}
            for row in cli.json("usage", "--by", f"user,{label}", "--end-user", "customer-7"):
                assert (row["user"], row["calls"]) == ("alice", 1)
            for row in cli.json("usage", "--by", f"{label},user", "--model", "gpt-5*"):
                found[row["user"]] = found.get(row["user"], 0) + row["calls"] * (row.get("tag") != "team=a")
            assert found == {
                row["user"]: row["calls"] for row in cli.json("usage", "--by", "user", "--model", "gpt-5*")
            }
        days = cli.json("usage", "--by", "day,end-user")
        assert sum(row["calls"] for row in days) == sum(by_user.values())
        assert [row["end_user"] for row in days if row["day"] == "2026-11-23"] == [None, "customer-7"]

    def test_a_tag_or_end_user_that_no_call_has_is_told(self, cli: Cli, tagged: None) -> None:
        assert 'no call has the tag "team=b"' in cli("usage", "--tag", "team=b", code=1).err
        assert 'no call has the tag "night"' in cli("calls", "--tag", "night", code=1).err
        assert 'no call is for the end user "x"' in cli("calls", "--end-user", "x", code=1).err

    def test_tags_go_with_pruned_calls_and_the_report_says_so(self, cli: Cli, tagged: None) -> None:
        assert "pruned" not in cli("usage", "--by", "tag").out
        cli.now_s += 60 * DAY_S
        cli("prune", "--keep", "50d", "--yes")
        assert "! calls before " in cli("usage", "--by", "tag", "--since", "2026-11-01").out
        assert "pruned" not in cli("usage", "--by", "tag", "--last", "7d").out

    def test_the_first_rows_in_an_order_and_the_rest_as_one(self, cli: Cli) -> None:
        def names(*flags: str) -> list[str]:
            return [row["user"] for row in cli.json("usage", "--by", "user", *flags)]

        assert names("--sort", "-cost", "-n", "2") == names("-n", "2") == ["alice", "dora"]
        assert names("--sort", "cost", "-n", "1") == names("--sort", "cost_usd", "-n", "1") == ["solo"]
        assert names("--sort", "-calls", "-n", "1") == ["bob"]
        assert names("--sort", "-name") == names("--sort", "-user") == ["solo", "dora", "bob", "alice"]
        assert names("--sort", "name") == ["alice", "bob", "dora", "solo"]
        lines = cli("usage", "--by", "user", "-n", "1").out.splitlines()
        assert [line.split("  ")[0] for line in lines[3:6]] == ["alice", "(3 more)", "TOTAL"]
        assert [line.split("$")[1].split()[0] for line in lines[3:6]] == ["30.00", "8.01+", "38.01+"]
        assert "= sales" not in cli("usage", "--sort", "calls").out
        assert "use cost, calls, input, output, errors, name" in cli("usage", "--sort", "size", code=2).err
        assert 'did you mean "calls"?' in cli("usage", "--sort", "-cals", code=2).err
        assert 'did you mean "model"?' in cli("usage", "--by", "modell", code=2).err
        assert cli("usage", "-n", "0", code=2)

    def test_by_month_and_user_the_dearest_rows_stay_in_the_order_of_months(self, cli: Cli) -> None:
        flags = ["usage", "--by", "month,user", "--since", "2026-01-01"]
        rows = cli.json(*flags, "-n", "2")
        assert [(row["month"], row["user"]) for row in rows] == [("2026-10", "solo"), ("2026-11", "alice")]
        lines = cli(*flags, "-n", "1").out.splitlines()
        assert [line.split("$")[-1].split()[0] for line in lines[3:6]] == ["70.00", "38.01+", "108.01+"]

    def test_reports_of_the_past_say_nothing_of_limits_today(self, cli: Cli) -> None:
        cli("limit", "set", "--org", "--cost", "100", "--per", "month")
        assert "OF LIMIT" in cli("usage").out
        assert "OF LIMIT" not in cli("usage", "--until", "2026-11-22").out

    def test_ascii_where_the_locale_is_not_utf8(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        cli("limit", "set", "--group", "sales", "--cost", "100", "--per", "month")
        monkeypatch.setenv("LC_ALL", "C")
        assert cli("usage").out.isascii()

    def test_csv_has_no_totals_and_no_formulas(self, cli: Cli) -> None:
        rows = list(csv.DictReader(io.StringIO(cli("usage", "--user", "bob", "-o", "csv").out)))
        assert list(rows[0]) == ["model", *FIELDS]
        assert "'=cmd()" in [row["model"] for row in rows]
        assert "TOTAL" not in [row["model"] for row in rows]
        assert [row["cost_usd"] for row in rows if row["model"] == HOSTILE] == [""]

    def test_what_is_disabled_or_revoked_still_shows_by_name(self, cli: Cli) -> None:
        cli("user", "disable", "alice")
        cli("key", "revoke", "alice/default")
        assert "alice" in [row["user"] for row in cli.json("usage", "--group", "sales")]
        assert cli.json("usage", "--key", "alice/default")[0]["calls"] == 3

    def test_nothing_used_is_an_empty_report(self, cli: Cli) -> None:
        assert cli.json("usage", "--until", "2020-01-02", "--since", "2020-01-01") == []
        assert "No calls." in cli("usage", "--until", "2020-01-02", "--since", "2020-01-01").out


CALL_FIELDS = [
    *[
        "id",
        "started_at",
        "user",
        "group",
        "key",
        "end_user",
        "tags",
        "provider",
        "dialect",
        "endpoint",
        "request_model",
        "response_model",
    ],
    *["stream", "state", "status", "error", "usage_source"],
    *USAGE_CLASSES,
    *["cost_usd", "price_source", "latency_ms", "ttft_ms"],
]


@pytest.mark.usefixtures("shop")
class TestCalls:
    def test_every_documented_field_is_there(self, cli: Cli) -> None:
        rows = cli.json("calls")
        assert len(rows) == 13
        for row in rows:
            assert set(CALL_FIELDS) <= set(row)
        row = cli.json("calls", "--user", "dora")[0]
        assert row["started_at"] == "2026-11-22T23:30:00.000Z"
        assert (row["user"], row["group"], row["key"], row["state"]) == ("dora", "emea", "dora/default", "settled")
        assert (row["input_tokens"], row["cost_usd"], row["latency_ms"]) == (1_000, "5.000000000", 840)

    def test_the_newest_come_first_and_n_bounds_them(self, cli: Cli) -> None:
        ids = [row["id"] for row in cli.json("calls")]
        assert ids == sorted(ids, reverse=True)
        assert [row["id"] for row in cli.json("calls", "-n", "2")] == ids[:2]

    @pytest.mark.parametrize(
        ("flags", "count"),
        [
            (["--failed"], 1),
            (["--estimated"], 1),
            (["--unpriced"], 1),
            (["--refused"], 1),
            (["--failed", "--refused"], 2),
            (["--group", "sales"], 11),
            (["--user", "solo"], 2),
            (["--user", "solo", "--last", "7d"], 1),
            (["--model", "gpt-5", "--user", "alice"], 5),
            (["--since", "2026-11-22", "--until", "2026-11-23"], 2),
            (["--provider", "local"], 2),
        ],
    )
    def test_filters(self, cli: Cli, flags: list[str], count: int) -> None:
        assert len(cli.json("calls", *flags)) == count

    def test_the_table_tells_what_became_of_each(self, cli: Cli) -> None:
        lines = cli("calls").out.splitlines()
        assert " ".join(lines[0].split()) == "ID TIME UTC KEY PROVIDER MODEL ENDPOINT INPUT OUTPUT COST LATENCY RESULT"
        shown = "\n".join(lines)
        for text in (
            "refused 403 model_not_allowed",
            "($0.01)        -  open",
            "500 server_error",
            "client gone estimated",
            "unpriced",
            "<$0.01",
            f"openai    {HOSTILE}",
            f"local     {WIDE}",
            "fast = gpt-5",
        ):
            assert text in shown, text

    async def test_an_open_call_without_a_price_holds_no_money_and_is_not_free(self, cli: Cli, empty: Path) -> None:
        async with Shop(empty / "llmctl.db") as shop:
            shop.user("erna")
            await shop.call("erna", cost=None, settle=False)
        assert cli("calls", "--user", "erna").out.splitlines()[1].endswith("(unpriced)        -  open")

    def test_json_and_csv_agree(self, cli: Cli) -> None:
        rows = list(csv.DictReader(io.StringIO(cli("calls", "-o", "csv").out)))
        assert [row["id"] for row in rows] == [row["id"] for row in cli.json("calls")]
        assert {row["stream"] for row in rows} == {"false"}

    def test_json_escapes_what_a_terminal_would_obey(self, cli: Cli) -> None:
        out = cli("calls", "-o", "json").out
        assert all(char.isprintable() or char == "\n" for char in out)
        assert json.loads(out)

    def test_times_are_in_the_zone_of_the_group_that_is_shown(self, cli: Cli) -> None:
        shown = cli("calls", "--group", "emea").out
        assert "TIME Berlin" in shown
        assert "23 Nov 00:30" in shown or "00:30:00" in shown


@pytest.mark.usefixtures("shop")
def test_calls_are_sorted_on_demand(cli: Cli) -> None:
    costs = [call["cost_usd"] for call in cli.json("calls", "--sort", "-cost_usd", "--user", "bob")]
    assert costs[:2] == ["2.000000000", "0.010000000"]
    assert costs[-1] is None
    newest = [call["id"] for call in cli.json("calls", "-n", "3")]
    assert {call["id"] for call in cli.json("calls", "-n", "3", "--sort", "-cost_usd")} == set(newest)
    assert "Only the N newest. Default: 50" in " ".join(cli("calls", "--help").out.split())
    assert "leave out --sort" in cli("calls", "--follow", "--sort", "id", code=2).err


async def test_the_times_asked_for_are_those_that_count(cli: Cli, empty: Path) -> None:
    async with Shop(empty / "llmctl.db") as shop:
        shop.user("alice")
        for minutes in (50, 48, 45, 40, 2):  # 13:10 to 13:58
            await shop.call("alice", at_s=NOW_S - minutes * 60)
    window = ["--since", "2026-11-23T13:11", "--until", "2026-11-23T13:20"]
    assert [row["calls"] for row in cli.json("usage", *window)] == [2]
    assert "23 Nov 13:11 - 23 Nov 2026 13:20 UTC" in cli("usage", *window).out
    assert [row["calls"] for row in cli.json("usage", "--last", "5m")] == [1]
    assert [row["calls"] for row in cli.json("usage", "--last", "46m", "--by", "hour")] == [3]
    exported = list(csv.DictReader(io.StringIO(cli("usage", *window, "-o", "focus").out)))
    assert sum(int(row["x_Calls"]) for row in exported) == 2
    assert cli("usage", *window, "-o", "csv").err == ""


async def test_where_pruned_calls_are_counted_beside_it_a_report_says_so(cli: Cli, empty: Path) -> None:
    async with Shop(empty / "llmctl.db") as shop:
        shop.user("alice")
        for minutes in (50, 48, 46, 40):
            await shop.call("alice", at_s=NOW_S - 9 * DAY_S - minutes * 60)
    window = ["--since", "2026-11-14T13:11", "--until", "2026-11-14T13:20"]
    assert [row["calls"] for row in cli.json("usage", *window)] == [2]
    cli("prune", "--keep", "2d", "--yes")
    assert [row["calls"] for row in cli.json("usage", *window)] == [4]
    shown = cli("usage", *window).out
    assert "14 Nov 13:00 - 14 Nov 2026 13:30 UTC" in shown
    assert "! counted from 14 Nov 13:00, not 14 Nov 13:11: of that quarter of an hour not all single" in shown
    assert "! counted until 14 Nov 13:30, not 14 Nov 13:20: " in shown
    piped = cli("usage", *window, "-o", "csv")
    assert "! counted from 14 Nov 13:00" in piped.err
    assert "! counted" not in piped.out
