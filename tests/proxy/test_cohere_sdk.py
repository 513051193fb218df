"""Cohere's SDK through the gateway: what it is told is what is booked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from tests.support.daemon import Daemon

from .recorder import Recorder

USAGE = {
    "billed_units": {"input_tokens": 70, "output_tokens": 11},
    "tokens": {"input_tokens": 500},
    "cached_tokens": 64,
}
MESSAGE = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}
STREAM = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "naïve"}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}},
]


@pytest.fixture(scope="module")
def connections() -> Iterator[httpx.Client]:
    """The SDK does not close its own."""
    with httpx.Client() as connections:
        yield connections


@pytest.fixture(scope="module")
def user(native: Daemon, connections: httpx.Client) -> cohere.ClientV2:
    return client(native, native.add_user("coco"), connections)


def client(native: Daemon, key: str, connections: httpx.Client) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=key, base_url=native.url, httpx_client=connections)


def say(user: cohere.ClientV2, **more: object) -> cohere.V2ChatResponse:
    return user.chat(model="command-x", messages=[cohere.UserChatMessageV2(content="Hi")], **more)


def test_a_chat_is_booked_as_billed(native: Daemon, user: cohere.ClientV2, recorder: Recorder) -> None:
    answer = {"id": "1", "message": MESSAGE, "finish_reason": "COMPLETE", "usage": USAGE}
    recorder.reply(json.dumps(answer).encode(), Content_Type="application/json")
    told = say(user, max_tokens=50)
    assert told.usage is not None
    assert told.usage.billed_units is not None
    row = native.calls("--user", "coco", "-n", "1", count=1)[0]
    assert (row["input_tokens"], row["output_tokens"]) == (told.usage.billed_units.input_tokens, 11)
    assert (row["dialect"], row["endpoint"], row["usage_source"]) == ("cohere", "cohere.chat", "reported")
    assert Decimal(row["cost_usd"]) == Decimal(70 + 2 * 11) / 1_000_000
    assert recorder.last.path == "/v2/chat"
    assert recorder.last.headers["Authorization"] == f"Bearer {recorder.api_key}"
    assert recorder.last.json["max_tokens"] == 50


def test_a_stream_is_booked_as_its_end_says(native: Daemon, user: cohere.ClientV2, recorder: Recorder) -> None:
    events = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in STREAM]
    recorder.reply(*events, b"data: [DONE]\n\n", Content_Type="text/event-stream")
    told = list(user.chat_stream(model="command-x", messages=[cohere.UserChatMessageV2(content="Hi")]))
    assert told[-1].type == "message-end"
    assert told[2].delta.message.content.text == "naïve"
    row = native.calls("--user", "coco", "-n", "1", count=1)[0]
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (70, 64, 11)
    assert (row["stream"], row["state"], row["error"]) == (True, "settled", None)


def test_embeddings_and_reranking_are_booked_in_their_units(
    native: Daemon, user: cohere.ClientV2, recorder: Recorder
) -> None:
    vectors = {"id": "1", "embeddings": {"float": [[0.5]]}, "texts": ["a"], "response_type": "embeddings_by_type"}
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 3, "image_tokens": 0}}
    recorder.reply(json.dumps({**vectors, "meta": meta}).encode(), Content_Type="application/json")
    user.embed(model="embed-x", texts=["a"], input_type="search_document", embedding_types=["float"])
    row = native.calls("--user", "coco", "-n", "1", count=1)[0]
    assert (row["endpoint"], row["input_tokens"], row["output_tokens"]) == ("cohere.embed", 3, 0)
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    ranked = {"id": "1", "results": [{"index": 0, "relevance_score": 0.5}], "meta": meta}
    recorder.reply(json.dumps(ranked).encode(), Content_Type="application/json")
    told = user.rerank(model="rerank-x", query="q", documents=["a", "b"])
    assert told.results[0].relevance_score == 0.5
    row = native.calls("--user", "coco", "-n", "1", count=1)[0]
    assert (row["endpoint"], row["search_units"], row["input_tokens"]) == ("cohere.rerank", 1, 0)


def test_near_the_end_of_a_limit_the_maximum_is_lowered_in_the_field_that_cohere_knows(
    native: Daemon, connections: httpx.Client, recorder: Recorder
) -> None:
    secret = native.add_user("coco-capped")
    native.here("limit", "set", "--user", "coco-capped", "--cost", "0.01", "--per", "month")
    recorder.reply(
        json.dumps({"id": "1", "message": MESSAGE, "usage": USAGE}).encode(), Content_Type="application/json"
    )
    say(client(native, secret, connections), max_tokens=50_000)
    assert 256 <= recorder.last.json["max_tokens"] < 5_000


def test_a_spent_limit_is_a_402_that_the_sdk_does_not_try_again(
    native: Daemon, connections: httpx.Client, recorder: Recorder
) -> None:
    secret = native.add_user("coco-spent")
    native.here("limit", "set", "--user", "coco-spent", "--requests", "1", "--per", "total")
    patient = client(native, secret, connections)
    recorder.reply(
        json.dumps({"id": "1", "message": MESSAGE, "usage": USAGE}).encode(), Content_Type="application/json"
    )
    say(patient)
    began_s = time.monotonic()
    with pytest.raises(ApiError) as refused:
        say(patient)
    assert time.monotonic() - began_s < 1
    assert refused.value.status_code == 402
    assert "coco-spent" in refused.value.body["message"]
    assert len(recorder.sent) == 1


def test_an_unknown_key_and_version_1_are_refused_in_coheres_shape(native: Daemon, connections: httpx.Client) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        say(client(native, "sk-llmctl-unknown", connections))
    answer = native.send("/v1/chat", {"model": "command-x", "message": "Hi"}, key="sk-llmctl-unknown")
    assert answer.status == 404
    assert "use /v2/chat" in answer.json["message"]
