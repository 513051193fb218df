"""Answers in the Anthropic dialect, whole and streamed: each trap once. The figures are made up."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.anthropic.answer import AnthropicReader
from llmctl.dialects.anthropic.dialect import ANTHROPIC
from llmctl.domain.call import Reading
from llmctl.domain.usage import Usage

REQUEST = ANTHROPIC.read_request("messages", b'{"model":"m","messages":[],"stream":true}')


def whole(**usage: Any) -> Reading:
    return ANTHROPIC.read_answer("messages", json.dumps({"type": "message", "model": "c-1", "usage": usage}).encode())


def event(kind: str, newline: str = "\n", **more: Any) -> bytes:
    return newline.join([f"event: {kind}", "data: " + json.dumps({"type": kind, **more}), "", ""]).encode()


def start(**usage: Any) -> bytes:
    return event("message_start", message={"model": "c-1", "content": [], "usage": usage})


def delta(**usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)


TEXT = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello "})
STOP = event("message_stop")


def stream(*events: bytes, sizes: tuple[int, ...] = ()) -> Reading:
    reader = ANTHROPIC.reader("messages", REQUEST, strip_usage=True)
    body, position = b"".join(events), 0
    for size in [*sizes, len(body)]:
        piece = body[position : position + size]
        assert reader.feed(piece) is piece
        position += size
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading


def test_input_includes_what_anthropic_reports_beside_it() -> None:
    reading = whole(
        input_tokens=10,
        cache_read_input_tokens=500,
        cache_creation_input_tokens=300,
        cache_creation={"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        output_tokens=40,
        output_tokens_details={"thinking_tokens": 15},
        service_tier="priority",
        server_tool_use={"web_search_requests": 2, "web_fetch_requests": 1},
    )
    assert reading.usage == Usage(
        input_tokens=810,
        cache_read_tokens=500,
        cache_write_tokens=300,
        cache_write_1h_tokens=200,
        output_tokens=40,
        reasoning_tokens=15,
        web_search_calls=2,
    )
    assert (reading.response_model, reading.service_tier, reading.finished) == ("c-1", "priority", True)


def test_compaction_and_advisors_are_billed_beside_the_top_level() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 90_000, "output_tokens": 3000},
        {"type": "message", "input_tokens": 162, "output_tokens": 50, "cache_read_input_tokens": 7},
        {"type": "advisor_message", "model": "dear", "input_tokens": 800, "output_tokens": 400},
        "rubbish",
    ]
    reading = whole(input_tokens=162, cache_read_input_tokens=7, output_tokens=50, iterations=iterations)
    assert reading.usage == Usage(input_tokens=90_969, cache_read_tokens=7, output_tokens=3450)
    rubbish: object
    for rubbish in (None, [], "x", {}, [None]):
        assert whole(input_tokens=162, output_tokens=50, iterations=rubbish).usage == Usage(
            input_tokens=162, output_tokens=50
        )


def test_of_a_streams_two_usage_objects_the_delta_wins() -> None:
    reading = stream(
        start(
            input_tokens=2225,
            cache_read_input_tokens=0,
            cache_creation_input_tokens=0,
            output_tokens=1,
            service_tier="standard",
        ),
        TEXT,
        delta(
            input_tokens=9447,
            cache_creation_input_tokens=17,
            output_tokens=114,
            server_tool_use={"web_search_requests": 1},
        ),
        STOP,
    )
    assert reading.usage == Usage(input_tokens=9464, cache_write_tokens=17, output_tokens=114, web_search_calls=1)
    assert (reading.response_model, reading.service_tier, reading.finished) == ("c-1", "standard", True)
    assert json.loads(reading.raw_usage)["input_tokens"] == 9447
    assert ANTHROPIC.read_usage("messages", reading.raw_usage) == reading.usage


def test_what_an_old_delta_leaves_out_stays() -> None:
    reading = stream(start(input_tokens=20, cache_read_input_tokens=5, output_tokens=1), TEXT, delta(output_tokens=8))
    assert reading.usage == Usage(input_tokens=25, cache_read_tokens=5, output_tokens=8)
    nulls = delta(input_tokens=None, cache_read_input_tokens=0, output_tokens=8)
    assert stream(start(input_tokens=20, cache_read_input_tokens=5, output_tokens=1), nulls).usage == reading.usage
    late = stream(
        start(input_tokens=0, output_tokens=0), delta(input_tokens=20, cache_read_input_tokens=5, output_tokens=8)
    )
    assert late.usage == reading.usage


def test_what_is_written_for_an_hour_later_in_a_stream_is_dear_too() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 100}
    reading = stream(
        start(input_tokens=1, cache_creation_input_tokens=100, cache_creation=split, output_tokens=1),
        delta(cache_creation_input_tokens=150, output_tokens=8),
    )
    assert reading.usage is not None
    assert (reading.usage.cache_write_tokens, reading.usage.cache_write_1h_tokens) == (150, 150)


def test_a_stream_that_breaks_off_has_the_usage_so_far_and_the_text() -> None:
    tool = event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a"'})
    reading = stream(start(input_tokens=20, output_tokens=1), TEXT, TEXT, tool, TEXT[:30])
    assert reading.usage == Usage(input_tokens=20, output_tokens=1)
    assert (reading.output_text, reading.finished) == ('Hello Hello {"a"', False)
    assert stream(TEXT).usage is None
    assert ANTHROPIC.stream_texts(TEXT + TEXT + tool) == ["Hello Hello ", '{"a"']


def test_errors_are_seen_wherever_they_come() -> None:
    error = {"type": "overloaded_error", "message": "no"}
    body = json.dumps({"type": "error", "error": error}).encode()
    assert ANTHROPIC.read_answer("messages", body).error == "overloaded_error"
    reading = stream(start(input_tokens=20, output_tokens=1), TEXT, event("error", error=error))
    assert (reading.error, reading.finished) == ("overloaded_error", False)
    assert ANTHROPIC.read_answer("messages", b"<html>").error == "not_json"
    assert ANTHROPIC.read_answer("messages", b"") == Reading()


def test_fast_mode_is_a_tier_of_its_own() -> None:
    assert whole(input_tokens=1, output_tokens=1, service_tier="standard", speed="fast").service_tier == "fast"


def test_an_answer_without_usage_gives_its_text() -> None:
    body = {"content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "name": "f", "input": {}}]}
    reading = ANTHROPIC.read_answer("messages", json.dumps(body).encode())
    assert (reading.usage, reading.output_text) == (None, "Hif{}")
    count = ANTHROPIC.read_answer("messages.count_tokens", b'{"input_tokens":14}')
    assert (count.usage, count.finished) == (None, True)


@pytest.mark.parametrize("rubbish", [None, "none", [], {}, {"input_tokens": None}, {"input_tokens": "5"}, 7])
def test_usage_that_makes_no_sense_is_none(rubbish: object) -> None:
    reading = ANTHROPIC.read_answer("messages", json.dumps({"content": [], "usage": rubbish}).encode())
    assert (reading.usage, reading.raw_usage) == (None, b"")


@pytest.mark.parametrize("rubbish", [None, -5, "12", True, [], 10**12])
def test_a_figure_that_makes_no_sense_counts_as_absent(rubbish: object) -> None:
    reading = whole(input_tokens=10, output_tokens=5, cache_read_input_tokens=rubbish, cache_creation=rubbish)
    assert reading.usage == Usage(input_tokens=10, output_tokens=5)


def test_the_other_shape_than_asked_for_is_read_all_the_same() -> None:
    body = start(input_tokens=20, output_tokens=1) + TEXT + delta(output_tokens=8) + STOP
    expected = Usage(input_tokens=20, output_tokens=8)
    assert ANTHROPIC.read_answer("messages", body).usage == expected
    assert stream(json.dumps({"usage": {"input_tokens": 20, "output_tokens": 8}}).encode()).usage == expected


@settings(deadline=None)
@given(st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(1, 60), max_size=60))
def test_a_stream_is_read_wherever_chunks_end(newline: bytes, sizes: list[int]) -> None:
    body = start(input_tokens=20, output_tokens=1) + event("ping") + TEXT + delta(output_tokens=8) + STOP
    reading = stream(body.replace(b"\n", newline), sizes=tuple(sizes))
    assert (reading.usage, reading.finished) == (Usage(input_tokens=20, output_tokens=8), True)


def test_the_moment_of_the_first_token_is_seen() -> None:
    reader = ANTHROPIC.reader("messages", REQUEST)
    reader.feed(start(input_tokens=1, output_tokens=1))
    assert not reader.first_output
    reader.feed(TEXT)
    assert reader.first_output


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (402, "billing_error"), (404, "not_found_error"), (429, "rate_limit_error")],
)
def test_errors_have_the_shape_that_sdks_read(status: int, kind: str) -> None:
    body = ANTHROPIC.error_body(status, code="c", type="", message="m", request_id="req_1")
    assert json.loads(body) == {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "req_1"}


def test_credentials_and_the_version_go_in_headers_of_their_own() -> None:
    assert ANTHROPIC.credential_headers("k") == {"x-api-key": "k"}
    assert ANTHROPIC.default_headers() == {"anthropic-version": "2023-06-01"}


def test_the_container_that_code_ran_in_can_be_referred_to() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"model": "m", "usage": usage, "container": {"id": "container_1", "expires_at": "2026-01-01"}}
    assert ANTHROPIC.read_answer("messages", json.dumps(whole).encode()).part_ids == ("container_1",)
    events = [
        {"type": "message_start", "message": {"model": "m", "usage": usage, "container": None}},
        {"type": "message_delta", "delta": {"container": {"id": "container_1"}}, "usage": usage},
        {"type": "message_stop"},
    ]
    stream = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    assert AnthropicReader().read(stream).part_ids == ("container_1",)


@pytest.mark.parametrize(
    ("category", "said", "unbilled"),
    [(None, False, True), ("cyber", False, True), ("bio", False, False), (None, True, False)],
)
def test_a_refusal_before_anything_was_said_is_not_billed_unless_it_is_of_a_kind_that_is(
    category: str | None, said: bool, unbilled: bool
) -> None:
    usage = {"input_tokens": 100, "output_tokens": 1}
    why = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": category} if category else None}
    whole = {"model": "m", "content": [{"type": "text", "text": "Well"}] if said else [], "usage": usage, **why}
    assert ANTHROPIC.read_answer("messages", json.dumps(whole).encode()).refused_unbilled is unbilled
    events = [
        {"type": "message_start", "message": {"model": "m", "content": [], "usage": usage}},
        *(
            [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Well"}}]
            if said
            else []
        ),
        {"type": "message_delta", "delta": why, "usage": usage},
        {"type": "message_stop"},
    ]
    stream = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    assert AnthropicReader().read(stream).refused_unbilled is unbilled
