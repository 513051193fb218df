"""What admins are told, and that the same crossing is told once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmctl.domain.alert import DAY_S, HOUR_S, Pace, failing, limit_crossed, runaway, unpriced
from llmctl.domain.limit import Extra, Limit, Standing
from llmctl.domain.scope import Scope

USD = 1_000_000_000
PERCENTS = (50, 80, 100)
LIMIT = Limit(3, Scope("group", 1, "sales"), "", "cost", "month", "Europe/Berlin", "", 200 * USD, False)
START_S, END_S = 1_793_487_600, 1_796_079_600  # November 2026 in Berlin


def standing(settled: int, limit: Limit = LIMIT) -> Standing:
    return Standing(limit, 0, START_S, END_S, settled, 0)


@pytest.mark.parametrize(
    ("settled", "percent"), [(0, None), (99, None), (100, 50), (159, 50), (160, 80), (199, 80), (200, 100), (900, 100)]
)
def test_the_highest_share_that_is_gone_is_told(settled: int, percent: int | None) -> None:
    alert = limit_crossed(standing(settled * USD), PERCENTS)
    assert (None if alert is None else alert.facts["percent"]) == percent


def test_a_limit_says_whose_it_is_how_much_is_gone_and_when_it_resets() -> None:
    alert = limit_crossed(standing(160 * USD), PERCENTS)
    assert alert is not None
    assert alert.text == (
        "80 % of limit l3 (group sales) is gone: $160.00 of $200.00 per month spent; it resets Tue 01 Dec 00:00 CET"
    )
    each = replace(LIMIT, each="user", measure="tokens", model_pattern="gpt-*", amount=10)
    alert = limit_crossed(standing(10, each), PERCENTS, "alice")
    assert alert is not None
    assert alert.text.startswith(
        "100 % of limit l3 (group sales, each user: alice for gpt-*) is gone: 10 tokens of 10 tokens per month used"
    )


def test_the_same_crossing_has_the_same_key_and_a_raised_amount_can_be_crossed_again() -> None:
    one, later = limit_crossed(standing(160 * USD), PERCENTS), limit_crossed(standing(170 * USD), PERCENTS)
    raised = limit_crossed(standing(320 * USD, replace(LIMIT, amount=400 * USD)), PERCENTS)
    assert one is not None and later is not None and raised is not None
    assert one.key == later.key != raised.key


def test_what_is_granted_counts() -> None:
    granted = standing(100 * USD, replace(LIMIT, extras=(Extra(0, 200 * USD, END_S),)))
    granted.grant(START_S)
    assert limit_crossed(granted, PERCENTS) is None


@pytest.mark.parametrize("change", [{"window": "minute"}, {"measure": "concurrency"}, {"amount": 0}])
def test_limits_of_a_moment_are_no_news(change: dict[str, object]) -> None:
    assert limit_crossed(standing(900 * USD, replace(LIMIT, **change)), PERCENTS) is None  # type: ignore[arg-type]


def test_spending_runs_away_when_it_leaves_its_own_past_behind() -> None:
    week = 7 * DAY_S
    usual = 1 * USD * (week // HOUR_S)  # a dollar an hour
    rules = {"factor": 10, "nano_usd_min": 5 * USD, "now_s": END_S}
    assert runaway(Pace("user alice", 9 * USD, usual, week), **rules) is None
    alert = runaway(Pace("user alice", 10 * USD, usual, week), **rules)
    assert alert is not None
    assert alert.text == "user alice spent $10.00 in the last hour; usual is $1.00 an hour"
    assert runaway(Pace("user bob", 4 * USD, 0, week), **rules) is None  # a trifle
    assert runaway(Pace("user bob", 5 * USD, 0, week), **rules) is not None  # after a quiet week
    assert runaway(Pace("user new", 50 * USD, 0, HOUR_S), **rules) is None  # who has no past yet


def test_a_provider_fails_when_every_second_call_does() -> None:
    assert failing("openai", calls=9, failed=9, now_s=0) is None
    assert failing("openai", calls=10, failed=4, now_s=0) is None
    alert = failing("openai", calls=10, failed=5, now_s=HOUR_S - 1)
    assert alert is not None and alert.text == "provider openai fails: 5 of 10 calls in the last 60 s"
    again, later = (failing("openai", calls=10, failed=5, now_s=now_s) for now_s in (0, HOUR_S))
    assert again is not None and later is not None and again.key == alert.key != later.key


def test_a_model_without_a_price_is_told_once_a_day() -> None:
    assert unpriced("local/x", now_s=0).key == unpriced("local/x", now_s=DAY_S - 1).key
    assert "llmctl price set local/x" in unpriced("local/x", now_s=0).text


def test_a_model_that_a_key_holder_named_runs_nothing_where_the_command_is_pasted() -> None:
    text = unpriced("fine/$(touch${IFS}pwned);m", now_s=0).text
    assert text.endswith("llmctl price set 'fine/$(touch${IFS}pwned);m' --input ... --output ...")
