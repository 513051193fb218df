"""OpenAI's SDK through the gateway: what it is told is what is booked, and what passes is what was sent."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.llama import LlamaServer

from .conftest import Client
from .recorder import Recorder
from .sdk import OUTPUT_TOKENS, SAY, Ask, booked, chat, completion, cost_usd, embedding, response

GENERATING = pytest.mark.parametrize("ask", [chat, completion, response], ids=lambda ask: ask.__name__)
WITHOUT_USAGE = pytest.mark.parametrize("ask", [chat, completion], ids=lambda ask: ask.__name__)
ASK_USAGE: Any = {"stream_options": {"include_usage": True}}
ENDPOINTS = {chat: "chat.completions", completion: "completions", response: "responses", embedding: "embeddings"}


@pytest.fixture
def user(client: Client, key: str) -> Iterator[openai.OpenAI]:
    return client(key)


@GENERATING
def test_a_whole_answer_is_booked_as_the_sdk_reports_it(gateway: Daemon, user: openai.OpenAI, ask: Ask) -> None:
    told = ask(user, "local/tiny-random")
    assert told.counts is not None
    row = gateway.call(told.call_id)
    assert booked(row) == told.counts
    assert 0 < told.counts[2] <= OUTPUT_TOKENS
    assert Decimal(row["cost_usd"]) == cost_usd(told.counts)
    expected = {
        "user": "alice",
        "group": "sales",
        "key": "alice/default",
        "provider": "local",
        "model": "tiny-random",
        "request_model": "local/tiny-random",
        "response_model": told.model,
        "dialect": "openai",
        "endpoint": ENDPOINTS[ask],
        "stream": False,
        "state": "settled",
        "status": 200,
        "error": None,
        "usage_source": "reported",
        "price_source": "admin",
    }
    assert {name: row[name] for name in expected} == expected
    assert 0 <= row["ttft_ms"] <= row["latency_ms"]


@GENERATING
def test_a_stream_that_tells_its_usage_is_booked_as_told(gateway: Daemon, user: openai.OpenAI, ask: Ask) -> None:
    more = {} if ask is response else ASK_USAGE
    told = ask(user, "local/tiny-random", stream=True, **more)
    assert told.counts is not None
    row = gateway.call(told.call_id)
    assert (row["stream"], row["usage_source"], row["state"]) == (True, "reported", "settled")
    assert booked(row) == told.counts
    assert Decimal(row["cost_usd"]) == cost_usd(told.counts)
    if ask is chat:
        assert told.events[-1].choices == []


@WITHOUT_USAGE
def test_a_stream_that_does_not_ask_for_usage_is_booked_to_the_token(
    gateway: Daemon, user: openai.OpenAI, llama: LlamaServer, ask: Ask
) -> None:
    before = llama.metrics()
    told = ask(user, "local/tiny-random", stream=True)
    assert all(chunk.choices for chunk in told.events)
    assert told.counts is None or ask is completion  # there llama.cpp tells it unasked
    row = gateway.call(told.call_id)
    counted = {name: count - before[name] for name, count in llama.metrics().items()}
    assert row["usage_source"] == "reported"
    assert row["output_tokens"] == counted["tokens_predicted_total"]
    assert row["input_tokens"] == counted["prompt_tokens_total"] + counted["prompt_tokens_cached_total"]
    assert row["cache_read_tokens"] == counted["prompt_tokens_cached_total"]


@WITHOUT_USAGE
@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}], ids=["null", "empty", "declined"])
def test_the_usage_that_the_gateway_asked_for_is_not_shown(
    gateway: Daemon, user: openai.OpenAI, recorder: Recorder, ask: Ask, options: dict[str, Any] | None
) -> None:
    told = ask(user, "parrot", stream=True, extra_body={"stream_options": options})
    assert recorder.last.json["stream_options"] == {"include_usage": True}
    assert told.counts is None
    assert all(chunk.choices for chunk in told.events)
    assert all("usage" not in chunk.model_fields_set for chunk in told.events)
    row = gateway.call(told.call_id)
    assert (row["usage_source"], booked(row)) == ("reported", (100, 0, 20))


def test_embeddings_are_booked_as_the_sdk_reports_them(gateway: Daemon, user: openai.OpenAI) -> None:
    told = embedding(user, "embed/tiny-random")
    assert told.counts is not None
    row = gateway.call(told.call_id)
    assert booked(row) == told.counts
    assert (row["endpoint"], row["provider"], row["output_tokens"]) == ("embeddings", "embed", 0)
    assert Decimal(row["cost_usd"]) == cost_usd(told.counts, output_usd=0)
    assert len(told.events[0].data) == 2


@pytest.mark.parametrize("name", ["local/tiny-random", "tiny-random", "fast"])
def test_a_model_is_reached_by_its_full_name_its_bare_name_and_an_alias(
    gateway: Daemon, user: openai.OpenAI, name: str
) -> None:
    told = chat(user, name)
    row = gateway.call(told.call_id)
    assert (row["request_model"], row["provider"], row["model"]) == (name, "local", "tiny-random")
    assert booked(row) == told.counts


def test_the_helpers_of_the_sdk_put_streams_together(user: openai.OpenAI, recorder: Recorder) -> None:
    with user.chat.completions.stream(model="parrot", messages=SAY, **ASK_USAGE) as chunks:
        final = chunks.get_final_completion()
    assert final.choices[0].message.content == "Hello"
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == recorder.usage
    with user.responses.stream(model="parrot", input="Hello") as events:
        done = events.get_final_response()
    assert (done.usage.input_tokens, done.usage.output_tokens) == recorder.usage


def test_several_choices_stream_without_a_trace_of_their_usage(
    gateway: Daemon, user: openai.OpenAI, llama: LlamaServer
) -> None:
    told = chat(user, "fast", n=2, stream=True)
    assert {choice.index for chunk in told.events for choice in chunk.choices} == {0, 1}
    assert told.counts is None
    assert all(chunk.choices for chunk in told.events)
    assert gateway.call(told.call_id)["usage_source"] == "reported"


async def test_the_async_sdk_streams_too(gateway: Daemon, key: str) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as user:
        stream = await user.chat.completions.create(model="fast", messages=SAY, max_tokens=8, stream=True, **ASK_USAGE)
        chunks = [chunk async for chunk in stream]
    row = gateway.call(stream.response.headers["x-llmctl-call-id"])
    assert (row["input_tokens"], row["output_tokens"]) == (
        chunks[-1].usage.prompt_tokens,
        chunks[-1].usage.completion_tokens,
    )


def test_a_providers_error_reaches_the_sdk_as_the_provider_wrote_it(
    gateway: Daemon, user: openai.OpenAI, recorder: Recorder
) -> None:
    body = b'{ "error": {"message": "No such voice.", "type": "invalid_request_error", "param": "voice", "code": "v1"}}'
    recorder.reply(body, status=400, content_type="application/json", x_request_id="req_7")
    with pytest.raises(openai.BadRequestError) as refused:
        chat(user, "parrot")
    assert refused.value.response.content == body
    assert (refused.value.code, refused.value.param, refused.value.request_id) == ("v1", "voice", "req_7")
    row = gateway.call(refused.value.response.headers["x-llmctl-call-id"])
    assert (row["state"], row["status"], row["error"], row["output_tokens"]) == ("settled", 400, "provider_400", 0)
    assert Decimal(row["cost_usd"] or 0) == 0
