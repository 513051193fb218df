from __future__ import annotations

from .conftest import Cli


def test_a_price_is_set_changed_shown_and_left_unchanged(cli: Cli) -> None:
    assert cli("price", "set", "openai/gpt-x", "--input", "1.25", "--output", "10").out == (
        "Set gpt-x: input $1.25, output $10.00 per million tokens.\n"
    )
    again = cli("price", "set", "openai/gpt-x", "--input", "1.25", "--output", "10")
    assert "unchanged" in again.out
    changed = cli(
        "price", "set", "gpt-x", "--provider", "openai", "--input", "2", "--output", "10", "--context", "400k"
    )
    assert "input $1.25, output $10.00 -> input $2.00, output $10.00" in changed.out
    shown = cli.json("price", "show", "gpt-x")
    assert shown["usd_per_million"] == {"input": "2.000000000", "output": "10.000000000"}
    assert (shown["provider"], shown["source"], shown["context_tokens"]) == ("openai", "admin", 400_000)
    (row,) = cli.json("price", "list", "gpt-x")
    assert row["input_usd_per_million"] == "2.000000000"
    assert [entry["action"] for entry in cli.json("audit", "price")] == ["price set", "price set"]


def test_prices_that_cannot_be_understood_are_wrong_usage(cli: Cli) -> None:
    assert cli("price", "set", "gpt-x", "--input", "$1", code=2).err.startswith("error: --input '$1' is not")
    assert cli("price", "set", "gpt-x", code=2).err.startswith("error: no rate is given")


def test_an_unknown_model_has_no_price(cli: Cli) -> None:
    assert cli("price", "show", "gpt-none", code=1).err.startswith('error: no price for "gpt-none"')


def test_the_catalogue_is_taken_over_once(cli: Cli) -> None:
    first = cli.json("price", "sync")
    assert first["added"] > 1_000
    second = cli.json("price", "sync")
    assert (second["added"], second["changed"], second["removed"]) == (0, 0, 0)
    assert cli.json("price", "show", "fast")["source"] == "catalogue"
