"""Bedrock's answers, whole and streamed: each trap once. The figures are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.bedrock.dialect import BEDROCK
from llmctl.dialects.bedrock.usage import with_headers
from llmctl.domain.call import Reading
from llmctl.domain.usage import Usage
from tests.support.frames import chunk, event, exception

REQUEST = BEDROCK.read_request("bedrock.invoke-stream", b'{"prompt":"Hi"}', "meta.llama3")
METRICS = {"inputTokenCount": 45, "outputTokenCount": 35, "invocationLatency": 2210, "firstByteLatency": 1711}


def whole(**answer: Any) -> Reading:
    return BEDROCK.read_answer("bedrock.invoke", json.dumps(answer).encode())


def stream(*frames: bytes, size: int = 1 << 20) -> tuple[Reading, bool]:
    reader, body = BEDROCK.reader("bedrock.invoke-stream", REQUEST), b"".join(frames)
    for position in range(0, len(body), size):
        piece = body[position : position + size]
        assert reader.feed(piece) is piece
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading, reader.first_output


def test_the_cache_is_outside_the_input_of_converse() -> None:
    reading = whole(
        output={"message": {"role": "assistant", "content": [{"text": "OK"}]}},
        usage={
            "inputTokens": 10,
            "outputTokens": 4,
            "totalTokens": 1114,
            "cacheReadInputTokens": 500,
            "cacheReadInputTokenCount": 500,
            "cacheWriteInputTokens": 600,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 400}, {"ttl": "5m", "inputTokens": 200}],
        },
        serviceTier={"type": "priority"},
    )
    assert reading.usage == Usage(
        input_tokens=1110, cache_read_tokens=500, cache_write_tokens=600, cache_write_1h_tokens=400, output_tokens=4
    )
    assert (reading.service_tier, reading.finished) == ("priority", True)
    assert BEDROCK.read_usage("bedrock.converse", reading.raw_usage) == reading.usage


def test_optimized_latency_is_a_tier_of_its_own() -> None:
    assert whole(usage={"inputTokens": 1}, performanceConfig={"latency": "optimized"}).service_tier == "optimized"
    assert whole(usage={"inputTokens": 1}, performanceConfig={"latency": "standard"}).service_tier == ""


def test_vendors_usage_is_read_as_elsewhere() -> None:
    anthropic = whole(model="c-1", usage={"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 7})
    assert (anthropic.usage, anthropic.response_model) == (Usage(15, 5, output_tokens=7), "c-1")
    assert whole(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}).usage == Usage(
        input_tokens=3, output_tokens=2
    )
    nova = {"inputTokens": 5, "outputTokens": 10, "cacheReadInputTokenCount": 2, "cacheWriteInputTokenCount": 1}
    assert whole(usage=nova).usage == Usage(8, 2, 1, output_tokens=10)
    assert whole(generation="x", prompt_token_count=5, generation_token_count=9).usage == Usage(5, output_tokens=9)
    titan = whole(inputTextTokenCount=5, results=[{"tokenCount": 4, "outputText": "a"}, {"tokenCount": 3}])
    assert titan.usage == Usage(5, output_tokens=7)


def test_headers_say_what_a_body_does_not() -> None:
    headers = {
        "x-amzn-bedrock-input-token-count": "12",
        "x-amzn-bedrock-output-token-count": "7",
        "x-amzn-bedrock-cache-read-input-token-count": "100",
        "x-amzn-bedrock-service-tier": "flex",
    }
    reading = with_headers(whole(outputs=[{"text": "Hello"}]), headers)
    assert reading.usage == Usage(112, 100, output_tokens=7)
    assert (reading.service_tier, json.loads(reading.raw_usage)["x-amzn-bedrock-input-token-count"]) == ("flex", 12)
    assert BEDROCK.read_usage("bedrock.invoke", reading.raw_usage) == reading.usage
    stated = whole(usage={"input_tokens": 1, "output_tokens": 1})
    assert with_headers(stated, headers).usage == stated.usage
    for odd in ("-1", "1e3", "", "9" * 30, "x", "\u00b2", "\u0663"):
        assert with_headers(whole(a=1), {"x-amzn-bedrock-input-token-count": odd}).usage is None


@pytest.mark.parametrize("size", [1, 3, 50, 1 << 20])
def test_a_stream_of_converse_ends_with_metadata(size: int) -> None:
    usage = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    reading, first_output = stream(
        event("messageStart", role="assistant"),
        event("contentBlockDelta", contentBlockIndex=0, delta={"text": "naïve"}, p="ab"),
        event("messageStop", stopReason="end_turn"),
        event("metadata", usage=usage, metrics={"latencyMs": 5}, performanceConfig={"latency": "optimized"}),
        size=size,
    )
    assert (reading.usage, json.loads(reading.raw_usage)) == (Usage(5, output_tokens=3), usage)
    assert (reading.finished, reading.error, reading.service_tier, first_output) == (True, "", "optimized", True)


@pytest.mark.parametrize("size", [1, 3, 50, 1 << 20])
def test_anthropics_events_are_put_together_behind_the_frames(size: int) -> None:
    usage = {"input_tokens": 45, "cache_creation_input_tokens": 20, "output_tokens": 1}
    usage["cache_creation"] = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 20}
    reading, _ = stream(
        chunk(type="message_start", message={"model": "c-1", "usage": usage}),
        chunk(type="content_block_delta", delta={"type": "text_delta", "text": "Hello"}),
        chunk(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 38}),
        chunk(**{"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS}),
        size=size,
    )
    assert reading.usage == Usage(65, 0, 20, 20, output_tokens=38)
    assert (reading.response_model, reading.finished) == ("c-1", True)


def test_other_vendors_streams_are_booked_by_the_metrics() -> None:
    reading, first_output = stream(
        chunk(generation="Hello", prompt_token_count=10),
        chunk(**{"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": METRICS}),
    )
    assert (reading.usage, json.loads(reading.raw_usage)) == (Usage(45, output_tokens=35), METRICS)
    assert (reading.finished, first_output) == (True, True)


def test_a_stream_that_breaks_leaves_what_was_seen() -> None:
    start = chunk(type="message_start", message={"usage": {"input_tokens": 45, "output_tokens": 1}})
    delta = chunk(type="content_block_delta", delta={"type": "text_delta", "text": "Hello "})
    reading, _ = stream(start, delta, delta[:50])
    assert (reading.usage, reading.finished, reading.output_text) == (Usage(45, output_tokens=1), False, "Hello ")
    reading, _ = stream(
        event("contentBlockDelta", delta={"text": "Hi"}), event("contentBlockDelta", delta={"text": "!"})
    )
    assert (reading.usage, reading.output_text) == (None, "Hi!")
    blocks = [event("contentBlockDelta", contentBlockIndex=index, delta={"text": "Hi"}) for index in (0, 1, 0)]
    assert BEDROCK.stream_texts(b"".join(blocks) + b"x" * 20) == ["HiHi", "Hi"]


def test_exceptions_come_inside_a_stream() -> None:
    reading, _ = stream(event("messageStart", role="assistant"), exception("throttlingException", "Too many tokens"))
    assert (reading.error, reading.usage, reading.finished) == ("throttlingException", None, False)


def test_after_a_damaged_frame_nothing_is_believed() -> None:
    end = event("metadata", usage={"inputTokens": 5, "outputTokens": 3})
    damaged = bytearray(event("contentBlockDelta", delta={"text": "Hi"}))
    damaged[-6] ^= 1
    reading, _ = stream(bytes(damaged), end)
    assert (reading.error, reading.usage) == ("event_stream_damaged", None)


@pytest.mark.parametrize(
    "usage", [None, [], "x", {}, {"inputTokens": -1}, {"inputTokens": "5"}, {"inputTokens": 1e300}]
)
def test_usage_that_makes_no_sense_is_none(usage: Any) -> None:
    assert whole(usage=usage).usage is None
    assert stream(event("metadata", usage=usage))[0].usage is None


def test_what_is_no_json_is_an_error() -> None:
    assert BEDROCK.read_answer("bedrock.invoke", b"<html>").error == "not_json"
    assert stream(event("chunk", bytes="&&&"))[0].usage is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", "ValidationException"),
        (400, "insufficient_quota", "ServiceQuotaExceededException"),
        (401, "invalid_api_key", "AccessDeniedException"),
        (404, "model_not_found", "ResourceNotFoundException"),
        (429, "rate_limit_exceeded", "ThrottlingException"),
        (503, "overloaded", "ServiceUnavailableException"),
        (500, "internal_error", "InternalServerException"),
    ],
)
def test_errors_have_the_names_that_aws_gives_them(status: int, code: str, kind: str) -> None:
    body = json.loads(BEDROCK.error_body(status, code=code, type="", message="no"))
    assert body == {"__type": kind, "message": "no"}
