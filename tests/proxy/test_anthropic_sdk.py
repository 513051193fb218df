"""Anthropic's SDK through the gateway: what it is told is what is booked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anthropic
import pytest

from tests.support.daemon import Daemon
from tests.support.llama import LlamaServer

from .conftest import Claude
from .recorder import Recorder
from .sdk import OUTPUT_TOKENS, SAY, booked, cost_usd, message


@pytest.fixture
def user(claude: Claude, key: str) -> anthropic.Anthropic:
    return claude(key)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ["local/tiny-random", "tiny-random", "fast"])
def test_messages_are_booked_as_the_sdk_reports_them(
    gateway: Daemon, user: anthropic.Anthropic, llama: LlamaServer, name: str, stream: bool
) -> None:
    before = llama.metrics()
    told = message(user, name, stream=stream)
    assert told.counts is not None
    counted = {name: count - before[name] for name, count in llama.metrics().items()}
    row = gateway.call(told.call_id)
    assert booked(row) == told.counts
    assert 0 < told.counts[2] <= OUTPUT_TOKENS
    assert told.counts == (
        counted["prompt_tokens_total"] + counted["prompt_tokens_cached_total"],
        counted["prompt_tokens_cached_total"],
        counted["tokens_predicted_total"],
    )
    assert Decimal(row["cost_usd"]) == cost_usd(told.counts)
    expected: dict[str, Any] = {
        "user": "alice",
        "provider": "local",
        "model": "tiny-random",
        "request_model": name,
        "response_model": told.model,
        "dialect": "anthropic",
        "endpoint": "messages",
        "stream": stream,
        "state": "settled",
        "status": 200,
        "error": None,
        "usage_source": "reported",
    }
    assert {name: row[name] for name in expected} == expected


def test_the_helper_of_the_sdk_puts_a_stream_together(gateway: Daemon, user: anthropic.Anthropic) -> None:
    steady: Any = {"temperature": 0}  # else one answer in fifty is empty: the model's weights are random
    with user.messages.stream(model="fast", messages=SAY, max_tokens=8, extra_body=steady) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == said
    row = gateway.call(stream.response.headers["x-llmctl-call-id"])
    assert row["output_tokens"] == final.usage.output_tokens


async def test_the_async_sdk_with_a_bearer_token_streams_too(gateway: Daemon, key: str) -> None:
    # As Claude Code shows its key with ANTHROPIC_AUTH_TOKEN.
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, auth_token=key, api_key=None, max_retries=0) as user,
        user.messages.stream(model="fast", messages=SAY, max_tokens=8) as stream,
    ):
        final = await stream.get_final_message()
    assert gateway.call(stream.response.headers["x-llmctl-call-id"])["output_tokens"] == final.usage.output_tokens


def test_cache_reads_and_writes_are_part_of_the_booked_input(
    gateway: Daemon, user: anthropic.Anthropic, recorder: Recorder
) -> None:
    recorder.reply(
        b'{"id":"msg_1","type":"message","role":"assistant","model":"echo-1","content":[],"stop_reason":"end_turn",'
        b'"usage":{"input_tokens":10,"cache_read_input_tokens":2000,"cache_creation_input_tokens":300,'
        b'"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":50}}',
        content_type="application/json",
        request_id="req_anthropic",
    )
    told = message(user, "parrot")
    row = gateway.call(told.call_id)
    assert (row["input_tokens"], row["cache_read_tokens"], row["cache_write_tokens"]) == (2310, 2000, 300)
    assert (row["cache_write_1h_tokens"], row["output_tokens"]) == (200, 50)
    assert told.events[0]._request_id == "req_anthropic"


def test_counting_tokens_is_free_and_not_usage(gateway: Daemon, claude: Claude) -> None:
    user = claude(gateway.add_user("counter"))
    gateway.here("limit", "set", "--user", "counter", "--tokens", "1", "--per", "total")
    counted = user.messages.count_tokens(model="fast", messages=SAY)
    assert counted.input_tokens > 0
    (row,) = gateway.calls("--user", "counter", count=1)
    assert (row["endpoint"], row["state"], row["status"]) == ("messages.count_tokens", "settled", 200)
    assert booked(row) == (0, 0, 0)
    assert Decimal(row["cost_usd"]) == 0
    with pytest.raises(anthropic.APIStatusError):
        message(user, "fast")


def test_a_providers_error_reaches_the_sdk_as_the_provider_wrote_it(
    gateway: Daemon, user: anthropic.Anthropic, recorder: Recorder
) -> None:
    body = b'{"type":"error", "error":{"type":"overloaded_error","message":"Overloaded"}}'
    recorder.reply(body, status=529, content_type="application/json", request_id="req_9")
    with pytest.raises(anthropic.InternalServerError) as refused:
        message(user, "parrot")
    assert refused.value.response.content == body
    assert refused.value.request_id == "req_9"
    row = gateway.call(refused.value.response.headers["x-llmctl-call-id"])
    assert (row["state"], row["status"], row["error"], booked(row)) == ("settled", 529, "provider_529", (0, 0, 0))


def test_an_openai_only_endpoint_and_messages_share_keys_models_and_ledger(
    gateway: Daemon, user: anthropic.Anthropic, recorder: Recorder
) -> None:
    told = message(user, "parrot", metadata={"user_id": "u-1"}, extra_body={"new_field": [1]})
    assert recorder.last.json["new_field"] == [1]
    assert recorder.last.json["model"] == "echo-1"
    assert gateway.call(told.call_id)["key"] == "alice/default"
