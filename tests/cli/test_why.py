"""why: the limits of a call, as it was decided; and of a call that nobody has made yet."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from llmctl import config
from llmctl.dialects import table
from llmctl.domain.call import Ask
from llmctl.domain.demand import Demand, Rates
from llmctl.domain.errors import Refused
from llmctl.domain.money import usd_exact
from llmctl.proxy.directory import Directory
from llmctl.proxy.lessons import Lessons
from llmctl.proxy.plan import plan_of
from llmctl.store import ids
from llmctl.store.booking import Held, Refusal
from llmctl.store.database import Store
from llmctl.store.ledger import Ledger
from tests.support.ledgers import Books, opening
from tests.support.ledgers import closing as ended

from .conftest import NOW_S, Cli

DEMAND = Demand(1_000, 1_000, 256, 1, False, Rates(1_000_000_000, 2_000_000_000))  # at most $0.003


@pytest.fixture
def calls(cli: Cli, empty: Path) -> list[str]:
    """Ids of calls under $0.01 a month: some that went, the first that was refused."""
    secret = cli.secret("user", "add", "alice", "-q")
    cli("limit", "set", "--user", "alice", "--cost", "0.01", "--per", "month")
    cli("limit", "set", "--org", "--requests", "100", "--per", "day", "--soft")
    return asyncio.run(_call_until_refused(empty / "llmctl.db", secret))


async def _call_until_refused(path: Path, secret: str) -> list[str]:
    books = Books.__new__(Books)
    books.path, books.store = path, Store(path)
    ledger = Ledger(path, default_zone="UTC", share_percent=100, clock_s=lambda: NOW_S)
    await ledger.start()
    done = []
    while True:
        wanted = opening(ledger, books.caller(secret), DEMAND, at_ms=NOW_S * 1000)
        held = await ledger.hold(wanted)
        done.append(ids.shown(wanted.call_id))
        if isinstance(held, Refused):
            ledger.refuse(
                Refusal(
                    wanted.call_id, wanted.started_at_ms, wanted.caller, "openai", "chat", "gpt-5", False, held, 429
                )
            )
            break
        assert isinstance(held, Held)
        ledger.settle(ended(wanted.call_id, cost_nano_usd=3_000_000, latency_ms=0))
    await ledger.close()
    books.store.close()
    return done


def test_a_refused_call_shows_the_limit_that_bound_and_what_would_pass(cli: Cli, calls: list[str]) -> None:
    why = cli("why", calls[-1], "-o", "json").json
    assert (why["state"], why["error"], why["bound"]) == ("refused", "limit_spent", "l1")
    assert "limit l1 (user alice) is spent" in why["message"]
    bound, soft = why["limits"]
    assert (bound["amount"], bound["left"], bound["needed"]) == ("0.010000000", "0.001000000", "0.003000000")
    assert (bound["verdict"], soft["verdict"]) == ("refused", "fits")
    (listed,) = [one for one in cli.json("limit", "list") if one["id"] == "l1"]
    assert {name: bound[name] for name in ("id", "on", "name", "each")} == {
        name: listed[name] for name in ("id", "on", "name", "each")
    }
    text = cli("why", calls[-1]).out
    assert "Bound by" in text and "a call that needs up to $0.001" in text


def test_a_call_that_went_shows_how_its_limits_stood_before_it(cli: Cli, calls: list[str]) -> None:
    spent = [cli("why", one, "-o", "json").json["limits"][0]["spent"] for one in calls[:3]]
    assert spent == ["0.000000000", "0.003000000", "0.006000000"]


def test_a_limit_that_was_lowered_since_is_not_said_to_have_refused_what_passed(cli: Cli, calls: list[str]) -> None:
    cli("limit", "set", "--user", "alice", "--cost", "0.001", "--per", "month")
    assert cli("why", calls[0], "-o", "json").json["limits"][0]["verdict"] == "changed"
    assert "changed since" in cli("why", calls[0]).out


def test_what_passed_is_shown_beside_the_limits_of_today_and_said_to_be(cli: Cli, calls: list[str]) -> None:
    cli("limit", "set", "--user", "alice", "--cost", "5", "--per", "month")
    assert "Limits   as they are set today; " in cli("why", calls[0]).out
    assert cli.json("why", calls[0])["limits_of_today"] is True
    assert "as they are set today" not in cli("why", calls[-1]).out
    assert cli.json("why", calls[-1])["limits_of_today"] is False


def test_what_would_pass_now(cli: Cli, calls: list[str]) -> None:
    cli("price", "set", "sandbox/tiny", "--input", "1", "--output", "2")
    supposed = ("why", "--user", "alice", "--model", "sandbox/tiny", "-o", "json", "--input-tokens")
    small = cli(*supposed, "100", "--output-tokens", "100").json
    assert small["passes"] and small["output_tokens_granted"] == 100
    capped = cli(*supposed, "100", "--output-tokens", "1000").json
    assert capped["passes"] and 256 <= capped["output_tokens_granted"] < 1000
    large = cli(*supposed, "2000").json
    assert not large["passes"] and (large["error"], large["bound"]) == ("limit_spent", "l1")
    cli("model", "deny", "tiny", "--user", "alice")
    denied = cli(*supposed, "100").json
    assert denied["error"] == "model_not_allowed"


@pytest.mark.parametrize(
    ("model", "path"), [("openai/gpt-5", "/v1/chat/completions"), ("anthropic/claude-opus", "/v1/messages")]
)
def test_a_supposed_call_needs_what_the_gateway_would_hold(cli: Cli, empty: Path, model: str, path: str) -> None:
    with (empty / "config.toml").open("a") as file:
        file.write('[providers.anthropic]\ncredential_env = "ANTHROPIC_API_KEY"\nprompt_overhead_tokens = 500\n')
    rates = ("--input", "3", "--output", "15", "--cache-write", "4", "--per-request", "0.1")
    cli("price", "set", model, *rates)
    secret = cli.secret("user", "add", "alice", "-q")
    cli("limit", "set", "--user", "alice", "--cost", "5", "--per", "day")
    cli("limit", "set", "--user", "alice", "--tokens", "1000", "--per", "day")
    directory = Directory(config.load(empty / "config.toml"), Lessons(), clock_s=lambda: NOW_S)
    caller, bounds = directory.caller(secret), config.Bounds()
    dialect = table.lookup("POST", path, set()).endpoint.dialect.name
    held = plan_of(caller, Ask("chat", model, False, 700, 300), dialect, directory, bounds, NOW_S).demand
    directory.close()

    asked = ("--user", "alice", "--model", model, "--input-tokens", "700", "--output-tokens", "300")
    found = cli.json("why", *asked)
    cost, tokens = found["limits"]
    assert cost["needed"] == usd_exact(held.cost_nano_usd(300))
    assert (tokens["needed"], tokens["needed_min"]) == (held.tokens(300), held.tokens(256))
    assert (found["passes"], found["error"]) == (False, "request_exceeds_limit"), "what the provider adds is held too"
    assert "may add" in cli("why", *asked).out


def test_money_that_is_too_little_is_shown_to_be_less_than_what_is_needed(cli: Cli) -> None:
    cli("price", "set", "sandbox/tiny", "--input", "1", "--output", "2")
    cli("user", "add", "alice")
    cli("limit", "set", "--user", "alice", "--cost", "0.00032", "--per", "day")
    shown = ("why", "--user", "alice", "--model", "sandbox/tiny", "--input-tokens", "0", "--output-tokens")
    text = cli(*shown, "33").out  # 0.000322: what the provider adds, and the answer
    assert "$0.0003 left; this call needs up to $0.0004" in text
    assert re.search(r"\$0\.00032/day +\$0\.00 +\$0\.00 +\$0\.0003 +\$0\.0004  too little left", text)
    assert re.search(r"\$0\.0003 +\$0\.0003  fits", cli(*shown, "32").out)


def test_nothing_passes_for_who_is_disabled_or_whose_group_is(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("group", "add", "emea", "--parent", "sales")
    cli("user", "add", "alice", "--group", "emea")
    cli("group", "disable", "sales")
    for caller in (("--user", "alice"), ("--key", "alice/default")):
        found = cli.json("why", *caller, "--model", "sandbox/tiny")
        assert (found["passes"], found["error"]) == (False, "invalid_api_key")
        assert found["message"] == "group sales is disabled"


def test_a_provider_that_takes_any_name_at_its_own_path_lets_no_mistyped_one_pass(cli: Cli, empty: Path) -> None:
    with (empty / "config.toml").open("a") as config:
        config.write('[providers.azure]\nbase_url = "https://example.openai.azure.com"\ncredential_env = "AZURE"\n')
    cli("user", "add", "alice")
    found = cli.json("why", "--user", "alice", "--model", "azure/our-deployment")
    assert (found["passes"], found["provider"], found["upstream_model"]) == (True, "azure", "our-deployment")
    typo = cli.json("why", "--user", "alice", "--model", "ghpt-5")
    assert (typo["passes"], typo["error"]) == (False, "model_not_found")
    assert typo["message"].endswith("does not exist here; if it is a deployment, write --model azure/ghpt-5")
    assert cli.json("why", "--user", "alice", "--model", "gpt-5")["provider"] == "openai"


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (("why",), "which call is not said", 2),
        (("why", "c_1"), "is not a call id", 2),
        (("why", "c_000000000001"), "no call c_000000000001", 1),
        (("why", "--model", "x", "--user", "nobody"), "nobody", 1),
    ],
)
def test_mistakes(cli: Cli, calls: list[str], args: tuple[str, ...], said: str, code: int) -> None:
    assert said in cli(*args, code=code).err
