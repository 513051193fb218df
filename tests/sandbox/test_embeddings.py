"""Embeddings, through OpenAI's SDK."""

from __future__ import annotations

import math

import pytest
from openai import AsyncOpenAI, BadRequestError

from llmctl import tokenizer

MODEL = "sandbox-embed"


async def test_usage_is_what_tiktoken_counts(openai: AsyncOpenAI) -> None:
    answer = await openai.embeddings.create(model=MODEL, input=["red wine", "white wine, 素朴"])
    expected = tokenizer.count("red wine", MODEL) + tokenizer.count("white wine, 素朴", MODEL)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == expected
    assert [entry.index for entry in answer.data] == [0, 1]


async def test_a_vector_has_length_one_and_is_the_same_in_both_encodings(openai: AsyncOpenAI) -> None:
    packed = await openai.embeddings.create(model=MODEL, input="red wine")  # the SDK asks for base64 by itself
    floats = await openai.embeddings.create(model=MODEL, input="red wine", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding)
    assert len(floats.data[0].embedding) == 256
    assert math.hypot(*floats.data[0].embedding) == pytest.approx(1)


async def test_texts_that_share_words_are_nearer(openai: AsyncOpenAI) -> None:
    answer = await openai.embeddings.create(
        model=MODEL, input=["a glass of red wine", "red wine in a glass", "the train leaves at nine"]
    )
    first, near, far = (entry.embedding for entry in answer.data)
    assert sum(map(float.__mul__, first, near)) > sum(map(float.__mul__, first, far))


async def test_dimensions_are_honoured(openai: AsyncOpenAI) -> None:
    answer = await openai.embeddings.create(model=MODEL, input="x", dimensions=1536)
    assert len(answer.data[0].embedding) == 1536


async def test_tokens_are_taken_as_input(openai: AsyncOpenAI) -> None:
    tokens = tokenizer.encode("red wine", MODEL)
    text = await openai.embeddings.create(model=MODEL, input="red wine")
    one = await openai.embeddings.create(model=MODEL, input=tokens)
    many = await openai.embeddings.create(model=MODEL, input=[tokens, tokens])
    assert one.data[0].embedding == many.data[1].embedding == text.data[0].embedding
    assert (one.usage.prompt_tokens, many.usage.prompt_tokens) == (len(tokens), 2 * len(tokens))


@pytest.mark.parametrize(
    "body",
    [
        {"input": ""},
        {"input": []},
        {"input": ["x", ""]},
        {"input": ["x"] * 3000},
        {"input": "word " * 9000},
        {"input": ["x"] * 2000, "dimensions": 3000},
        {"dimensions": 0},
        {"dimensions": 10**9},
        {"encoding_format": "hex"},
        {"model": "sandbox-small"},
    ],
    ids=[
        "empty",
        "none",
        "one empty",
        "too many",
        "too much",
        "too long",
        "no dimension",
        "huge",
        "hex",
        "chat",
    ],
)
async def test_a_wrong_request_is_refused(openai: AsyncOpenAI, body: dict[str, object]) -> None:
    with pytest.raises(BadRequestError):
        await openai.embeddings.create(model=MODEL, input="x", extra_body=body)
