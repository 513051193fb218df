from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmctl.domain.demand import Demand, Rates
from llmctl.domain.errors import Refused
from llmctl.domain.limit import HOLD_MAX, MEASURES, RETRY_S_MAX, Admitted, Limit, Standing, decide, needed
from llmctl.domain.scope import Scope

USD = 1_000_000_000
NOW_S = 1_795_000_000  # 18 Nov 2026, 10:26:40 UTC
MONTH_END_S = 1_796_083_200  # 1 Dec 2026
RATES = Rates(input_rate=1 * USD, output_rate=10 * USD)  # USD 1 and 10 per million tokens


def limit(measure: str = "cost", amount: int = 10 * USD, **changes: object) -> Limit:
    facts = {
        "id": 3,
        "scope": Scope("group", 1, "sales"),
        "each": "user",
        "measure": measure,
        "window": "total" if measure == "concurrency" else "month",
        "zone": "UTC",
        "model_pattern": "",
        "amount": amount,
        "soft": False,
    }
    return Limit(**{**facts, **changes})  # type: ignore[arg-type]


def standing(of: Limit, settled: int = 0, held: int = 0, end_s: int | None = MONTH_END_S) -> Standing:
    return Standing(of, 7, 0, None if of.window == "total" else end_s, settled, held)


def demand(
    input_tokens: int = 1_000, output_tokens: int = 1_000, least: int = 256, choices: int = 1, **more: object
) -> Demand:
    wanted = Demand(input_tokens, output_tokens, min(least, output_tokens), choices, False, RATES)
    return structs.replace(wanted, **more)


def decided(standings: Sequence[Standing], wanted: Demand, share_percent: int = 25) -> Admitted | Refused:
    return decide(standings, wanted, share_percent=share_percent, now_s=NOW_S)


def refused(*standings: Standing, wanted: Demand | None = None) -> Refused:
    decision = decided(standings, wanted or demand())
    assert isinstance(decision, Refused), decision
    return decision


# ---- for any limits and any call ----

limits = st.builds(
    limit,
    st.sampled_from(MEASURES),
    st.integers(0, 40) | st.integers(0, 5_000_000),
    id=st.integers(1, 9),
    window=st.sampled_from(["minute", "month", "total"]),
    soft=st.booleans(),
)
demands = st.builds(
    demand,
    st.integers(0, 3_000),
    st.integers(0, 3_000),
    st.integers(0, 500),
    st.integers(1, 4),
    rates=st.none() | st.builds(Rates, st.integers(0, 3 * USD), st.integers(0, 3 * USD), st.integers(0, 100)),
)
shares = st.integers(1, 100)
ends = st.integers(NOW_S - 5, NOW_S + 120)


@st.composite
def situations(draw: st.DrawFn, most: int = 4) -> tuple[list[Standing], Demand]:
    """A call and its limits, most of which have about as much left as the call needs."""
    wanted, standings = draw(demands), []
    for one in draw(st.lists(limits, max_size=most)):
        smallest, full = (needed(one, wanted, tokens) for tokens in (wanted.output_tokens_min, wanted.output_tokens))
        left = draw(st.integers(smallest, full) | st.integers(-10, 2 * full) | st.just(10**7))
        settled, held = draw(st.integers(0, 10**7)), draw(st.sampled_from([0, 1, 1_000]))
        roomy = replace(one, amount=max(0, settled + held + left))
        standings.append(standing(draw(st.sampled_from([one, roomy, roomy, roomy])), settled, held, draw(ends)))
    return standings, wanted


def takes(of: Standing, wanted: Demand, output_tokens: int) -> int:
    return needed(of.limit, wanted, output_tokens)


def hard(standings: Sequence[Standing]) -> list[Standing]:
    return [one for one in standings if not one.limit.soft]


@given(situations(), shares)
def test_what_is_granted_fits_every_hard_limit(situation: tuple[list[Standing], Demand], share: int) -> None:
    standings, wanted = situation
    decision = decided(standings, wanted, share)
    if isinstance(decision, Admitted):
        for one in hard(standings):
            assert takes(one, wanted, decision.output_tokens) <= max(0, one.left)
        assert wanted.output_tokens_min <= decision.output_tokens <= wanted.output_tokens
        assert decision.capped == (decision.output_tokens < wanted.output_tokens)


@given(situations(), shares)
def test_a_call_that_fits_whole_goes_whole_and_only_one_that_cannot_fit_is_refused(
    situation: tuple[list[Standing], Demand], share: int
) -> None:
    standings, wanted = situation
    decision = decided(standings, wanted, share)
    too_full = [one for one in hard(standings) if takes(one, wanted, wanted.output_tokens_min) > max(0, one.left)]
    if all(takes(one, wanted, wanted.output_tokens) <= one.left for one in hard(standings)):
        passed = tuple(one.limit.id for one in standings if one.limit.soft and one.left <= 0)
        assert decision == Admitted(wanted.output_tokens, capped=False, passed=passed)
    elif isinstance(decision, Refused):
        assert decision.facts["limit"] in {f"l{one.limit.id}" for one in hard(standings)}
    else:
        assert not too_full


@given(situations(), shares)
def test_a_capped_call_takes_no_more_than_its_share_or_the_least_that_is_of_use(
    situation: tuple[list[Standing], Demand], share: int
) -> None:
    standings, wanted = situation
    decision = decided(standings, wanted, share)
    if isinstance(decision, Admitted) and decision.capped:
        assert any(
            takes(one, wanted, wanted.output_tokens) > one.left
            and takes(one, wanted, decision.output_tokens)
            <= max(one.left * share // 100, takes(one, wanted, wanted.output_tokens_min))
            for one in hard(standings)
        )


@given(situations(), st.randoms())
def test_whether_a_call_may_go_does_not_depend_on_the_order_of_its_limits(
    situation: tuple[list[Standing], Demand], chance: random.Random
) -> None:
    standings, wanted = situation
    shuffled = chance.sample(standings, len(standings))
    assert isinstance(decided(standings, wanted), Admitted) == isinstance(decided(shuffled, wanted), Admitted)


@given(situations())
def test_soft_limits_neither_refuse_nor_cap(situation: tuple[list[Standing], Demand]) -> None:
    standings, wanted = situation
    soft = [replace(one, limit=replace(one.limit, soft=True)) for one in standings]
    passed = tuple(one.limit.id for one in soft if one.left <= 0)
    assert decided(soft, wanted) == Admitted(wanted.output_tokens, capped=False, passed=passed)
    if isinstance(granted := decided(standings, wanted), Admitted):
        assert decided([*soft, *standings], wanted) == granted._replace(passed=passed + granted.passed)


@given(situations())
def test_only_what_may_pass_by_waiting_says_when_to_retry(situation: tuple[list[Standing], Demand]) -> None:
    decision = decided(*situation)
    if isinstance(decision, Admitted):
        return
    if decision.code in ("limit_spent", "request_exceeds_limit"):
        assert decision.retry_after_s is None
    else:
        assert decision.code in ("limit_held", "rate_limited")
        assert decision.retry_after_s is not None and 1 <= decision.retry_after_s <= RETRY_S_MAX
        assert decision.facts["amount"] not in (0, "0.00"), "a limit of nothing never passes"
    assert decision.message and decision.hint


@dataclass
class Books:
    """A limit as the ledger keeps it."""

    limit: Limit
    settled: int = 0
    held: int = 0

    def standing(self) -> Standing:
        return standing(self.limit, self.settled, self.held)


@given(st.lists(limits, min_size=1, max_size=4), st.lists(demands, max_size=40), shares, st.randoms())
def test_no_sequence_of_calls_spends_more_than_a_limit_has(
    given_limits: list[Limit], wanted: list[Demand], share: int, chance: random.Random
) -> None:
    books = [Books(one) for one in given_limits]
    open_calls: list[list[int]] = []
    for each in wanted:
        decision = decided([book.standing() for book in books], each, share)
        if isinstance(decision, Admitted):
            open_calls.append([needed(book.limit, each, decision.output_tokens) for book in books])
            for book, held in zip(books, open_calls[-1], strict=True):
                book.held += held
        while open_calls and chance.random() < 0.4:
            used_percent = chance.choice([0, 10, 100])
            for book, held in zip(books, open_calls.pop(chance.randrange(len(open_calls))), strict=True):
                book.held -= held
                book.settled += 0 if book.limit.measure == "concurrency" else -(-held * used_percent // 100)
        for book in books:
            assert book.limit.soft or book.settled + book.held <= book.limit.amount


@pytest.mark.parametrize(("output_tokens", "used_tokens"), [(2_000, 2_000), (128_000, 300)])
def test_a_limit_can_be_used_up_before_it_says_that_it_is_spent(output_tokens: int, used_tokens: int) -> None:
    books, wanted = Books(limit(amount=5 * USD)), demand(500, output_tokens)
    while isinstance(decision := decided([books.standing()], wanted), Admitted):
        books.settled += wanted.cost_nano_usd(min(used_tokens, decision.output_tokens))
    assert decision.code == "limit_spent"
    assert books.limit.amount * 95 // 100 <= books.settled <= books.limit.amount


# ---- capping ----


@pytest.mark.parametrize(
    ("left", "wanted", "output_tokens"),
    [
        (51_000, demand(1_000, 50_000), 50_000),  # it fits: no share
        (50_999, demand(1_000, 50_000), 11_749),  # a quarter of what is left, less the input
        (10_000, demand(1_000, 50_000), 1_500),
        (10_000, demand(1_000, 50_000, choices=4), 375),
        (1_300, demand(1_000, 50_000), 256),  # the least that is of use, where a quarter is less
        (1_256, demand(1_000, 50_000), 256),
        (1_016, demand(1_000, 16), 16),
    ],
)
def test_near_the_end_of_a_limit_a_call_is_capped_to_its_share(left: int, wanted: Demand, output_tokens: int) -> None:
    decision = decided([standing(limit("tokens", 1_000_000), 1_000_000 - left)], wanted)
    assert decision == Admitted(output_tokens, capped=output_tokens < wanted.output_tokens)


def test_where_not_even_a_useful_answer_fits_the_call_is_refused() -> None:
    assert refused(standing(limit("tokens", 10_000), 8_745)).code == "limit_spent"


def test_a_thinking_budget_that_does_not_fit_is_refused_and_not_cut() -> None:
    thinking = demand(1_000, 20_000, least=16_000)
    assert refused(standing(limit("tokens", 100_000), 84_000), wanted=thinking).code == "limit_spent"
    assert decided([standing(limit("tokens", 100_000), 80_000)], thinking) == Admitted(16_000, capped=True)


def test_several_limits_cap_to_the_tightest() -> None:
    wide, narrow = standing(limit("tokens", 40_000)), standing(limit("cost", USD // 25))  # 4 cents
    wanted = demand(1_000, 50_000)
    assert decided([wide], wanted) == Admitted(9_000, capped=True)
    assert decided([narrow], wanted) == Admitted(900, capped=True)
    for both in ([wide, narrow], [narrow, wide]):
        assert decided(both, wanted) == Admitted(900, capped=True)


def test_a_cap_leaves_most_of_what_is_left_to_the_others() -> None:
    books, wanted = Books(limit("tokens", 40_000)), demand(1_000, 50_000)
    for _ in range(4):
        decision = decided([books.standing()], wanted)
        assert isinstance(decision, Admitted)
        books.held += wanted.tokens(decision.output_tokens)
    assert books.standing().left > 40_000 // 4


def test_a_limit_on_calls_never_lowers_an_output() -> None:
    counted = [standing(limit("requests", 1)), standing(limit("concurrency", 1))]
    assert decided(counted, demand(1_000, 50_000)) == Admitted(50_000, capped=False)


# ---- refusing, with the right code ----


def test_spent_money_is_spent_until_the_window_ends() -> None:
    error = refused(standing(limit(), 9_998_000_000, 1_000_000))
    assert (error.code, error.retry_after_s) == ("limit_spent", None)
    assert error.message == (
        "limit l3 (group sales, each user) is spent: $10.00 per month, $10.00 spent, $0.0010 held by open calls, "
        "$0.0010 left; this call needs up to $0.0036"
    )


def test_money_that_only_open_calls_hold_is_worth_a_retry() -> None:
    error = refused(standing(limit(), 9_000_000_000, 999_000_000))
    assert (error.code, error.retry_after_s) == ("limit_held", 2)
    assert "$9.00 spent, $0.9990 held by open calls, $0.0010 left; this call needs up to $0.0036" in error.message
    assert error.hint == "retry shortly: what open calls do not use is given back"


def test_a_call_that_needs_all_there_is_waits_for_what_is_held_and_not_for_what_is_spent() -> None:
    of, wanted = limit("tokens", 1_256), demand(1_000, 256)
    assert decided([standing(of)], wanted) == Admitted(256, capped=False)
    assert refused(standing(of, 0, 1), wanted=wanted).code == "limit_held"
    assert refused(standing(of, 1), wanted=wanted).code == "limit_spent"


def test_what_holds_cannot_give_back_is_spent() -> None:
    assert refused(standing(limit(), 9_999_000_000, 500_000)).code == "limit_spent"


@pytest.mark.parametrize(
    ("reset_s", "code"), [(1, "rate_limited"), (60, "rate_limited"), (61, "limit_spent"), (86_400, "limit_spent")]
)
@pytest.mark.parametrize(("measure", "amount"), [("cost", USD), ("tokens", 5_000), ("requests", 5)])
def test_a_spent_limit_that_resets_within_a_minute_is_a_rate(
    measure: str, amount: int, reset_s: int, code: str
) -> None:
    error = refused(standing(limit(measure, amount, window="hour"), amount, 0, NOW_S + reset_s))
    assert error.code == code
    assert error.retry_after_s == (reset_s if code == "rate_limited" else None)


def test_a_reset_that_the_clock_has_passed_is_a_retry_in_a_second() -> None:
    assert refused(standing(limit("requests", 5), 5, 0, NOW_S - 3)).retry_after_s == 1


def test_a_call_that_exceeds_the_whole_limit_will_never_pass() -> None:
    for settled in (0, 10_000):
        error = refused(standing(limit("tokens", 10_000), settled, 0, NOW_S + 1), wanted=demand(9_745, 4_000))
        assert (error.code, error.retry_after_s) == ("request_exceeds_limit", None)
        assert "this call alone exceeds limit l3" in error.message and "needs up to 10,001 tokens" in error.message
    assert isinstance(decided([standing(limit("tokens", 10_001))], demand(9_745, 4_000)), Admitted)


def test_a_full_house_is_a_rate() -> None:
    error = refused(
        standing(
            limit("concurrency", 20, scope=Scope("group", 2, "engineering"), each="", model_pattern="gpt-5*"), 0, 20
        )
    )
    assert (error.code, error.retry_after_s) == ("rate_limited", 1)
    assert error.message == "limit l3 (group engineering, gpt-5*): 20 at once, all in use"
    assert isinstance(decided([standing(limit("concurrency", 20), 0, 19)], demand()), Admitted)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_limit_of_nothing_is_never_worth_a_retry(measure: str) -> None:
    error = refused(standing(limit(measure, 0, window="minute"), 0, 0, NOW_S + 5))
    assert (error.code, error.retry_after_s) == ("limit_spent", None)


def test_a_call_that_costs_nothing_is_not_refused_for_money() -> None:
    free = demand(rates=Rates(0, 0))
    for settled in (10 * USD, 11 * USD):  # a settle above its hold may have overspent the limit
        assert decided([standing(limit(), settled)], free) == Admitted(1_000, capped=False)
    assert refused(standing(limit("tokens", 10), 10), wanted=free)


@pytest.mark.parametrize(
    "wanted", [demand(10, 10**9, choices=10**8), demand(10**17, 10), demand(10**17, 10, rates=None)]
)
def test_a_call_larger_than_the_books_can_hold_is_refused_without_any_limit(wanted: Demand) -> None:
    error = refused(wanted=wanted)
    assert (error.code, error.retry_after_s) == ("bad_request", None)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**8))
def test_what_is_held_always_fits_a_column_of_the_database_thousands_of_times(
    input_tokens: int, output_tokens: int, choices: int
) -> None:
    wanted = demand(input_tokens, output_tokens, choices=choices)
    if isinstance(granted := decided([], wanted), Admitted):
        assert wanted.cost_nano_usd(granted.output_tokens) <= HOLD_MAX < 2**63 // 9_000
        assert wanted.tokens(granted.output_tokens) <= HOLD_MAX


# ---- refusing, with the right words ----


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            limit(),
            "is spent: $10.00 per month, $10.00 spent, $0.00 held by open calls, $0.00 left; this call needs up to",
        ),
        (limit(window="total"), "is spent: $10.00 in total, "),
        (limit(amount=12_345_670_000_000, window="day"), "is spent: $12,345.67 per day, "),
        (limit("tokens", 2_000_000), "2,000,000 tokens per month, 2,000,000 tokens spent, 0 tokens held by open calls"),
        (limit("requests", 1_000, window="week"), "is spent: 1,000 requests per week, "),
    ],
)
def test_a_refusal_says_how_much_there_is_and_for_how_long(of: Limit, words: str) -> None:
    assert words in refused(standing(of, of.amount)).message


@pytest.mark.parametrize(
    ("amount", "settled", "output_tokens", "set_", "left", "needs"),
    [
        (600_000, 0, 60, "$0.0006", "$0.0006", "$0.0007"),  # 0.00061 are needed
        (650_000, 0, 65, "$0.00065", "$0.0006", "$0.0007"),
        (10 * USD, 10 * USD - 640_000, 64, "$10.00", "$0.0006", "$0.0007"),
        (USD, 0, 100_000, "$1.00", "$1.00", "$1.01"),
        (90_000, 0, 9, "$0.00009", "$0.00009", "$0.0001"),
    ],
)
def test_the_figures_of_a_refusal_never_contradict_it(
    amount: int, settled: int, output_tokens: int, set_: str, left: str, needs: str
) -> None:
    wanted = demand(10, output_tokens, least=output_tokens)
    message = refused(standing(limit(amount=amount), settled), wanted=wanted).message
    assert f": {set_} per month, " in message
    assert message.endswith(f"{left} left; this call needs up to {needs}")


def test_a_refusal_names_the_limit_and_when_it_resets_in_the_group_s_own_time() -> None:
    end_s = 1_796_062_500  # midnight in Kathmandu
    error = refused(standing(limit(zone="Asia/Kathmandu", model_pattern="gpt-5*"), 10 * USD, 0, end_s))
    assert error.message.startswith("limit l3 (group sales, each user, gpt-5*) is spent: ")
    assert error.hint == "it resets at 2026-12-01T00:00:00+05:45; or ask your admin to raise it"
    total = refused(standing(limit(window="total"), 10 * USD))
    assert total.hint == "it never resets; or ask your admin to raise it"


def test_the_numbers_of_a_refusal_are_exact() -> None:
    assert refused(standing(limit(), 9_999_000_001, 7)).facts == {
        "limit": "l3",
        "on": "group sales, each user",
        "measure": "cost",
        "window": "month",
        "amount": "10.00",
        "spent": "9.999000001",
        "held": "0.000000007",
        "needed": "0.00356",
        "resets_at_s": MONTH_END_S,
    }
    assert refused(standing(limit("tokens", 5_000), 4_900, 90)).facts["spent"] == 4_900


def test_more_than_all_is_spent_where_a_call_cost_more_than_was_held() -> None:
    assert "$0.00 left" in refused(standing(limit(), 12 * USD)).message


def test_of_several_refusals_the_one_that_waiting_helps_least_is_told() -> None:
    held = standing(limit(), held=10 * USD)
    spent = standing(limit(), settled=10 * USD)
    assert refused(held, spent).code == refused(spent, held).code == "limit_spent"


def test_requests_that_are_open_count_as_spent() -> None:
    assert refused(standing(limit("requests", 5), settled=2, held=3)).code == "limit_spent"
