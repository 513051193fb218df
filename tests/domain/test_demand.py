from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.domain.bounds import Bounds
from llmctl.domain.call import Ask
from llmctl.domain.demand import (
    UNKNOWN_TURNS,
    Demand,
    ModelFacts,
    Rates,
    demand_of,
    input_bound,
    refuse_unbounded,
    tool_turns,
    worst_case,
)
from llmctl.domain.price import Price, Rate, Tariff
from llmctl.domain.usage import Usage

USD = 1_000_000_000  # a rate of a dollar per million tokens
RATES = Rates(input_rate=1_250_000_000, output_rate=10 * USD)
ASK = Ask(endpoint="chat.completions", model="gpt-5", stream=False, input_bytes=1_000)
FACTS = ModelFacts(context_tokens=400_000, output_tokens_max=128_000, prompt_overhead_tokens=2_048)
UNKNOWN = ModelFacts(context_tokens=None, output_tokens_max=None, prompt_overhead_tokens=2_048)

rates = st.builds(
    Rates,
    input_rate=st.integers(0, 200 * USD),
    output_rate=st.integers(0, 200 * USD) | st.integers(0, 3),
    request_nano_usd=st.integers(0, USD),
)
tokens = st.integers(0, 2_000_000)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    most = draw(tokens)
    return Demand(
        draw(tokens), most, draw(st.integers(0, most)), draw(st.integers(1, 128)), draw(st.booleans()), draw(rates)
    )


def worst(ask: Ask = ASK, facts: ModelFacts = FACTS, bounds: Bounds | None = None) -> Demand:
    return demand_of(ask, facts, RATES, bounds or Bounds())


# ---- what it costs ----


@given(demands(), tokens, tokens)
def test_more_output_never_costs_less(demand: Demand, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert demand.cost_nano_usd(low) <= demand.cost_nano_usd(high)
    assert demand.tokens(low) <= demand.tokens(high)


@given(demands(), st.integers(-(10**12), 10**15))
def test_the_output_for_a_budget_is_the_most_that_stays_within_it(demand: Demand, budget: int) -> None:
    assume(demand.rates is not None and demand.rates.output_rate > 0)
    fitting = demand.output_tokens_for_cost(budget)
    assert demand.cost_nano_usd(fitting) <= budget < demand.cost_nano_usd(fitting + 1)


@given(demands(), st.integers(-(10**7), 10**9))
def test_the_output_for_a_number_of_tokens_is_the_most_that_stays_within_it(demand: Demand, budget: int) -> None:
    fitting = demand.output_tokens_for_tokens(budget)
    assert demand.tokens(fitting) <= budget < demand.tokens(fitting + 1)


def test_output_that_costs_nothing_is_bounded_by_the_demand_alone() -> None:
    free = Demand(10, 500, 100, 1, False, Rates(input_rate=USD, output_rate=0))
    assert free.output_tokens_for_cost(10**12) == 500
    assert replace(free, rates=None).output_tokens_for_cost(0) == 500


def test_a_cost_is_rounded_up_once_and_the_fee_of_the_request_added() -> None:
    demand = Demand(1, 1, 1, 1, False, Rates(input_rate=1, output_rate=1, request_nano_usd=7))
    assert demand.cost_nano_usd(1) == 1 + 7
    assert replace(demand, rates=None).cost_nano_usd(1) == 0, "an unpriced model has no known cost"


def test_several_answers_are_held_each_and_the_input_once() -> None:
    demand = Demand(1_000, 100, 100, 8, False, RATES)
    assert demand.tokens(100) == 1_800
    assert demand.cost_nano_usd(100) == 1_250_000 + 8_000_000


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**5), st.data())
def test_a_hold_covers_whatever_such_a_call_can_be_billed(
    body: int, read: int, written: int, output: int, data: st.DataObject
) -> None:
    meters = ("input", "cache_read", "cache_write", "output", "reasoning", "request")
    tariff = Tariff(
        {
            meter: Rate(data.draw(st.integers(0, 20 * USD)), ((200_000, data.draw(st.integers(0, 40 * USD))),))
            for meter in meters
            if meter in ("input", "output") or data.draw(st.booleans())
        }
    )
    price = Price(1, "openai", "gpt-5", "set", 0, tariff)
    ask = replace(ASK, input_bytes=body, output_tokens_max=output)
    ceiling = price.ceiling(input_bound(ask, FACTS, Bounds()), "", "implicit")
    demand = demand_of(ask, FACTS, Rates(ceiling.input_rate, ceiling.output_rate, ceiling.request_nano_usd), Bounds())
    total = data.draw(st.integers(0, demand.input_tokens))
    usage = Usage(
        input_tokens=total,
        cache_read_tokens=min(read, total),
        cache_write_tokens=min(written, max(0, total - read)),
        output_tokens=output,
        reasoning_tokens=data.draw(st.integers(0, output)),
    )
    assert price.cost_nano_usd(usage) <= demand.cost_nano_usd(output)
    assert usage.total_tokens <= demand.tokens(output)


# ---- the input ----


def test_text_makes_no_more_tokens_than_it_has_bytes_beside_what_the_provider_adds() -> None:
    assert input_bound(ASK, FACTS, Bounds()) == 1_000 + 2_048


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unbounded_input": "images"}, 400_000),
        ({"server_tool_turns": 3}, 4 * 400_000),
        ({"server_tool_turns": UNKNOWN_TURNS}, 11 * 400_000),
        ({"server_tool_turns": 1, "unbounded_input": "images"}, 2 * 400_000),
        ({"inputs": 3, "unbounded_input": "images"}, 3 * 400_000),
    ],
)
def test_what_bytes_do_not_bound_is_held_as_the_whole_context_each_turn(
    changes: dict[str, object], expected: int
) -> None:
    ask = replace(ASK, **changes)
    assert input_bound(ask, FACTS, Bounds()) == expected
    assert input_bound(ask, UNKNOWN, Bounds(context_tokens_default=70_000)) == expected // 400_000 * 70_000


def test_an_assumed_context_never_bounds_below_what_is_sent() -> None:
    ask = replace(ASK, unbounded_input="images", input_bytes=1_000_000)
    assert input_bound(ask, UNKNOWN, Bounds(context_tokens_default=7)) > 1_000_000
    assert input_bound(ask, replace(FACTS, context_tokens=0), Bounds()) > 0, "a context of 0 is an unknown one"


def test_server_tools_without_a_bound_have_the_admin_s() -> None:
    assert tool_turns(replace(ASK, server_tool_turns=UNKNOWN_TURNS), Bounds(server_tool_turns_max=4)) == 4
    assert tool_turns(replace(ASK, server_tool_turns=2), Bounds(server_tool_turns_max=1)) == 2, (
        "what was asked can happen"
    )
    assert tool_turns(ASK, Bounds()) == 0


# ---- the output ----


@pytest.mark.parametrize(
    ("asked", "turns", "prompts", "images", "made"),
    [
        ({}, 1, 32_000, 0, 500),
        ({}, 4, 4 * 32_000, 4 * 2 * 7_000, 4 * 500),  # each may show what those before it made
        ({"images": 3, "unbounded_input": "images"}, 1, 32_000, 16 * 7_000, 500),
        ({"unbounded_input": "a stored response"}, 2, 2 * 32_000, 2 * 16 * 7_000, 2 * 500),
        ({}, 10**6, 10**6 * 32_000, 10**6 * 16 * 7_000, 10**6 * 500),
    ],
)
def test_a_tool_for_images_holds_what_its_model_reads_and_makes(
    asked: dict[str, object], turns: int, prompts: int, images: int, made: int
) -> None:
    each = 1_000_000  # a nano-dollar a unit
    meters = {"image_tool_text_tokens": each, "image_tool_image_tokens": 2 * each, "image_tool_output_tokens": 3 * each}
    by_call = {"input": 0, "output": 0, "web_search": 7 * each, "image_generation": 11 * each}
    ask = replace(ASK, server_tool_turns=turns, image_tool_tokens=500, **asked)

    def fees(rates: dict[str, int]) -> int:
        price = Price(1, "p", "m", "admin", 0, Tariff({meter: Rate(rate) for meter, rate in rates.items()}))
        found = worst_case(ask, "openai", FACTS, price, Bounds(), "").rates
        assert found is not None
        return found.request_nano_usd

    assert fees(by_call | meters) == 7 * turns + prompts + 2 * images + 3 * made
    assert fees(by_call) == 11 * turns
    assert fees(by_call | {"image_generation": 10**6 * each, "image_tool_output_tokens": 3 * each}) == 10**6 * turns


def test_the_client_s_own_maximum_counts() -> None:
    demand = worst(replace(ASK, output_tokens_max=1_000, output_multiplier=3))
    assert (demand.output_tokens, demand.output_tokens_min, demand.output_multiplier) == (1_000, 256, 3)
    assert not demand.output_tokens_injected


def test_without_one_the_model_s_documented_maximum_counts() -> None:
    demand = worst()
    assert (demand.output_tokens, demand.output_tokens_injected) == (128_000, False)


def test_without_any_the_admin_s_default_is_held_and_must_be_written_into_the_request() -> None:
    demand = worst(facts=UNKNOWN, bounds=Bounds(output_tokens_default=2_000))
    assert (demand.output_tokens, demand.output_tokens_injected) == (2_000, True)


def test_a_small_request_is_not_refused_for_less_than_it_asked_for() -> None:
    assert worst(replace(ASK, output_tokens_max=16)).output_tokens_min == 16
    assert worst(replace(ASK, output_tokens_max=0)).output_tokens_min == 0


def test_a_thinking_budget_is_the_least_that_makes_sense() -> None:
    assert worst(replace(ASK, output_tokens_max=20_000, output_tokens_floor=16_000)).output_tokens_min == 16_000
    assert worst(replace(ASK, output_tokens_max=100, output_tokens_floor=16_000)).output_tokens_min == 100


def test_a_maximum_that_we_write_leaves_room_for_the_thinking_that_was_asked_for() -> None:
    demand = worst(replace(ASK, output_tokens_floor=16_000), UNKNOWN)
    assert (demand.output_tokens, demand.output_tokens_min, demand.output_tokens_injected) == (16_000, 16_000, True)


def test_an_embedding_has_no_output() -> None:
    ask = replace(ASK, endpoint="embeddings", generates=False, output_multiplier=9)
    assert worst(ask) == Demand(3_048, 0, 0, 1, False, RATES)


@given(
    st.builds(
        Ask,
        endpoint=st.just("messages"),
        model=st.just("m"),
        stream=st.booleans(),
        input_bytes=tokens,
        output_tokens_max=st.none() | tokens,
        output_multiplier=st.integers(1, 128),
        output_tokens_floor=st.sampled_from([0, 1_024, 64_000]),
        generates=st.booleans(),
        unbounded_input=st.sampled_from(["", "images"]),
        images=st.integers(0, 5),
        image_bytes=st.just(0),
        server_tool_turns=st.integers(-1, 20),
    ),
    st.builds(
        ModelFacts,
        context_tokens=st.none() | tokens,
        output_tokens_max=st.none() | tokens,
        prompt_overhead_tokens=tokens,
        image_tokens_max=st.none() | tokens,
    ),
)
def test_a_demand_is_never_below_what_was_asked_for_and_its_minimum_never_above_it(ask: Ask, facts: ModelFacts) -> None:
    demand = worst(ask, facts)
    assert 0 <= demand.output_tokens_min <= demand.output_tokens
    assert demand.output_multiplier >= 1
    assert ask.unbounded_input or ask.server_tool_turns or demand.input_tokens >= ask.input_bytes
    if ask.generates:
        assert demand.output_tokens >= (ask.output_tokens_max or 0)
        assert not (demand.output_tokens_injected and ask.output_tokens_max is not None)


# ---- what cannot be bounded ----


@pytest.mark.parametrize(
    "changes", [{"unbounded_input": "images"}, {"server_tool_turns": 1}, {"server_tool_turns": UNKNOWN_TURNS}]
)
def test_an_admin_can_refuse_what_cannot_be_bounded(changes: dict[str, object]) -> None:
    ask = replace(ASK, **changes)
    refused = refuse_unbounded(ask, Bounds(unbounded="refuse"))
    assert refused is not None and refused.code == "bad_request"
    assert (ask.unbounded_input or "server-side tools") in refused.message
    assert refuse_unbounded(ask, Bounds()) is None
    assert refuse_unbounded(ASK, Bounds(unbounded="refuse")) is None


def test_images_are_bounded_where_the_provider_says_what_one_costs_at_most() -> None:
    ask = replace(ASK, unbounded_input="images", images=3, image_bytes=900_000, input_bytes=901_000)
    facts = replace(FACTS, image_tokens_max=5_000, prompt_overhead_tokens=100)
    assert input_bound(ask, facts, Bounds()) == 1_000 + 100 + 3 * 5_000
    assert refuse_unbounded(ask, Bounds(unbounded="refuse"), 5_000) is None
    for other in (replace(ask, unbounded_input="audio"), replace(ask, images=0, image_bytes=0)):
        assert input_bound(other, facts, Bounds()) >= 400_000
        assert refuse_unbounded(other, Bounds(unbounded="refuse"), 5_000) is not None
    assert input_bound(ask, replace(facts, image_tokens_max=None), Bounds()) >= 400_000
