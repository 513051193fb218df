"""How the end of a call is booked: whose figures count, and what nobody knows."""

from __future__ import annotations

import pytest

from llmctl.config.providers import sandbox_provider
from llmctl.domain.call import Reading
from llmctl.domain.demand import Demand
from llmctl.domain.price import Price, Rate, Tariff
from llmctl.domain.usage import NO_USAGE, Usage
from llmctl.proxy.call import Call
from llmctl.proxy.plan import NOTHING, Plan
from llmctl.proxy.settlement import answered, superseded, unanswered
from llmctl.store.booking import Closing, Held
from tests.support.calls import BEGAN_S, admitted

USD = 1_000_000_000
PRICE = Price(7, "acme", "gpt-5", "admin", 0, Tariff({"input": Rate(1 * USD), "output": Rate(10 * USD)}))
DEMAND = Demand(1_000, 500, 500, 2, False, None)
HELD_NANO = 11_000_000


def call_of(price: Price | None = PRICE, *, free: bool = False) -> Call:
    """Of two choices of 500 tokens, or one that the provider does not bill."""
    plan = Plan(sandbox_provider(), "gpt-5", price, NOTHING if free else DEMAND, False, free=free)
    held_nano = HELD_NANO if price is not None and not free else 0
    return admitted(plan, Held(plan.demand.output_tokens, False, held_nano))


def without_an_answer(call: Call) -> Closing:
    return unanswered(call, status=504, error="provider_timeout", now_s=BEGAN_S + 2.5)


def test_without_an_answer_all_that_was_held_is_booked_as_an_estimate() -> None:
    closing = without_an_answer(call_of())
    assert (closing.state, closing.status, closing.error, closing.latency_ms) == (
        "settled",
        504,
        "provider_timeout",
        2_500,
    )
    assert closing.usage == Usage(input_tokens=1_000, output_tokens=2 * 500)
    assert (closing.usage_source, closing.cost_nano_usd, closing.price_id) == ("estimated", HELD_NANO, 7)


def test_without_an_answer_and_a_price_the_cost_is_unknown() -> None:
    closing = without_an_answer(call_of(None))
    assert (closing.usage_source, closing.cost_nano_usd, closing.price_id) == ("estimated", None, None)


@pytest.mark.parametrize("price", [PRICE, None])
def test_a_call_that_the_provider_does_not_bill_costs_nothing_and_nothing_is_estimated(price: Price | None) -> None:
    closing = without_an_answer(call_of(price, free=True))
    assert (closing.usage, closing.usage_source, closing.cost_nano_usd) == (NO_USAGE, None, 0)


def test_an_attempt_that_another_follows_keeps_its_cost_only_where_it_may_have_been_billed() -> None:
    billed, free = superseded(without_an_answer(call_of())), superseded(without_an_answer(call_of(free=True)))
    assert (billed.state, billed.status, billed.cost_nano_usd) == ("settled", None, HELD_NANO)
    assert (free.state, free.status, free.cost_nano_usd) == ("released", None, 0)


STATED = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=5)


@pytest.mark.parametrize(
    ("stated", "estimate", "usage", "source"),
    [
        (STATED, None, STATED, "reported"),
        (STATED, Usage(input_tokens=70, output_tokens=5), STATED, "reported"),
        # It stated what it had made by then, and more was seen.
        (STATED, Usage(input_tokens=70, output_tokens=9), STATED._replace(output_tokens=9), "estimated"),
        # It stated a side alone.
        (Usage(output_tokens=5), Usage(70, output_tokens=3), Usage(70, output_tokens=5), "estimated"),
        (Usage(input_tokens=10), Usage(70, output_tokens=3), Usage(10, output_tokens=3), "estimated"),
        (None, Usage(70, output_tokens=3), Usage(70, output_tokens=3), "estimated"),
        (None, None, NO_USAGE, None),
    ],
)
def test_what_a_provider_states_counts_and_an_estimate_fills_what_it_left_out(
    stated: Usage | None, estimate: Usage | None, usage: Usage, source: str | None
) -> None:
    closing = answered(call_of(), Reading(stated), status=200, error="", estimate=estimate, now_s=BEGAN_S + 1)
    assert (closing.usage, closing.usage_source) == (usage, source)
    assert closing.cost_nano_usd == usage.input_tokens * 1_000 + usage.output_tokens * 10_000
    assert closing.price_id == 7


@pytest.mark.parametrize(("price", "free", "cost"), [(None, False, None), (None, True, 0), (PRICE, True, 0)])
def test_an_answer_without_a_price_has_no_cost_and_one_that_is_free_costs_nothing(
    price: Price | None, free: bool, cost: int | None
) -> None:
    closing = answered(
        call_of(price, free=free), Reading(STATED), status=200, error="", estimate=None, now_s=BEGAN_S + 1
    )
    assert (closing.usage, closing.cost_nano_usd, closing.price_id) == (STATED, cost, None)


@pytest.mark.parametrize(("price", "own"), [(PRICE, (60_000, 7)), (None, (None, None))])
def test_a_cost_that_the_provider_states_goes_before_our_own(
    price: Price | None, own: tuple[int | None, int | None]
) -> None:
    reading = Reading(STATED, reported_cost_nano_usd=42)
    closing = answered(call_of(price), reading, status=200, error="", estimate=None, now_s=BEGAN_S + 1)
    assert (closing.cost_nano_usd, closing.price_id) == (42, None)
    assert (closing.own_cost_nano_usd, closing.own_price_id) == own
