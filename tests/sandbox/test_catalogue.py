"""The models and their prices."""

from __future__ import annotations

from decimal import Decimal

import pytest
from anthropic import AsyncAnthropic
from anthropic import NotFoundError as AnthropicNotFoundError
from openai import AsyncOpenAI
from openai import NotFoundError as OpenAINotFoundError

from llmctl.sandbox import MODELS

NAMES = [model.name for model in MODELS]


async def test_openais_sdk_lists_the_models(openai: AsyncOpenAI) -> None:
    models = [model async for model in openai.models.list()]
    assert [model.id for model in models] == NAMES
    assert {model.object for model in models} == {"model"}
    assert (await openai.models.retrieve("sandbox-small")).owned_by == "llmctl-sandbox"


async def test_anthropics_sdk_lists_the_models(anthropic: AsyncAnthropic) -> None:
    models = [model async for model in anthropic.models.list()]
    assert [model.id for model in models] == NAMES
    small = await anthropic.models.retrieve("sandbox-small")
    assert (small.type, small.display_name, small.max_input_tokens) == ("model", "Sandbox Small", 128_000)


async def test_a_model_that_does_not_exist_is_not_found(openai: AsyncOpenAI, anthropic: AsyncAnthropic) -> None:
    with pytest.raises(OpenAINotFoundError):
        await openai.models.retrieve("gpt-9")
    with pytest.raises(AnthropicNotFoundError):
        await anthropic.models.retrieve("claude-9")


def test_names_say_sandbox_and_prices_are_exact_decimals() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for model in MODELS:
        assert model.name.startswith("sandbox-")
        prices = (
            model.input_usd_per_million,
            model.cached_input_usd_per_million,
            model.output_usd_per_million,
        )
        for price in prices:
            assert isinstance(price, str)
            assert Decimal(price) >= 0
        assert Decimal(model.input_usd_per_million) > 0
        assert model.output_tokens_max < model.context_window_tokens
