"""What a call is held for, by what it asks: the dearest rates, fees, and whether a limit binds it at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from msgspec import structs

from llmctl import config
from llmctl.domain.bounds import Bounds
from llmctl.domain.call import Ask
from llmctl.domain.demand import UNKNOWN_TURNS, Demand, Rates
from llmctl.domain.errors import Refused
from llmctl.domain.limit import Limit
from llmctl.domain.price import Tariff
from llmctl.domain.scope import ORGANISATION
from llmctl.proxy.directory import Directory
from llmctl.proxy.lessons import Lessons
from llmctl.proxy.plan import Plan, plan_of
from llmctl.store import prices
from llmctl.store.price_rows import Rate, Terms, terms_row
from tests.support.calls import ALICE
from tests.support.ledgers import Books

NANO = 1_000_000  # a rate of a nano-USD each
TOKENS = {"input": 1, "cache_write": 2, "cache_write_1h": 3, "output": 10, "input_audio": 50, "output_audio": 100}
FEES = {"request": 1, "web_search": 10, "image_generation": 100, "pages": 1_000, "characters": 100_000}
PRIORITY = {"input": 4, "output": 20, "pages": 2_000}
ASK = Ask("chat.completions", "gpt-5", False, input_bytes=1_000, output_tokens_max=500)
KEY_IDS = itertools.count(100)  # what a key may do is remembered
NOW_S = 1_800_000_000


def tariff(**rates: int) -> Tariff:
    return Tariff({meter: Rate(rate * NANO if meter in FEES else rate) for meter, rate in rates.items()})


def limit(measure: str = "cost", *, soft: bool = False, model: str = "") -> Limit:
    return Limit(1, ORGANISATION, "", measure, "day", "UTC", model, 5, soft)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """gpt-5 has a price, gpt-ear one for audio alone, gpt-new none."""
    place = tmp_path_factory.mktemp("plan")
    books = Books(place / "llmctl.db")
    terms = Terms(tariff(**TOKENS, **FEES), {"priority": tariff(**{**TOKENS, **FEES, **PRIORITY})})
    row = terms_row("acme", "gpt-5", terms, context_tokens=100_000, output_tokens_max=8_000)
    with books.store.write() as tx:
        prices.put(tx, row, "admin", now_s=NOW_S)
        prices.put(tx, terms_row("acme", "gpt-ear", Terms(tariff(audio_seconds=5))), "admin", now_s=NOW_S)
    (place / "credential").write_text("secret")
    path = place / "config.toml"
    path.write_text(
        'database = "llmctl.db"\n[providers.acme]\ndialect = ["openai", "anthropic"]\nmodels = ["gpt-*"]\n'
        'base_url = "http://127.0.0.1:9/v1"\ncredential_file = "credential"\nprompt_overhead_tokens = 24\n'
    )
    path.chmod(0o600)
    directory = Directory(config.load(path), Lessons())
    yield directory
    directory.close()
    books.store.close()


def planned(
    directory: Directory,
    *limits: Limit,
    dialect: str = "openai",
    unbounded: str = "hold",
    **asked: object,
) -> Plan:
    bounds = Bounds(server_tool_turns_max=4, unbounded=unbounded)  # type: ignore[arg-type]
    return plan_of(
        replace(ALICE, key_id=next(KEY_IDS), limits=limits),
        structs.replace(ASK, **asked),
        dialect,
        directory,
        bounds,
        NOW_S,
    )


# ---- what it may cost ----


def test_a_plan_holds_the_whole_call(directory: Directory) -> None:
    plan = planned(directory, dialect="anthropic")
    assert (plan.provider.name, plan.model, plan.price and plan.price.model) == ("acme", "gpt-5", "gpt-5")
    assert plan.demand == Demand(1_024, 500, 256, 1, False, Rates(1, 10, 1))
    assert not plan.bounded and not plan.free


@pytest.mark.parametrize(
    ("dialect", "ttl", "rate"),
    [
        ("anthropic", "", 1),
        ("anthropic", "5m", 2),
        ("anthropic", "1h", 3),
        ("openai", "", 2),  # it writes its cache unasked
        ("openai", "5m", 2),
        ("openai", "1h", 3),
    ],
)
def test_input_may_be_written_to_the_cache_where_it_is_asked_for_or_done_unasked(
    directory: Directory, dialect: str, ttl: str, rate: int
) -> None:
    demand = planned(directory, dialect=dialect, cache_write_ttl=ttl).demand
    assert demand.rates == Rates(rate, 10, 1)


@pytest.mark.parametrize(
    ("asked", "rates"),
    [
        ({"unbounded_input": "images"}, (50, 100)),
        ({"media_input": True}, (50, 100)),
        ({"media_output": True}, (1, 100)),
        ({"service_tier": "priority"}, (4, 20)),
        ({"service_tier": "of tomorrow"}, (4, 20)),
    ],
)
def test_media_and_premium_tiers_are_held_at_their_own_rates(
    directory: Directory, asked: dict[str, object], rates: tuple[int, int]
) -> None:
    demand = planned(directory, dialect="anthropic", **asked).demand
    assert demand.rates == Rates(*rates, 1)


@pytest.mark.parametrize(
    ("asked", "fees"),
    [
        ({}, 1),
        ({"server_tool_turns": 3}, 1 + 3 * 10),
        ({"server_tool_turns": UNKNOWN_TURNS}, 1 + 4 * 10),
        ({"server_tool_turns": 3, "image_tool_tokens": 1}, 1 + 3 * 100),
        ({"units": (("pages", 2),)}, 1 + 2 * 1_000),
        ({"extras": (("characters", 3),)}, 1 + 3 * 100_000),
        ({"units": (("pages", 2),), "extras": (("characters", 3),)}, 1 + 2 * 1_000 + 3 * 100_000),
        ({"units": (("pages", 2),), "service_tier": "priority"}, 1 + 2 * 2_000),
        ({"units": (("pages", 2),), "server_tool_turns": 1}, 1 + 10 + 2 * 1_000),
    ],
)
def test_fees_of_the_request_its_tools_and_its_units_are_held(
    directory: Directory, asked: dict[str, object], fees: int
) -> None:
    rates = planned(directory, **asked).demand.rates
    assert rates is not None and rates.request_nano_usd == fees


def test_a_tool_turn_bills_the_whole_context_again(directory: Directory) -> None:
    assert planned(directory, server_tool_turns=2).demand.input_tokens == 3 * 100_000


@pytest.mark.parametrize("asked", [{"free": True}, {"free_models": ("gpt-",)}])
def test_what_the_provider_bills_nothing_for_holds_nothing(directory: Directory, asked: dict[str, object]) -> None:
    for model in ("gpt-5", "gpt-new"):
        plan = planned(directory, limit(), model=model, **asked)
        assert plan.free and not plan.bounded
        assert plan.demand == Demand(0, 0, 0, 1, False, None)


def test_a_model_by_another_name_than_the_free_ones_is_billed(directory: Directory) -> None:
    plan = planned(directory, free_models=("omni-moderation",))
    assert not plan.free and plan.demand.rates is not None


# ---- whom a limit binds ----


@pytest.mark.parametrize(
    ("limits", "bounded"),
    [
        ([], False),
        ([limit("cost")], True),
        ([limit("tokens")], True),
        ([limit("requests"), limit("concurrency")], False),
        ([limit("cost", soft=True), limit("tokens", soft=True)], False),
        ([limit("cost", soft=True), limit("cost")], True),
        ([limit(model="gpt-5*")], True),
        ([limit(model="acme/*")], True),
        ([limit(model="gpt-4*"), limit(model="other/*")], False),
        ([limit(model="gpt-4*"), limit(model="gpt-5")], True),
    ],
)
def test_hard_limits_on_money_or_tokens_of_this_model_bind(
    directory: Directory, limits: list[Limit], bounded: bool
) -> None:
    assert planned(directory, *limits).bounded is bounded
    asked = {"unbounded_input": "images", "unbounded": "refuse"}
    if not bounded:
        assert planned(directory, *limits, **asked).demand.input_tokens == 100_000
        return
    with pytest.raises(Refused, match="cannot be bounded"):
        planned(directory, *limits, **asked)


def test_a_limit_on_a_model_binds_its_other_spellings(directory: Directory) -> None:
    assert planned(directory, limit("tokens", model="gpt-5"), model="acme/maker/gpt-5:nitro").bounded
    assert planned(directory, limit("tokens", model="maker.gpt-5"), model="acme/us.maker.gpt-5").bounded


@pytest.mark.parametrize("limits", [[], [limit("tokens")], [limit(soft=True)], [limit(model="gpt-5")]])
def test_a_model_without_a_price_goes_where_no_limit_on_money_binds(directory: Directory, limits: list[Limit]) -> None:
    plan = planned(directory, *limits, model="gpt-new", units=(("pages", 2),))
    assert plan.price is None and plan.demand == Demand(1_024, 500, 256, 1, False, None)


def test_a_limit_on_money_refuses_a_model_without_a_price(directory: Directory) -> None:
    with pytest.raises(Refused, match="no price") as refused:
        planned(directory, limit("tokens"), limit("cost", model="gpt-*"), model="gpt-new")
    assert refused.value.code == "model_unpriced"
    assert "llmctl price set acme/gpt-new" in str(refused.value.hint)


def test_a_price_for_audio_alone_prices_no_chat(directory: Directory) -> None:
    with pytest.raises(Refused) as refused:
        planned(directory, limit(), model="gpt-ear")
    assert refused.value.code == "model_unpriced"
    assert planned(directory, model="gpt-ear").price is None
    assert planned(directory, limit(), model="gpt-ear", units=(("audio_seconds", 60),)).price is not None
