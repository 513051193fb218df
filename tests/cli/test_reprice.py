"""`usage reprice`, as an admin meets it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmctl.domain.usage import Usage
from llmctl.store import ids

from .conftest import Cli
from .shop import DAY_S, DOLLAR, NOW_S, Shop

MILLION = Usage(input_tokens=1_000_000)


@pytest.fixture
def call(cli: Cli, empty: Path) -> str:
    """The id of alice's call of $1, made when a million tokens cost that."""
    cli("price", "set", "openai/gpt-5", "--input", "1", "--output", "8")
    price_id = cli.json("price", "history", "openai/gpt-5")[0]["price_id"]
    return ids.shown(asyncio.run(book(empty / "llmctl.db", price_id)))


async def book(path: Path, price_id: int | None, **facts: object) -> int:
    async with Shop(path) as shop:
        shop.user("alice")
        return await shop.call("alice", at_s=NOW_S - DAY_S, usage=MILLION, cost=DOLLAR, price_id=price_id, **facts)


def test_a_wrong_price_is_put_right(cli: Cli, call: str) -> None:
    cli("price", "set", "openai/gpt-5", "--input", "3")
    would = cli("usage", "reprice", "--dry-run").out
    assert "openai/gpt-5      1        1  $1.00  $3.00" in would
    assert "1 call would cost something else: $1.00 -> $3.00." in would
    assert cli.json("calls")[0]["cost_usd"] == "1.000000000"
    assert "Reprice 1 call, $1.00 -> $3.00?" in cli("usage", "reprice", code=1).err
    assert "1 call cost something else: $1.00 -> $3.00." in cli("usage", "reprice", "--yes").out
    assert cli.json("calls")[0]["cost_usd"] == "3.000000000"
    assert cli.json("usage")[0]["cost_usd"] == "3.000000000"
    (entry,) = cli.json("audit", "reprice")
    assert (entry["after"]["old_cost_usd"], entry["after"]["new_cost_usd"]) == ("1.000000000", "3.000000000")
    assert (entry["after"]["since"], entry["after"]["until"]) == ("2026-11-01T00:00:00Z", None)
    why = cli.json("why", call)
    assert [(one["old_cost_usd"], one["new_cost_usd"]) for one in why["repriced"]] == [("1.000000000", "3.000000000")]
    assert why["parts"] == [
        {"meter": "input", "units": 1_000_000, "usd_per_million": "3.000000000", "cost_usd": "3.000000000"}
    ]
    assert "$1.00 -> $3.00 on 23 Nov 14:00" in cli("why", call).out
    assert "Nothing changes." in cli("usage", "reprice").out


def test_common_flags_stand_before_the_verb_too(cli: Cli, call: str) -> None:
    (line,) = cli("usage", "-o", "json", "reprice", "--dry-run").json
    assert (line["model"], line["calls"], line["changed"]) == ("openai/gpt-5", 1, 0)
    assert cli("usage", "--user", "alice", "reprice", code=2).err.startswith("error: ")
    assert "reprice" in cli("usage", "--help").out


def test_only_what_was_asked_for_is_looked_at(cli: Cli, call: str) -> None:
    assert cli("usage", "reprice", "--since", "today").out.startswith("No calls.")
    assert cli.json("usage", "reprice", "--model", "o9*") == []
    assert cli.json("usage", "reprice", "--until", "2026-11-22") == []


def test_a_stated_cost_shows_our_own_beside_it(cli: Cli, empty: Path) -> None:
    cli("price", "set", "openai/gpt-5", "--input", "2", "--output", "8")
    price_id = cli.json("price", "history", "openai/gpt-5")[0]["price_id"]
    facts = {"own_cost_nano_usd": 2 * DOLLAR, "own_price_id": price_id, "service_tier": "via Novita"}
    call = ids.shown(asyncio.run(book(empty / "llmctl.db", None, **facts)))
    (row,) = cli.json("calls")
    assert (row["cost_usd"], row["price_source"]) == ("1.000000000", "provider")
    assert (row["own_cost_usd"], row["service_tier"]) == ("2.000000000", "via Novita")
    why = cli("why", call).out
    assert "$1.00: 1,000,000 input and 0 output tokens, as the provider states; by our price $2.00" in why
    assert "1,000,000 input at $2.00 = $2.00" in why
    assert cli.json("why", call)["own_price_source"] == "admin"


def test_a_call_without_a_price_says_what_to_do(cli: Cli, empty: Path) -> None:
    asyncio.run(book(empty / "llmctl.db", None, cost_nano_usd=None))
    said = cli("usage", "reprice").out
    assert "! 1 call without a price: llmctl price set openai/gpt-5" in said
    assert "openai/gpt-5      1        0  unpriced  unpriced" in said
    (line,) = cli.json("usage", "reprice")
    assert (line["unpriced_calls"], line["old_cost_usd"], line["new_cost_usd"]) == (1, None, None)
    cli("price", "set", "openai/gpt-5", "--input", "2", "--output", "8")
    assert "1 call would cost something else: unpriced -> $2.00." in cli("usage", "reprice", "--dry-run").out


def test_calls_that_are_pruned_keep_their_cost_and_are_not_left_out_in_silence(cli: Cli, call: str) -> None:
    cli("price", "set", "openai/gpt-5", "--input", "3")
    cli.now_s += 3 * DAY_S
    cli("prune", "--keep", "2d", "--yes")
    told = "! calls before 24 Nov 14:00 are pruned: what they cost stays as it is"
    assert told in cli("usage", "reprice", "--yes").out
    assert told not in cli("usage", "reprice", "--since", "today").out


def test_calls_at_a_ceiling_are_told_of_until_they_have_a_price(cli: Cli, empty: Path) -> None:
    cli("price", "set", "*", "--ceiling", "--input", "9", "--output", "9")
    price_id = cli.json("price", "history", "openai/gpt-5")[0]["price_id"]
    asyncio.run(book(empty / "llmctl.db", price_id, cost_nano_usd=9 * DOLLAR))
    asyncio.run(book_more(empty / "llmctl.db", model="other", cost_nano_usd=None))
    assert [row["price_source"] for row in cli.json("calls", "--ceiling")] == ["ceiling"]
    assert "! 1 call booked at a ceiling, as no price was known: llmctl calls --ceiling" in cli("usage").out
    checks = {row["check"]: row for row in cli.json("doctor", "--offline")}
    assert checks["ceilings"]["text"].startswith("openai/gpt-5 (1 call in 30 days) booked at a ceiling")
    assert (checks["prices"]["text"].split()[0], checks["prices"]["mend"]) == ("openai/other", "llmctl usage reprice")
    cli("price", "set", "openai/*", "--input", "2", "--output", "8")
    cli("usage", "reprice", "--yes")
    assert {row["cost_usd"] for row in cli.json("calls")} == {"2.000000000"}
    assert "ceiling" not in cli("usage").out
    assert {row["check"]: row for row in cli.json("doctor", "--offline")}["prices"]["state"] == "ok"


def test_a_price_that_is_set_later_does_not_hide_calls_at_a_ceiling_nor_does_a_ceiling_claim_others(
    cli: Cli, empty: Path
) -> None:
    cli("price", "set", "*", "--ceiling", "--input", "9", "--output", "9")
    price_id = cli.json("price", "history", "openai/gpt-5")[0]["price_id"]
    asyncio.run(book(empty / "llmctl.db", price_id, cost_nano_usd=9 * DOLLAR, tags="eval"))
    slip = {"status": 404, "error": "model_not_found", "cost": 0}
    asyncio.run(book_more(empty / "llmctl.db", model="gtp-5", **slip))
    assert {row["check"]: row for row in cli.json("doctor", "--offline")}["ceilings"]["text"].startswith("openai/gpt-5")
    cli.now_s += 60
    cli("price", "set", "openai/gpt-5", "--input", "2", "--output", "8")
    for flags in ([], ["--user", "alice", "--since", "2026-11-22"], ["--tag", "eval"], ["--model", "gpt-5*"]):
        assert len(cli.json("calls", "--ceiling", *flags)) == 1
        assert "! 1 call booked at a ceiling" in cli("usage", *flags).out
    assert "ceiling" not in cli("usage", "--since", "today").out
    check = {row["check"]: row for row in cli.json("doctor", "--offline")}["ceilings"]
    assert check["text"] == "openai/gpt-5 (1 call in 30 days) booked at a ceiling"
    assert check["mend"] == "llmctl usage reprice"


async def book_more(path: Path, **facts: object) -> None:
    async with Shop(path) as shop:
        shop.knows("alice")
        await shop.call("alice", at_s=NOW_S - DAY_S, usage=MILLION, **facts)
