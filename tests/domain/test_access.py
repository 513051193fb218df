from __future__ import annotations

import time
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.access import PATTERN_CHARS_MAX, ModelRule, check_pattern, covers, denial, matches
from llmctl.domain.errors import BadInput
from llmctl.domain.route import Target, resolve


def rules(level: str, *, allow: str = "", deny: str = "") -> tuple[ModelRule, ...]:
    """`rules("group sales", allow="gpt-5* o3", deny="*-pro")`"""
    effects: tuple[tuple[Literal["allow", "deny"], str], ...] = (("allow", allow), ("deny", deny))
    return tuple(ModelRule(effect, pattern, level) for effect, patterns in effects for pattern in patterns.split())


@pytest.mark.parametrize(
    ("pattern", "provider", "model", "expected"),
    [
        ("gpt-5", "openai", "gpt-5", True),
        ("llama3", "ollama", "llama3:latest", True),
        ("llama3:latest", "ollama", "llama3", True),
        ("ollama/llama3", "ollama", "llama3:latest", True),
        ("llama3:*", "ollama", "llama3:latest", True),
        ("llama3", "ollama", "llama3:8b", False),
        ("gpt-5", "openai", "gpt-5-mini", False),
        ("gpt-5*", "openai", "gpt-5", True),
        ("gpt-5*", "openai", "gpt-5-mini", True),
        ("*", "anthropic", "claude-opus-4-5", True),
        ("openai/*", "openai", "gpt-5", True),
        ("openai/*", "azure", "gpt-5", False),
        ("openai/gpt-5", "openai", "gpt-5", True),
        ("*/gpt-5", "azure", "gpt-5", True),
        ("gpt-?", "openai", "gpt-5", True),
        ("gpt-?", "openai", "gpt-", False),
        ("GPT-5*", "openai", "gpt-5-mini", True),
        ("gpt-5*", "openai", "GPT-5-MINI", True),
        ("OpenAI/GPT-5", "openai", "gpt-5", True),
        ("*-pro", "openai", "gpt-5-pro", True),
        ("*mini*", "openai", "gpt-5-mini-2026", True),
        ("*mini*2026*", "openai", "gpt-5-mini-2026-mini", True),
        ("gpt-5", "openai", "gpt-5\n", False),
        # Everything but * and ? means itself.
        ("gpt-4.1", "openai", "gpt-4x1", False),
        ("gpt-[45]", "openai", "gpt-4", False),
        ("gpt-[45]", "openai", "gpt-[45]", True),
        ("a|b", "openai", "a", False),
        ("(gpt)+", "openai", "gpt", False),
        ("^gpt-5$", "openai", "gpt-5", False),
        (r"gpt\d", "openai", "gpt5", False),
        (r"gpt\d", "openai", r"gpt\d", True),
        (r"gpt\?", "openai", r"gpt\5", True),
        ("ft:gpt-5:org::*", "openai", "ft:gpt-5:org::abc", True),
        ("meta-llama/*", "together", "meta-llama/Llama-4", True),
    ],
)
def test_a_pattern_is_for_the_bare_model_and_for_provider_slash_model(
    pattern: str, provider: str, model: str, expected: bool
) -> None:
    assert matches(pattern, provider, model) is expected


def naive(pattern: str, text: str) -> bool:
    """What a pattern means, character by character."""
    ends = {0}
    for letter in pattern:
        if letter == "*":
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if end < len(text) and letter in ("?", text[end])}
    return len(text) in ends


@given(st.text("ab*?/", min_size=1, max_size=12), st.text("abA/\n", max_size=12))
def test_patterns_mean_what_they_say(pattern: str, model: str) -> None:
    wanted = any(naive(pattern.lower(), name) for name in (model.lower(), f"p/{model.lower()}"))
    assert matches(pattern, "p", model) is wanted
    assert matches(pattern.upper(), "P", model) is wanted


@pytest.mark.parametrize(
    "pattern", ["*a" * 99 + "*b", "*" * 199 + "b", "*a*a*a?*a*a*?b", "a?" * 99 + "*b", "*aa" * 66 + "b"]
)
def test_no_pattern_takes_long_however_the_model_is_named(pattern: str) -> None:
    began_s = time.process_time()
    for model in ("a" * 200, "a" * 5_000, "/a" * 100):
        assert not matches(pattern, "a" * 64, model)
    assert time.process_time() - began_s < 1


@pytest.mark.parametrize(
    "pattern", ["gpt-5*", "openai/*", "*", "?", "ft:gpt-5:org::x", "x" * PATTERN_CHARS_MAX, "modèle-ü"]
)
def test_a_usable_pattern_stays_as_it_is(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern", ["", " ", "gpt 5", " gpt-5", "gpt-5\n", "a\tb", "\x1b[31m", "\x00", "\ud800", "\u202e", "x" * 201]
)
def test_a_pattern_that_nobody_could_mean_is_refused_with_an_example(pattern: str) -> None:
    with pytest.raises(BadInput, match=r"gpt-5\*") as caught:
        check_pattern(pattern)
    assert caught.value.message.isprintable()


def test_no_rule_means_all() -> None:
    assert denial([], "openai", "gpt-5") is None
    assert denial([(), ()], "openai", "gpt-5") is None


def test_what_a_level_allows_is_all_that_it_allows() -> None:
    sales = rules("group sales", allow="gpt-5* claude-*")
    assert denial([sales], "openai", "gpt-5-mini") is None
    assert denial([sales], "openai", "o3") == "not among the models allowed for group sales: gpt-5*, claude-*"


def test_deny_beats_allow_wherever_it_stands() -> None:
    sales = rules("group sales", allow="gpt-5*", deny="*-pro")
    assert denial([sales], "openai", "gpt-5-pro") == "denied for group sales by the rule *-pro"
    assert denial([sales[::-1]], "openai", "gpt-5-pro") == "denied for group sales by the rule *-pro"
    assert denial([sales], "openai", "gpt-5") is None


def test_a_level_that_only_denies_allows_the_rest() -> None:
    assert denial([rules("organisation", deny="o3*")], "openai", "gpt-5") is None


def test_a_child_narrows_and_never_widens() -> None:
    organisation = rules("organisation", allow="gpt-5*", deny="gpt-5-pro")
    alice = rules("user alice", allow="*")
    assert denial([organisation, alice], "openai", "gpt-5-mini") is None
    assert (
        denial([organisation, alice], "anthropic", "claude-x")
        == "not among the models allowed for organisation: gpt-5*"
    )
    assert denial([organisation, alice], "openai", "gpt-5-pro") == "denied for organisation by the rule gpt-5-pro"
    key = rules("key alice/laptop", allow="gpt-5-nano")
    assert (
        denial([organisation, alice, key], "openai", "gpt-5-mini")
        == "not among the models allowed for key alice/laptop: gpt-5-nano"
    )


names = st.sampled_from(["gpt-5", "GPT-5-mini", "gpt-5-pro", "o3", "claude-opus"])
patterns = st.sampled_from(["*", "gpt-5*", "GPT-*", "*-pro", "openai/*", "anthropic/*", "o3", "?3", "claude-*"])
rule = st.builds(ModelRule, st.sampled_from(["allow", "deny"]), patterns, st.just("somebody"))
levels = st.lists(st.lists(rule, max_size=4).map(tuple), max_size=4)


@given(levels, rule, names, st.randoms())
def test_whatever_is_added_below_takes_away_only(
    above: list[tuple[ModelRule, ...]], added: ModelRule, model: str, random
) -> None:  # type: ignore[no-untyped-def]
    before = denial(above, "openai", model)
    assert before is None or denial([*above, (added,)], "openai", model) is not None
    shuffled = [tuple(random.sample(level, len(level))) for level in random.sample(above, len(above))]
    assert (denial(shuffled, "openai", model) is None) == (before is None), "the order of rules decides nothing"


@given(levels, names)
def test_every_level_must_agree(above: list[tuple[ModelRule, ...]], model: str) -> None:
    def agrees(level: tuple[ModelRule, ...]) -> bool:
        mine = [rule for rule in level if matches(rule.pattern, "openai", model)]
        if any(rule.effect == "deny" for rule in mine):
            return False
        return bool(mine) or not any(rule.effect == "allow" for rule in level)

    assert (denial(above, "openai", model) is None) == all(map(agrees, above))


@pytest.mark.parametrize("asked", ["cheap", "openai/gpt-5-pro", "gpt-5-pro", "GPT-5-Pro", "openai/GPT-5-PRO"])
@pytest.mark.parametrize("denied", ["gpt-5-pro", "openai/gpt-5-pro", "*-PRO", "OpenAI/*"])
def test_no_other_name_for_a_model_evades_a_rule(asked: str, denied: str) -> None:
    targets = {"openai": Target("openai", frozenset({"openai"}), ("gpt-*",))}
    route = resolve(asked, "openai", targets, {"cheap": "openai/gpt-5-pro"})
    assert denial([rules("organisation", deny=denied)], route.provider, route.model) is not None


def test_an_alias_opens_nothing_by_its_own_name() -> None:
    assert denial([rules("organisation", allow="cheap")], "openai", "gpt-5-pro") is not None


def test_a_rule_against_a_model_holds_under_a_resellers_name_too_but_a_rule_for_it_does_not() -> None:
    assert denial([rules("organisation", deny="gpt-5*")], "openrouter", "openai/gpt-5") is not None
    assert denial([rules("organisation", allow="gpt-5*")], "openrouter", "openai/gpt-5") is not None


@pytest.mark.parametrize(
    ("pattern", "provider", "model", "covered"),
    [
        ("gpt-5*", "openrouter", "openai/gpt-5", True),
        ("gpt-5", "openrouter", "openai/gpt-5:nitro", True),
        ("openai/gpt-5", "openrouter", "openai/gpt-5:floor:Online", True),
        ("openrouter/openai/gpt-5", "openrouter", "openai/gpt-5:exacto", True),
        ("gpt-5:nitro", "openrouter", "openai/gpt-5:nitro", True),
        ("gpt-5:nitro", "openrouter", "openai/gpt-5", False),
        ("gpt-5", "openrouter", "openai/gpt-5:free", True),
        ("gpt-5", "openrouter", "openai/gpt-5:batch:online", True),
        ("gpt-5:free", "openrouter", "openai/gpt-5:free:online", True),
        ("gpt-5:free", "openrouter", "openai/gpt-5", False),
        ("llama3", "ollama", "llama3:70b", False),
        ("gpt-5", "openrouter", "openai/gpt-5-mini:nitro", False),
        (
            "anthropic.claude-opus*",
            "bedrock",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-20250514-v1:0",
            True,
        ),
        ("anthropic.claude-opus*", "bedrock", "us.anthropic.claude-opus-4-20250514-v1:0", True),
        ("bedrock/amazon.nova-pro*", "bedrock", "us-gov.amazon.nova-pro-v1:0", True),
        ("amazon.nova*", "bedrock", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-pro-v1:0", True),
        ("us.amazon.nova*", "bedrock", "amazon.nova-pro-v1:0", False),
        ("1-mini", "openai", "v4.1-mini", False),
    ],
)
def test_what_binds_a_model_holds_by_its_other_names(pattern: str, provider: str, model: str, covered: bool) -> None:
    assert covers(pattern, provider, model) is covered
    assert (denial([rules("organisation", deny=pattern)], provider, model) is not None) is covered
    assert (denial([rules("organisation", allow=pattern)], provider, model) is None) is matches(
        pattern, provider, model
    )


@pytest.mark.parametrize("pattern", ["gpt-5", "GPT-5*", "azure/gpt-5", "my-*", "azure/my-gpt5", "*"])
def test_a_deployment_is_bound_by_its_own_name_and_by_the_model_that_it_is(pattern: str) -> None:
    assert covers(pattern, "azure", "my-gpt5", "gpt-5")


@pytest.mark.parametrize("pattern", ["gpt-4*", "openai/gpt-5", "gpt-5-mini"])
def test_no_other_pattern_binds_a_deployment(pattern: str) -> None:
    assert not covers(pattern, "azure", "my-gpt5", "gpt-5")


def test_what_a_deployment_is_may_be_spelt_in_other_ways_too() -> None:
    own = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x1"
    assert covers("anthropic.claude-b", "bedrock", own, "us.anthropic.claude-b")


def test_a_denied_model_is_denied_as_a_deployment_and_says_why() -> None:
    denied = "denied for user m4 by the rule gpt-5: it is gpt-5"
    assert denial([rules("user m4", deny="gpt-5")], "azure", "my-gpt5", "gpt-5") == denied
    assert denial([rules("user m4", allow="my-gpt5", deny="gpt-5")], "azure", "my-gpt5", "gpt-5") == denied
    assert (
        denial([rules("user m4", deny="gpt-5")], "openai", "gpt-5", "gpt-5") == "denied for user m4 by the rule gpt-5"
    )


def test_a_deployment_is_allowed_by_its_own_name_alone() -> None:
    assert denial([rules("user m4", allow="gpt-5*")], "azure", "my-gpt5", "gpt-5") is not None
    assert denial([rules("user m4", allow="azure/my-gpt5")], "azure", "my-gpt5", "gpt-5") is None
