from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .conftest import Cli
from .shop import Shop


def test_a_price_is_set_changed_shown_and_left_unchanged(cli: Cli) -> None:
    assert cli("price", "set", "openai/gpt-x", "--input", "1.25", "--output", "10").out == (
        "Set openai/gpt-x: input $1.25, output $10.00 per million tokens.\n"
    )
    again = cli("price", "set", "openai/gpt-x", "--input", "1.25", "--output", "10")
    assert "unchanged" in again.out
    changed = cli(
        "price", "set", "gpt-x", "--provider", "openai", "--input", "2", "--output", "10", "--context", "400k"
    )
    assert changed.out == "Changed openai/gpt-x: input $1.25 -> $2.00 per million tokens.\n"
    shown = cli.json("price", "show", "gpt-x")
    assert shown["usd_per_million"] == {"input": "2.000000000", "output": "10.000000000"}
    assert (shown["provider"], shown["source"], shown["context_tokens"]) == ("openai", "admin", 400_000)
    (row,) = cli.json("price", "list", "gpt-x")
    assert row["input_usd_per_million"] == "2.000000000"
    assert [entry["action"] for entry in cli.json("audit", "price")] == ["price set", "price set"]


def test_what_is_told_names_whose_price_it_is(cli: Cli) -> None:
    rates = ["--input", "1", "--output", "2"]
    price = "input $1.00, output $2.00 per million tokens"
    assert cli("price", "set", "gpt-x", *rates).out == f"Set gpt-x of any provider: {price}.\n"
    assert cli("price", "set", "gpt-x", *rates).out == f"gpt-x of any provider costs {price} already: unchanged.\n"
    said = cli("price", "set", "openai/gpt-x", "--input", "3").out
    assert said == "Changed openai/gpt-x: input $1.00 -> $3.00 per million tokens.\n"


def test_rates_that_are_not_named_stay_as_they_are(cli: Cli) -> None:
    cli("price", "set", "openai/m", "--input", "1", "--output", "8", "--context", "400k")
    cli("price", "set", "openai/m", "--tier", "batch", "--output", "4")
    said = cli("price", "set", "openai/m", "--input", "10").out
    assert said == "Changed openai/m: input $1.00 -> $10.00 per million tokens.\n"
    price = cli.json("price", "show", "openai/m")
    assert price["usd_per_million"] == {"input": "10.000000000", "output": "8.000000000"}
    assert price["tiers"]["batch"] == {"input": "10.000000000", "output": "4.000000000"}
    assert price["context_tokens"] == 400_000
    cli("price", "set", "openai/m", "--output", "9", "--from", "2026-12-01")
    newest = cli.json("price", "history", "openai/m")[0]
    assert newest["usd_per_million"] == {"input": "10.000000000", "output": "9.000000000"}
    assert list(newest["tiers"]) == ["batch"]


@pytest.mark.parametrize("model", ["openai/gpt-5", "gpt-5"])
def test_beside_a_rate_of_ones_own_the_catalogues_stay(cli: Cli, model: str) -> None:
    cli("price", "sync")
    before = cli.json("price", "show", "openai/gpt-5")["usd_per_million"]
    assert "input $1.25 -> $99.00 per" in cli("price", "set", model, "--input", "99").out
    after = cli.json("price", "show", "openai/gpt-5")
    assert after["source"] == "admin"
    assert after["usd_per_million"] == before | {"input": "99.000000000"}


def test_one_side_of_the_tokens_is_never_free_unsaid(cli: Cli) -> None:
    cli("price", "sync")
    cli("price", "set", "*", "--ceiling", "--input", "30", "--output", "180")
    refused = "error: {} has no rate for {} yet; write --input and --output (0 is a price)\n"
    for model in ("m", "openai/*"):
        failed = cli("price", "set", model, "--input", "1", code=1)
        assert failed.err == refused.format(model.removeprefix("openai/"), "output")
    assert cli("price", "set", "m", "--reasoning", "1", code=1).err == refused.format("m", "input and output")
    cli("price", "set", "m", "--per-image", "1")
    assert cli("price", "set", "m", "--input", "1", code=1).err == refused.format("m", "output")
    cli("price", "set", "m", "--input", "1", "--output", "0")
    cli("price", "set", "openai/text-embedding-3-small", "--input", "1")  # the catalogue knows that it writes nothing


def test_a_price_is_for_a_provider_that_is_or_was_there(cli: Cli, empty: Path) -> None:
    rates = ["--input", "1", "--output", "8"]
    failed = cli("price", "set", "m", "--provider", "opnai", *rates, code=1)
    assert failed.err == 'error: no provider "opnai"; did you mean "openai"?  See: llmctl provider list\n'
    assert cli.json("price", "list", "m", "--all") == []
    asyncio.run(book(empty / "llmctl.db"))
    (empty / "config.toml").write_text('database = "llmctl.db"\n[providers.sandbox]\n')
    cli("price", "set", "gpt-5", "--provider", "openai", *rates)


async def book(path: Path) -> None:
    async with Shop(path) as shop:
        shop.user("alice")
        await shop.call("alice")


def test_prices_that_cannot_be_understood_are_wrong_usage(cli: Cli) -> None:
    assert cli("price", "set", "gpt-x", "--input", "$1", code=2).err.startswith("error: --input '$1' is not")
    assert cli("price", "set", "gpt-x", code=2).err.startswith("error: no rate is given")


def test_a_price_is_shown_of_the_provider_that_the_model_is_routed_to(cli: Cli, empty: Path) -> None:
    stub = '[providers.sandbox]\n[providers.stub]\nbase_url = "http://127.0.0.1:9"\ndialect = "openai"\n'
    (empty / "config.toml").write_text(f'database = "llmctl.db"\n{stub}models = ["stub-*"]\n')
    cli("price", "set", "stub-a", "--input", "1", "--output", "2")
    assert cli("price", "show", "stub-a").out.startswith(
        "Model     stub/stub-a\nPrice of  any provider, stub-a (admin)\n"
    )
    cli("price", "set", "stub/stub-a", "--input", "3", "--output", "4")
    shown = cli.json("price", "show", "stub-a")
    assert (shown["provider"], shown["usd_per_million"]["input"]) == ("stub", "3.000000000")
    cli("price", "set", "sandbox/stub-b", "--input", "1", "--output", "2")
    assert cli("price", "show", "stub-b", code=1).err.startswith('error: no price for "stub-b" of stub; ')
    assert cli.json("price", "show", "sandbox/stub-b")["provider"] == "sandbox"
    cli("price", "set", "other", "--input", "1", "--output", "2")
    cli("price", "set", "stub/other", "--input", "3", "--output", "4")
    assert cli.json("price", "show", "other")["provider"] == "stub"


def test_an_unknown_model_has_no_price(cli: Cli) -> None:
    assert cli("price", "show", "gpt-none", code=1).err.startswith('error: no price for "gpt-none"')


def test_an_empty_list_of_the_whole_catalogue_does_not_point_at_itself(cli: Cli) -> None:
    assert cli("price", "list", "gpt-none").out.endswith("llmctl price list --all\n")
    assert cli("price", "list", "gpt-none", "--all").out == "No price matches.\n"


def test_large_rates_are_written_as_other_amounts_are(cli: Cli) -> None:
    done = cli("price", "set", "sandbox/dear", "--input", "1500", "--output", "0.125").out
    assert done == "Set sandbox/dear: input $1,500.00, output $0.125 per million tokens.\n"


def test_the_catalogue_is_taken_over_once(cli: Cli) -> None:
    first = cli.json("price", "sync")
    assert first["added"] > 1_000
    second = cli.json("price", "sync")
    assert (second["added"], second["changed"], second["removed"]) == (0, 0, 0)
    assert cli.json("price", "show", "fast")["source"] == "catalogue"


def test_every_meter_has_a_flag_in_the_unit_that_providers_use(cli: Cli) -> None:
    said = cli(
        *["price", "set", "openai/m", "--input", "1", "--output", "0", "--output-audio", "64", "--cache-write-1h", "2"],
        *["--per-web-search", "0.01", "--per-audio-minute", "0.006", "--per-image", "0.04", "--characters", "15"],
        *[
            "--per-page",
            "0.002",
            "--per-search-unit",
            "0.0025",
            "--per-request",
            "0.005",
            "--per-file-search",
            "0.0025",
        ],
        *["--per-code-interpreter", "0.03"],
    ).out
    assert "input $1.00, output $0.00, output audio $64.00" in said.replace("cache write 1h $2.00, ", "")
    rates = cli.json("price", "show", "openai/m")["usd_per_million"]
    assert rates["web_search"] == "10000.000000000"
    assert rates["audio_seconds"] == "100.000000000"  # $0.006 a minute
    assert rates["images"] == "40000.000000000"
    assert rates["characters"] == "15.000000000"
    shown = cli("price", "show", "openai/m").out
    for line in (
        "Audio seconds     $0.006 per minute",
        "Characters        $15.00 per million",
        "Web search        $0.01 per call",
        "Images            $0.04 each",
        "Pages             $0.002 each",
        "Search units      $0.0025 each",
        "Code interpreter  $0.03 per call",
    ):
        assert line in shown


def test_a_tier_and_a_context_step_are_set_beside_the_price(cli: Cli) -> None:
    cli("price", "set", "openai/m", "--input", "2", "--output", "8", "--cache-read", "0.5")
    cli("price", "set", "openai/m", "--tier", "batch", "--input", "1", "--output", "4")
    cli("price", "set", "openai/m", "--above", "200k", "--input", "4", "--output", "12")
    price = cli.json("price", "show", "openai/m")
    assert price["usd_per_million"]["input"] == {
        "base": "2.000000000",
        "above_input_tokens": {"200000": "4.000000000"},
    }
    assert price["tiers"]["batch"]["input"] == "1.000000000"
    assert price["tiers"]["batch"]["cache_read"] == "0.500000000"
    shown = cli("price", "show", "openai/m").out
    assert "$2.00, $4.00 above 200,000 input tokens" in shown
    assert "Tier batch  input $1.00, output $4.00" in shown
    unchanged = cli("price", "set", "openai/m", "--tier", "batch", "--input", "1", "--output", "4").out
    assert "unchanged" in unchanged
    failed = cli("price", "set", "openai/m", "--tier", "standard", "--input", "1", code=2)
    assert failed.err == "error: tier standard is the price itself; leave out --tier\n"
    failed = cli("price", "set", "openai/none", "--tier", "flex", "--input", "1", code=1)
    assert "set its --input and --output first" in failed.err


def test_a_tier_of_a_catalogue_price_begins_as_a_copy_of_it(cli: Cli) -> None:
    cli("price", "sync")
    before = cli.json("price", "show", "openai/gpt-5")
    cli("price", "set", "openai/gpt-5", "--tier", "turbo", "--input", "9")
    after = cli.json("price", "show", "openai/gpt-5")
    assert after["source"] == "admin"
    assert after["usd_per_million"] == before["usd_per_million"]
    assert after["tiers"].keys() == before["tiers"].keys() | {"turbo"}
    assert after["effective_from"] == before["effective_from"]
    assert "unchanged" in cli("price", "set", "openai/gpt-5", "--tier", "turbo", "--input", "9").out
    assert cli.json("audit", "price set")[0]["after"]["tier turbo"] == "input $9.00"


def test_a_price_from_a_date_on_leaves_the_one_before_and_history_has_both(cli: Cli) -> None:
    cli("price", "set", "openai/m", "--input", "2", "--output", "8")
    cli.now_s += 60
    cli("price", "set", "openai/m", "--input", "3", "--from", "2026-12-01")
    cli.now_s += 60
    cli("price", "set", "openai/m", "--input", "1")
    assert cli.json("price", "show", "openai/m")["usd_per_million"] == {"input": "1.000000000", "output": "8.000000000"}
    history = cli.json("price", "history", "openai/m")
    assert [(row["usd_per_million"], row["effective_from"], row["superseded_at"] is None) for row in history] == [
        ({"input": "1.000000000", "output": "8.000000000"}, None, True),
        ({"input": "3.000000000", "output": "8.000000000"}, "2026-12-01T00:00:00Z", True),
        ({"input": "2.000000000", "output": "8.000000000"}, None, False),
    ]
    cli("price", "set", "openai/m", "--tier", "batch", "--input", "0.5")
    assert cli.json("price", "history", "openai/m")[0]["tiers"] == {
        "batch": {"input": "0.500000000", "output": "8.000000000"}
    }
    lines = cli("price", "history", "m").out.splitlines()[1:]
    assert "input $1.00" in lines[0]
    assert [line.split("  ")[-1].strip() for line in lines] == ["in force", "23 Nov 14:02", "to come", "23 Nov 14:02"]
    assert [row["in_force"] for row in cli.json("price", "history", "m")] == [True, False, False, False]
    assert cli("price", "history", "openai/none").out == "none never had a price.\n"


def test_of_prices_one_is_in_force_and_what_it_replaces_is_not(cli: Cli) -> None:
    cli("price", "sync")
    cli("price", "set", "openai/gpt-5", "--input", "2", "--from", "2026-11-01")
    cli("price", "set", "openai/gpt-5", "--input", "3", "--from", "2026-11-20")
    set_ = cli("price", "set", "openai/gpt-5", "--input", "9", "--from", "2026-12-01").out
    assert set_.startswith("Changed openai/gpt-5 from 1 Dec on: ") and "input $3.00 -> $9.00" in set_
    history = [line.split("  ")[-1].strip() for line in cli("price", "history", "openai/gpt-5").out.splitlines()[1:]]
    assert history[:4] == ["to come", "in force", "20 Nov", "1 Nov"]
    listed = [row for row in cli.json("price", "list", "gpt-5") if row["model"] == "gpt-5"]
    assert [(row["source"], row["input_usd_per_million"]) for row in listed] == [
        ("admin", "3.000000000"),
        ("admin", "9.000000000"),
    ]
    cli("price", "remove", "openai/gpt-5", "--yes")
    cli("price", "set", "gpt-5", "--input", "4")
    history = cli("price", "history", "openai/gpt-5").out.splitlines()
    assert sum(line.endswith("overridden") for line in history) == 1  # the catalogue's of the same date
    assert [row["source"] for row in cli.json("price", "list", "gpt-5") if row["model"] == "gpt-5"] == ["admin"]


def test_what_is_set_for_a_tier_is_what_is_told(cli: Cli) -> None:
    cli("price", "set", "openai/m", "--input", "2", "--output", "8")
    batch = ("price", "set", "openai/m", "--tier", "batch", "--input")
    assert cli(*batch, "1").out == ("Changed openai/m, tier batch: input $2.00 -> $1.00 per million tokens.\n")
    assert cli(*batch, "1.5").out == ("Changed openai/m, tier batch: input $1.00 -> $1.50 per million tokens.\n")


def test_a_price_is_taken_back(cli: Cli) -> None:
    cli("price", "sync")
    cli("price", "set", "openai/gpt-5", "--input", "99")
    assert "would be taken back" in cli("price", "remove", "openai/gpt-5", "--dry-run").out
    assert "nobody is there to answer" in cli("price", "remove", "openai/gpt-5", code=1).err
    assert cli("price", "remove", "openai/gpt-5", "--yes").out == "Took back the price of openai/gpt-5.\n"
    assert cli.json("price", "show", "openai/gpt-5")["source"] == "catalogue"
    assert cli("price", "remove", "openai/gpt-5", code=1).err.startswith("error: you have not set the price of")
    cli("price", "remove", "openai/gpt-5", "--if-exists")


def test_a_ceiling_is_for_what_has_no_price_and_says_so(cli: Cli) -> None:
    cli("price", "sync")
    said = cli("price", "set", "*", "--ceiling", "--input", "30", "--output", "180").out
    assert said == "Set * of any provider (ceiling): input $30.00, output $180.00 per million tokens.\n"
    assert cli.json("price", "show", "openai/gpt-5")["source"] == "catalogue"
    unknown = cli.json("price", "show", "openai/gpt-99")
    assert (unknown["source"], unknown["usd_per_million"]["output"]) == ("ceiling", "180.000000000")
    assert "nobody knows its price" in cli("price", "show", "openai/gpt-99").out
    cli("price", "set", "openai/gpt-99", "--input", "1", "--output", "2")
    assert cli.json("price", "show", "openai/gpt-99")["source"] == "admin"
    assert "ceiling" in [row["source"] for row in cli.json("price", "list")]
    cli("price", "remove", "*", "--ceiling", "--yes")
    cli("price", "show", "openai/gpt-98", code=1)


def test_a_machine_without_a_network_takes_a_file_and_an_admins_price_stays(cli: Cli, empty: Path) -> None:
    cli("price", "set", "openai/gpt-5", "--input", "7", "--output", "9")
    cli("price", "sync", "--export", "prices.json")
    would = cli("price", "sync", "prices.json", "--dry-run", "-o", "json").json
    assert would["added"] == len(would["changes"]) > 1_000
    assert cli.json("price", "list", "gpt-4o") == []
    table = cli("price", "sync", "prices.json", "--dry-run").out
    assert "Nothing was changed." in table and "more: -o json" in table
    assert cli.json("price", "sync", "prices.json")["added"] == would["added"]
    assert cli.json("price", "show", "openai/gpt-5")["source"] == "admin"
    text = (empty / "prices.json").read_text()
    line = next(line for line in text.splitlines() if line.startswith('{"provider":"openai","model":"gpt-4o",'))
    changed = text.replace(line, line.replace('"input":2500000000', '"input":2600000000'))
    (empty / "prices.json").write_text(changed)
    (change,) = cli("price", "sync", "prices.json", "--dry-run", "-o", "json").json["changes"]
    assert change["change"] == "changed" and "$2.50" in change["before"] and "$2.60" in change["after"]


def test_the_catalogue_goes_into_a_new_file_unless_told_otherwise(cli: Cli, empty: Path) -> None:
    file = empty / "prices.json"
    assert cli("price", "sync", "--export", "prices.json", "--dry-run").out.startswith("Would write ")
    assert not file.exists()
    file.write_text("mine")
    told = cli("price", "sync", "--export", "prices.json", code=1).err
    assert told == "error: nobody is there to answer: Replace prices.json?; say it with --yes\n"
    assert file.read_text() == "mine"
    cli("price", "sync", "--export", "prices.json", "--yes")
    assert file.read_text() != "mine"


# As github.com/pydantic/genai-prices publishes its list.
PUBLISHED = """[
  {"id": "openai", "name": "OpenAI", "api_pattern": "https://api\\\\.openai\\\\.com", "models": [
    {"id": "m-1", "match": {"or": [{"equals": "m-1"}, {"starts_with": "m-1-2026"}]}, "context_window": 200000,
     "prices": [
       {"prices": {"input_mtok": {"base": 2.5, "tiers": [{"start": 200000, "price": 5}]}, "output_mtok": 0.18}},
       {"constraint": {"start_date": "2026-03-13"}, "prices": {"input_mtok": 1.25, "output_mtok": 10}}
     ]},
    {"id": "ear", "match": {"equals": "ear"}, "prices": {"audio_hours": 0.36}}
  ]}
]"""


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_file_that_genai_prices_publishes_is_taken_as_it_is(cli: Cli, empty: Path, wrapped: bool) -> None:
    (empty / "data.json").write_text(f'{{"units": {{}}, "providers": {PUBLISHED}}}' if wrapped else PUBLISHED)
    taken = cli.json("price", "sync", "data.json")
    assert (taken["origin"], taken["added"]) == ("data.json of genai-prices", 3 + 2)  # and two models of ours
    assert cli.json("price", "show", "openai/m-1-2026-05")["usd_per_million"]["input"] == "1.250000000"
    assert cli.json("price", "show", "openai/ear")["usd_per_million"] == {"audio_seconds": "100.000000000"}
    old, new = sorted(cli.json("price", "history", "openai/m-1"), key=lambda row: row["effective_from"] or "")
    assert (old["usd_per_million"]["output"], new["effective_from"]) == ("0.180000000", "2026-03-13T00:00:00Z")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '[{"id": "x"}]', '{"format":"llmctl-prices/1","rows":[]}'])
def test_a_wrong_file_changes_nothing(cli: Cli, empty: Path, text: str) -> None:
    cli("price", "sync")
    (empty / "wrong.json").write_text(text)
    failed = cli("price", "sync", "wrong.json", code=1)
    assert failed.err.count("\n") == 1 and "wrong.json" in failed.err
    again = cli.json("price", "sync")
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)


def test_a_file_that_would_take_most_prices_away_asks_first(cli: Cli, empty: Path) -> None:
    cli("price", "sync")
    (empty / "few.json").write_text(PUBLISHED)
    failed = cli("price", "sync", "few.json", code=1)
    assert "Take away" in failed.err
    assert cli.json("price", "sync", "few.json", "--yes")["removed"] > 100


def test_an_image_may_cost_what_a_token_must_not(cli: Cli) -> None:
    assert "images $2.50 each" in cli("price", "set", "openai/poster", "--per-image", "2.50").out
    assert "audio seconds $0.017 per minute" in cli("price", "set", "openai/ear", "--per-audio-minute", "0.017").out
    failed = cli("price", "set", "openai/poster", "--input", "2500000", "--output", "0", code=2)
    assert failed.err.startswith("error: the price of openai/poster cannot be used: ")


def test_a_name_that_some_catalogue_has_too_does_not_make_a_provider_priced_by_it(cli: Cli, empty: Path) -> None:
    (empty / "config.toml").write_text(
        '[providers.minimax]\ndialect = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[providers.east]\npreset = "openai"\n'
    )
    cli("price", "sync")
    (known, *_) = (row["model"] for row in cli.json("price", "list", "--all") if row["provider"] == "minimax")
    model = f"minimax/{known}"
    assert 'no price for "' in cli("price", "show", model, code=1).err  # as its calls are booked
    assert cli.json("price", "history", model) == cli.json("price", "list", "--provider", "minimax") == []
    assert {row["provider"] for row in cli.json("price", "list")} == {"openai"}
    for sold in (model, "east/gpt-5"):
        cli("price", "set", sold, "--input", "1", "--output", "2")
    assert cli.json("price", "show", model)["source"] == "admin"
    assert [row["model"] for row in cli.json("price", "list", "--provider", "minimax")] == [known]
    of_east = {(row["provider"], row["model"]) for row in cli.json("price", "list", "--provider", "east")}
    assert {("east", "gpt-5"), ("openai", "gpt-5-mini")} <= of_east


def test_a_part_is_set_beside_the_price_that_a_deployment_is_billed_at(cli: Cli, empty: Path) -> None:
    (empty / "config.toml").write_text('[providers.openai]\ndeployments = {chat-eu = "gpt-5"}\n')
    cli("price", "sync")
    before = cli.json("price", "show", "openai/chat-eu")
    cli("price", "set", "openai/chat-eu", "--tier", "batch", "--input", "1")
    after = cli.json("price", "show", "openai/chat-eu")
    assert after["usd_per_million"] == before["usd_per_million"]
    assert after["tiers"]["batch"]["input"] == "1.000000000"
