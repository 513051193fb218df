"""Completions, through OpenAI's SDK."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI, BadRequestError

from llmctl import tokenizer

MODEL = "sandbox-small"


async def test_usage_is_what_tiktoken_counts_and_without_a_maximum_it_is_sixteen(openai: AsyncOpenAI) -> None:
    answer = await openai.completions.create(model=MODEL, prompt="Once upon a time")
    assert answer.usage.prompt_tokens == tokenizer.count("Once upon a time", MODEL)
    assert answer.usage.completion_tokens == 16 == tokenizer.count(answer.choices[0].text, MODEL)
    assert answer.choices[0].finish_reason == "length"


async def test_a_stream_says_the_same_and_counts_the_same(openai: AsyncOpenAI) -> None:
    ask = {"model": MODEL, "prompt": ["One", "Two 😀 and more"], "max_tokens": 100, "n": 2}
    whole = await openai.completions.create(**ask)
    stream = await openai.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason == "stop"
    texts = [choice.text for choice in whole.choices]
    assert [text.rpartition("You said: ")[2] for text in texts] == [
        "One",
        "One",
        "Two 😀 and more",
        "Two 😀 and more",
    ]
    assert whole.usage.completion_tokens == sum(tokenizer.count(text, MODEL) for text in texts)
    assert whole.usage.prompt_tokens == tokenizer.count("One", MODEL) + tokenizer.count("Two 😀 and more", MODEL)


async def test_a_stream_tells_its_usage_only_if_asked(openai: AsyncOpenAI) -> None:
    stream = await openai.completions.create(model=MODEL, prompt="x", stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)


@pytest.mark.parametrize("several", [False, True], ids=["one prompt", "a list of prompts"])
async def test_tokens_are_taken_as_a_prompt(openai: AsyncOpenAI, several: bool) -> None:
    tokens = tokenizer.encode("Once upon a time", MODEL)
    answer = await openai.completions.create(model=MODEL, prompt=[tokens] if several else tokens, max_tokens=50)
    assert answer.usage.prompt_tokens == len(tokens)
    assert answer.choices[0].text.endswith("You said: Once upon a time")


@pytest.mark.parametrize(
    "prompt",
    ["", [], ["a", 1], ["a", ""], [[]], [-1], [10**9], [10**30], {"a": 1}, None, ["x"] * 200],
    ids=repr,
)
async def test_a_prompt_that_is_none_is_refused(openai: AsyncOpenAI, prompt: object) -> None:
    with pytest.raises(BadRequestError):
        await openai.completions.create(model=MODEL, prompt="x", extra_body={"prompt": prompt})
