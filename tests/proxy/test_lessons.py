"""A provider that bills more than the worst case that we knew of does so once: the next call holds it."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.support.daemon import Daemon

from .recorder import Recorder

CHAT = "/v1/chat/completions"
USD_IN, USD_OUT = Decimal(1), Decimal(2)  # per million


@pytest.fixture
def key(gateway: Daemon, request: pytest.FixtureRequest) -> str:
    """Of a user with a limit that is far away."""
    name = request.node.name.replace("_", "-")[:40]
    secret = gateway.add_user(name)
    gateway.here("limit", "set", "--user", name, "--cost", "100", "--per", "month")
    return secret


def held_usd(gateway: Daemon, key: str, model: str, **more: int) -> Decimal:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
    answer = gateway.send(CHAT, body, key=key)
    assert answer.status == 200, answer.body
    return Decimal(gateway.call(answer.call_id)["held_usd"]) * 1_000_000


def test_hidden_prompts_that_are_longer_than_was_allowed_for_are_held_from_then_on(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    gateway.here("price", "set", "echo/echo-wordy", "--input", str(USD_IN), "--output", str(USD_OUT))
    recorder.usage = (50_000, 5)
    assert held_usd(gateway, key, "echo-wordy", max_tokens=10) < 50_000 * USD_IN
    for _ in range(2):
        assert 50_000 * USD_IN <= held_usd(gateway, key, "echo-wordy", max_tokens=10) < 52_000 * USD_IN
    assert any("prompt_overhead_tokens = " in line and "[providers.echo]" in line for line in gateway.log)


def test_a_provider_that_does_not_keep_to_a_maximum_is_held_at_the_models_own(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    prices = ["--input", str(USD_IN), "--output", str(USD_OUT), "--output-max", "8000"]
    gateway.here("price", "set", "echo/echo-endless", *prices)
    recorder.usage = (20, 2_700)
    assert held_usd(gateway, key, "echo-endless", max_tokens=50) < 3_000 * USD_IN
    assert held_usd(gateway, key, "echo-endless", max_tokens=50) >= 8_000 * USD_OUT
    assert any("echo/echo-endless does not keep to output maxima" in line for line in gateway.log)


def test_a_provider_that_goes_some_tokens_beyond_a_maximum_is_held_with_those_beside_it(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    gateway.here("price", "set", "echo/echo-late", "--input", str(USD_IN), "--output", str(USD_OUT))
    recorder.usage = (20, 53)
    before = held_usd(gateway, key, "echo-late", max_tokens=50)
    for _ in range(2):
        assert held_usd(gateway, key, "echo-late", max_tokens=50) == before + 64 * USD_OUT


def test_an_answer_within_its_hold_teaches_nothing(gateway: Daemon, key: str, recorder: Recorder) -> None:
    gateway.here("price", "set", "echo/echo-good", "--input", str(USD_IN), "--output", str(USD_OUT))
    recorder.usage = (2_000, 50)
    first = held_usd(gateway, key, "echo-good", max_tokens=50)
    assert held_usd(gateway, key, "echo-good", max_tokens=50) == first


def test_a_tier_that_the_providers_own_settings_ask_for_is_held_once_it_was_served(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    prices = ["--input", str(USD_IN), "--output", str(USD_OUT)]
    gateway.here("price", "set", "echo/echo-prior", *prices)
    gateway.here("price", "set", "echo/echo-prior", "--tier", "priority", "--input", "3", "--output", "6")
    standard = held_usd(gateway, key, "echo-prior", max_tokens=50)
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    answer = {"id": "1", "model": "m", "choices": [], "usage": usage, "service_tier": "priority"}
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    assert held_usd(gateway, key, "echo-prior", max_tokens=50) == standard
    assert held_usd(gateway, key, "echo-prior", max_tokens=50) == 3 * standard
    assert any("echo/echo-prior serves tier priority" in line for line in gateway.log)
