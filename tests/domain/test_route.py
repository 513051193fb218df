from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.errors import Refused
from llmctl.domain.route import Route, Target, resolve


def target(name: str, *models: str, dialects: str = "openai") -> tuple[str, Target]:
    return name, Target(name, frozenset(dialects.split()), models)


TARGETS = dict(
    [
        target("openai", "gpt-*", "o3*"),
        target("anthropic", "claude-*", dialects="anthropic"),
        target("local", "tiny-*", "gpt-oss*"),
        target("both", "any-*", "claude-*", dialects="openai anthropic"),
        target("router"),
    ]
)
ALIASES = {"fast": "openai/gpt-5-mini", "best": "claude-opus", "gpt-4": "gpt-5", "loop": "fast", "gone": "nobody/x"}


def route(model: str, dialect: str = "openai") -> str:
    found = resolve(model, dialect, TARGETS, ALIASES)
    return f"{found.provider}: {found.model}"


def refused(model: str, dialect: str = "openai") -> Refused:
    with pytest.raises(Refused) as caught:
        resolve(model, dialect, TARGETS, ALIASES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    return caught.value


def test_a_model_goes_to_the_first_provider_whose_pattern_is_for_it() -> None:
    assert route("gpt-5") == "openai: gpt-5"
    assert route("tiny-1b") == "local: tiny-1b"
    assert route("gpt-oss-120b") == "openai: gpt-oss-120b", "the configuration's order decides"


def test_patterns_of_routes_do_not_mind_letter_case_and_the_name_goes_up_as_it_came() -> None:
    assert route("GPT-5") == "openai: GPT-5"


def test_a_provider_that_is_named_is_always_found_and_its_name_does_not_go_up() -> None:
    assert route("local/gpt-5") == "local: gpt-5"
    assert route("router/anthropic/claude-opus") == "router: anthropic/claude-opus"
    assert route("openai/any-thing") == "openai: any-thing"


def test_an_alias_stands_for_its_target_once() -> None:
    assert route("fast") == "openai: gpt-5-mini"
    assert route("gpt-4") == "openai: gpt-5", "an alias comes before the patterns"
    assert refused("loop").message == "model 'loop' does not exist here"


def test_an_alias_is_not_the_provider_s_business() -> None:
    assert refused("openai/", "openai").message == "model 'openai/' does not exist here"
    assert route("openai/fast") == "openai: fast"


def test_the_dialect_chooses_among_the_providers_of_a_model() -> None:
    assert route("claude-opus", "anthropic") == "anthropic: claude-opus"
    assert route("claude-opus", "openai") == "both: claude-opus"
    assert route("best", "openai") == "both: claude-opus"
    assert route("any-1", "anthropic") == "both: any-1"


def test_a_model_behind_another_dialect_is_refused_with_the_one_to_use() -> None:
    error = refused("gpt-5", "anthropic")
    assert error.message == "model 'gpt-5' is served by openai, which does not speak the anthropic API"
    assert error.hint == "call it through its own API (openai)"
    assert "anthropic, openai" not in refused("anthropic/claude-opus").hint


@pytest.mark.parametrize(
    "model",
    ["", "/", "/gpt-5", "gpt", "nobody/gpt-5", "OpenAI/gpt-5", "gone", "tiny", " gpt-5", "openai /gpt-5", "../gpt-5"],
)
def test_an_unknown_model_is_refused_with_where_to_look(model: str) -> None:
    assert refused(model).hint == "GET /v1/models lists the models that this key may use"


def test_without_providers_there_is_no_model() -> None:
    with pytest.raises(Refused, match="does not exist here"):
        resolve("gpt-5", "openai", {}, {})


@given(st.text(max_size=20), st.sampled_from(["openai", "anthropic", "gemini"]))
def test_a_route_leads_to_a_configured_provider_that_speaks_the_dialect_or_nowhere(model: str, dialect: str) -> None:
    try:
        found = resolve(model, dialect, TARGETS, ALIASES)
    except Refused:
        return
    assert isinstance(found, Route) and dialect in TARGETS[found.provider].dialects and found.model


def test_a_provider_whose_own_name_its_pattern_is_for_does_not_take_all_models() -> None:
    targets = dict([target("gemini-eu", "gemini-*"), target("openai", "gpt-*")])
    assert resolve("gpt-5", "openai", targets, {}) == Route("openai", "gpt-5")
    assert resolve("gemini-3", "openai", targets, {}) == Route("gemini-eu", "gemini-3")
    with pytest.raises(Refused):
        resolve("no-such-model", "openai", targets, {})
