"""Google's own API, through Google's SDK."""

from __future__ import annotations

import json

import aiohttp
import pytest
from google.genai.client import AsyncClient
from google.genai.errors import ClientError
from google.genai.types import Content, FunctionCall, GenerateContentConfig, Part

from llmctl import tokenizer
from llmctl.tokenizer import ChatText

from .conftest import CREDENTIAL

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # the SDK's
MODEL = "sandbox-large"
TEXT = "Naïve 素朴 😀 question?"


async def test_usage_is_what_tiktoken_counts(google: AsyncClient) -> None:
    config = GenerateContentConfig(system_instruction="Be kind.")
    answer = await google.models.generate_content(model=MODEL, contents=TEXT, config=config)
    chat = (ChatText("system", "Be kind."), ChatText("user", TEXT))
    assert answer.text.endswith(f"You said: {TEXT}")
    assert answer.candidates[0].finish_reason == "STOP"
    assert answer.model_version == MODEL
    assert answer.usage_metadata.prompt_token_count == tokenizer.count_chat(chat, MODEL)
    assert answer.usage_metadata.candidates_token_count == tokenizer.count(answer.text, MODEL)
    counted = await google.models.count_tokens(model=MODEL, contents=TEXT)
    assert counted.total_tokens == tokenizer.count_chat(chat[1:], MODEL)


async def test_a_stream_says_the_same_in_pieces_and_counts_up_to_each(google: AsyncClient) -> None:
    whole = await google.models.generate_content(model=MODEL, contents=TEXT)
    chunks = [one async for one in await google.models.generate_content_stream(model=MODEL, contents=TEXT)]
    assert "".join(one.text for one in chunks) == whole.text
    counts = [one.usage_metadata.candidates_token_count for one in chunks]
    assert len(counts) > 10
    assert counts == sorted(counts)
    assert counts[-1] == whole.usage_metadata.candidates_token_count
    assert [one.candidates[0].finish_reason for one in chunks] == [None] * (len(chunks) - 1) + ["STOP"]


async def test_without_events_a_stream_is_a_list(url: str) -> None:
    body = {"contents": [{"parts": [{"text": TEXT}]}], "generation_config": {"max_output_tokens": 3}}
    path = f"{url}/v1/models/{MODEL}:streamGenerateContent"
    async with (
        aiohttp.ClientSession(headers={"x-goog-api-key": CREDENTIAL}) as session,
        session.post(path, json=body) as answer,
    ):
        assert answer.content_type == "application/json"
        chunks = json.loads(await answer.read())
    assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 3


async def test_maximum_and_stops_hold(google: AsyncClient) -> None:
    config = GenerateContentConfig(max_output_tokens=5)
    answer = await google.models.generate_content(model=MODEL, contents=TEXT, config=config)
    assert (answer.candidates[0].finish_reason, answer.usage_metadata.candidates_token_count) == ("MAX_TOKENS", 5)
    config = GenerateContentConfig(stop_sequences=[" sandbox"])
    assert (
        await google.models.generate_content(model=MODEL, contents=TEXT, config=config)
    ).text == "This is the llmctl"


async def test_embeddings_are_vectors_of_the_asked_length(google: AsyncClient) -> None:
    answer = await google.models.embed_content(
        model="sandbox-embed", contents=["one", "two"], config={"output_dimensionality": 64}
    )
    assert [len(one.values) for one in answer.embeddings] == [64, 64]


async def test_models_are_listed(google: AsyncClient) -> None:
    assert f"models/{MODEL}" in {model.name async for model in await google.models.list()}
    assert (await google.models.get(model=MODEL)).input_token_limit > 0


@pytest.mark.parametrize(
    ("model", "part", "code", "hint"),
    [
        ("gemini-9", Part(text="x"), 404, "gemini-9"),
        ("sandbox-embed", Part(text="x"), 400, "embedding"),
        (MODEL, Part.from_bytes(data=b"x", mime_type="image/png"), 400, "inlineData"),
    ],
)
async def test_what_it_cannot_do_is_refused_in_googles_shape(
    google: AsyncClient, model: str, part: Part, code: int, hint: str
) -> None:
    with pytest.raises(ClientError) as refused:
        await google.models.generate_content(model=model, contents=[part])
    assert refused.value.code == code
    assert refused.value.status == {404: "NOT_FOUND", 400: "INVALID_ARGUMENT"}[code]
    assert hint in refused.value.message


async def test_a_functions_call_counts_as_its_json(google: AsyncClient) -> None:
    calls = Part(function_call=FunctionCall(name="f", args={"a": 1}))
    contents = [Content(role="user", parts=[Part(text="x")]), Content(role="model", parts=[calls])]
    answer = await google.models.generate_content(model=MODEL, contents=contents)
    plain = await google.models.generate_content(model=MODEL, contents="x")
    assert answer.usage_metadata.prompt_token_count > plain.usage_metadata.prompt_token_count
