"""Answers in the OpenAI dialect, whole and streamed. The bodies are made up."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.openai import answer
from llmctl.dialects.openai.answer import OpenAiReader
from llmctl.dialects.openai.dialect import OPENAI
from llmctl.dialects.wire import sse
from llmctl.dialects.wire.stream import RETAINED_BYTES
from llmctl.domain.call import Reading
from llmctl.domain.usage import Usage

from .rubbish import cut

CHAT = "chat.completions"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
READ = Usage(input_tokens=12, output_tokens=3)
REQUEST = OPENAI.read_request(CHAT, b'{"model":"m","messages":[],"stream":true}')


def event(value: Any, newline: str = "\n", name: str = "") -> bytes:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    lines = [f"event: {name}"] if name else []
    return newline.join([*lines, f"data: {data}", "", ""]).encode()


def chunk(content: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if content is None else [{"index": 0, "delta": {"content": content}, "finish_reason": None}]
    return {"id": "c1", "model": "m-2025", "choices": choices, **more}


USAGE_EVENT = event(chunk(usage=USAGE))
DONE = event("[DONE]")


def feed(
    body: bytes, *, sizes: list[int] | None = None, strip: bool = False, endpoint: str = CHAT
) -> tuple[bytes, Reading]:
    reader = OPENAI.reader(endpoint, REQUEST, strip_usage=strip)
    forwarded, position = b"", 0
    for size in [*(sizes or []), len(body)]:
        piece = body[position : position + size]
        passed = reader.feed(piece)
        assert strip or passed is piece
        forwarded += passed
        position += size
    rest, reading = reader.close(), reader.reading()
    return forwarded + rest, reading


STRANGE = [None, "", 0, -1, 3, 10**30, 1.5, True, "x", [], {}, {"cost": 1}, {"type": "x"}, "m" * 201]
USUAL_USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
USUAL = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m-2025", "usage": USUAL_USAGE}
MEMBERS = [
    "error",
    "type",
    "response",
    "provider",
    "service_tier",
    "output",
    "tool_usage",
    "x_groq",
    "model",
    "choices",
]
IN_USAGE = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cost",
    "search_context_size",
]


@given(
    more=st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(STRANGE), max_size=2),
    usage=st.dictionaries(st.sampled_from(IN_USAGE), st.sampled_from(STRANGE), max_size=2),
    audio=st.booleans(),
)
def test_a_usual_answer_is_read_as_any_would_be(more: dict[str, Any], usage: dict[str, Any], audio: bool) -> None:
    message = {"content": "Hi", **({"audio": {"id": "audio_1"}} if audio else {})}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({**USUAL, "choices": choices, "usage": {**USUAL_USAGE, **usage}, **more}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "_read_usual_answer", lambda _: None)
        as_any = OPENAI.read_answer(CHAT, body)
    assert OPENAI.read_answer(CHAT, body) == as_any


def test_most_answers_are_usual() -> None:
    body = json.dumps({**USUAL, "choices": [], "service_tier": None, "error": None, "system_fingerprint": "f"}).encode()
    assert answer._read_usual_answer(body) == OPENAI.read_answer(CHAT, body)


def test_a_whole_answer_states_usage_model_and_tier() -> None:
    usage = b'{ "prompt_tokens": 12,  "completion_tokens": 3 }'
    body = b'{"model":"m-2025","service_tier":"flex","choices":[{"message":{"content":"x"}}],"usage":%b}' % usage
    assert OPENAI.read_answer(CHAT, body) == Reading(
        usage=READ, raw_usage=usage, response_model="m-2025", service_tier="flex", finished=True
    )


def test_an_answer_without_usage_gives_its_text_for_an_estimate() -> None:
    message = {"content": "Hello", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]}
    reading = OPENAI.read_answer(CHAT, json.dumps({"choices": [{"message": message}]}).encode())
    assert (reading.usage, reading.output_text, reading.finished) == (None, 'Hellof{"a":1}', True)
    object_content = OPENAI.read_answer(CHAT, b'{"choices":[{"message":{"content":{"title":"x"}}}]}')
    assert object_content.output_text == '{"title":"x"}'
    response = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]}
    assert OPENAI.read_answer("responses", json.dumps(response).encode()).output_text == "Hi"


@pytest.mark.parametrize(
    ("body", "error", "finished"),
    [
        (b"", "", False),
        (b"<html>502</html>", "not_json", False),
        (b'{"model":"m"', "not_json", False),
        (b"[1]", "not_json", False),
        (b'{"error":{"message":"no","type":"server_error","code":null}}', "server_error", True),
        (b'{"error":{"code":"overloaded"}}', "overloaded", True),
        (b'{"error":"no"}', "error", True),
        (b'{"error":null,"model":7,"usage":"none","service_tier":{}}', "", True),
    ],
)
def test_an_answer_that_makes_no_sense_has_no_usage(body: bytes, error: str, finished: bool) -> None:
    reading = OPENAI.read_answer(CHAT, body)
    assert (reading.usage, reading.error, reading.finished) == (None, error, finished)


@pytest.mark.parametrize("rubbish", [b'"\\ud83d"', b"NaN", b"-Infinity", b'"\xff"'])
def test_json_beyond_the_standard_does_not_hide_the_usage(rubbish: bytes) -> None:
    body = b'{"choices":[{"text":%b}],"usage":{"prompt_tokens":12,"completion_tokens":3}}' % rubbish
    assert OPENAI.read_answer("completions", body).usage == READ


def test_a_stream_in_place_of_a_whole_answer_is_read_all_the_same() -> None:
    assert OPENAI.read_answer(CHAT, event(chunk("x")) + USAGE_EVENT + DONE).usage == READ
    body = b'{"model":"m","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}'
    forwarded, reading = feed(body, sizes=[5, 7], strip=True)
    assert (forwarded, reading.usage, reading.finished) == (body, READ, True)


STREAM = b": hello\n\n" + event(chunk("é😀")) + event(chunk("b", usage=None)) + event(chunk()) + USAGE_EVENT + DONE
STRIPPED = STREAM.replace(USAGE_EVENT, b"")


def test_of_events_that_came_at_once_the_one_for_us_is_taken_out() -> None:
    """With blank lines too many too: what goes is the same wherever chunks end."""
    for end in (b"", b"\n", b"\n\n"):
        body = (event(chunk("a")) + end) * 3 + USAGE_EVENT + end + event(chunk("b")) + end + DONE
        forwarded, reading = feed(body, strip=True)
        assert (forwarded, reading) == feed(body, sizes=[1] * len(body), strip=True)
        assert (reading.usage, forwarded.count(b"data:"), b'"usage"' in forwarded) == (READ, 5, False)


ODD_EVENTS = [
    event(chunk("a")),
    event(chunk("b", usage=None)),
    event({"choices": [], "error": None, "usage": None}),
    event(chunk('"error": the "usage" of words')),
    event({"error": {"message": "no", "type": "server_error"}}),
    b"event: error\n" + event({"message": "no"}),
    b'error: {"message": "no"}\n\n',
    b": error: nothing\n\n",
    USAGE_EVENT,
    DONE,
]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ODD_EVENTS), st.sampled_from(["", "\n", "\n\n", "\r\n"])), max_size=8),
    st.lists(st.integers(1, 400), max_size=12),
    st.booleans(),
)
def test_odd_events_are_read_alike_wherever_chunks_end(
    events: list[tuple[bytes, str]], sizes: list[int], strip: bool
) -> None:
    body = b"".join(text + end.encode() for text, end in events)
    found = []
    for pieces in (cut(body, sizes), cut(body, [1] * len(body))):
        reader = OPENAI.reader(CHAT, REQUEST, strip_usage=strip)
        forwarded = b"".join(map(reader.feed, pieces)) + reader.close()
        found.append((forwarded, reader.reading(), reader.first_output))
    assert found[0] == found[1]


@settings(deadline=None)
@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 40), max_size=120), st.booleans())
def test_a_stream_is_read_and_stripped_wherever_chunks_end(newline: str, sizes: list[int], strip: bool) -> None:
    body, stripped = (text.replace(b"\n", newline.encode()) for text in (STREAM, STRIPPED))
    forwarded, reading = feed(body, sizes=sizes, strip=strip)
    assert forwarded == (stripped if strip else body)
    assert reading == Reading(usage=READ, raw_usage=json.dumps(USAGE).encode(), response_model="m-2025", finished=True)


def test_only_the_injected_event_is_taken_out() -> None:
    kept = [
        event(chunk("x", usage=USAGE)),  # choices
        event(chunk(usage=None)),  # no usage
        event({"id": "1", "prompt_filter_results": [], "choices": []}),  # Azure's filter
        event({"usage": USAGE}),  # no choices at all
        event(chunk('a "usage" of words')),
        b': comment with "usage": 1\n\n',
        DONE,
    ]
    for piece in kept:
        assert feed(piece, strip=True)[0] == piece
    assert feed(USAGE_EVENT, strip=True)[0] == b""
    assert feed(USAGE_EVENT.rstrip(b"\n"), strip=True)[0] == b""  # the last blank line is missing
    assert feed(event({"choices": [], "usage": USAGE}, "\r\n"), strip=True)[0] == b""


def test_stripping_holds_back_no_more_than_an_event_under_way() -> None:
    reader = OPENAI.reader(CHAT, REQUEST, strip_usage=True)
    first = event(chunk("a"))
    assert reader.feed(first) is first
    assert reader.feed(first + first[:10]) == first
    assert reader.feed(first[10:]) == first


def test_the_moment_of_the_first_token_is_seen() -> None:
    reader = OPENAI.reader(CHAT, REQUEST, strip_usage=False)
    reader.feed(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
    assert not reader.first_output
    reader.feed(event({"choices": [{"delta": {"reasoning_content": "h"}}]}))
    assert reader.first_output


def test_of_several_usage_objects_the_last_sensible_one_counts() -> None:
    body = b"".join(event(chunk("x", usage={"prompt_tokens": 12, "completion_tokens": n})) for n in (1, 2, 3))
    assert feed(body)[1].usage == READ
    rubbish: object
    for rubbish in ("none", [], {}, {"prompt_tokens": None}, 5):
        assert feed(body + event(chunk(usage=rubbish)))[1].usage == READ


@pytest.mark.parametrize(
    "last", [{"x_groq": {"id": "1", "usage": USAGE}, "choices": []}, {"choices": [{"delta": {}, "usage": USAGE}]}]
)
def test_usage_is_found_where_some_providers_put_it(last: dict[str, Any]) -> None:
    assert feed(event(chunk("x")) + event(last) + DONE)[1].usage == READ


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (event({"error": {"message": "no", "type": "server_error"}}), "server_error"),
        (event({"message": "no"}, name="error"), ""),  # no word of ours in it, and nothing that SDKs would raise on
        (event({"error": "no"}, name="error"), "error"),
        (b'error: {"code":500,"message":"no"}\n\n', "error"),
        (b'error: {"code":500,"message":"no"}', "error"),
    ],
)
def test_an_error_inside_a_stream_is_seen(last: bytes, error: str) -> None:
    reading = feed(event(chunk("x")) + last)[1]
    assert (reading.error, reading.finished) == (error, False)


def test_without_done_the_end_is_the_usage_after_the_finish_reason() -> None:
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    assert feed(event(chunk("x")) + event(last))[1].finished
    assert not feed(event(chunk("x", usage=USAGE)))[1].finished


def test_a_stream_that_breaks_off_gives_the_text_so_far() -> None:
    body = event(chunk("one ")) + event(chunk("two ")) + event(chunk("three"))[:40]
    reading = feed(body, sizes=[30, 3])[1]
    assert (reading.usage, reading.output_text, reading.finished) == (None, "one two ", False)
    assert (reading.response_model, reading.output_seen_share) == ("m-2025", 1.0)
    tool = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}
    assert feed(event(tool))[1].output_text == "{}"


def test_the_texts_of_a_stream_are_put_together_by_choice_and_kind() -> None:
    body = b""
    for piece in ("Hel", "lo"):
        for index in (0, 1):
            body += event({"choices": [{"index": index, "delta": {"reasoning": piece.upper(), "content": piece}}]})
    assert OPENAI.stream_texts(body) == ["HELLO", "Hello", "HELLO", "Hello"]
    deltas = [{"type": "response.output_text.delta", "output_index": index, "delta": "ab"} for index in (0, 1, 0, [])]
    assert OPENAI.stream_texts(b"".join(map(event, deltas))) == ["abab", "ab", "ab"]


def test_of_a_long_stream_without_usage_only_the_beginning_is_kept() -> None:
    piece = event(chunk("abcd"))
    body = piece * (4 * RETAINED_BYTES // len(piece))
    reading = feed(body, sizes=[1000] * 60)[1]
    assert reading.output_seen_share == pytest.approx(RETAINED_BYTES / len(body))
    assert reading.output_text == "abcd" * (RETAINED_BYTES // len(piece))


def test_an_event_too_large_to_read_passes_and_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 1000)
    body = event(chunk("x" * 3000, usage=USAGE)) + DONE
    for strip in (False, True):
        forwarded, reading = feed(body, sizes=[100] * 20, strip=strip)
        assert forwarded == body
        assert (reading.usage, reading.error, reading.finished) == (None, "event_too_large", True)


RESPONSE: dict[str, Any] = {"id": "r1", "model": "m-2025", "service_tier": "priority", "error": None, "output": []}
RESPONSE_USAGE = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}


def typed(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more}, name=kind)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_a_streamed_response_ends_with_its_usage(kind: str) -> None:
    calls = [{"type": "web_search_call", "action": {"type": "search"}}]
    error = {"code": "server_error", "message": "no"} if kind == "response.failed" else None
    body = (
        typed("response.created", response={**RESPONSE, "usage": None})
        + typed("response.output_text.delta", delta="Hel")
        + typed("response.output_text.delta", delta="lo")
        + typed(kind, response={**RESPONSE, "output": calls, "usage": RESPONSE_USAGE, "error": error})
    )
    reading = feed(body, endpoint="responses", sizes=[7] * 30)[1]
    assert reading.usage == Usage(input_tokens=12, output_tokens=3, web_search_calls=1)
    assert (reading.response_model, reading.service_tier, reading.finished) == ("m-2025", "priority", True)
    assert reading.error == ("server_error" if error else "")
    cut = feed(body[: body.index(b"event: " + kind.encode())], endpoint="responses")[1]
    assert (cut.usage, cut.output_text, cut.response_model, cut.finished) == (None, "Hello", "m-2025", False)


def test_an_error_event_of_a_response_names_its_code() -> None:
    for more in ({"code": "rate_limit", "message": "no"}, {"error": {"code": "rate_limit"}}):
        body = typed("response.created", response=RESPONSE) + typed("error", **more)
        assert feed(body, endpoint="responses")[1].error == "rate_limit"


def test_the_providers_own_money_is_read_from_the_usage() -> None:
    body = event(chunk(usage={**USAGE, "cost": 0.00012})) + DONE
    assert feed(body)[1].reported_cost_nano_usd == 120_000


def test_the_usage_can_be_read_again_from_what_was_kept() -> None:
    reading = feed(STREAM)[1]
    assert OPENAI.read_usage(CHAT, reading.raw_usage) == reading.usage


def test_errors_have_the_shape_that_sdks_read() -> None:
    body = OPENAI.error_body(429, code="insufficient_quota", type="insufficient_quota", message="spent", param=None)
    error = {"message": "spent", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
    assert json.loads(body) == {"error": error}
    assert json.loads(OPENAI.error_body(503, code="x", type="", message="m"))["error"]["type"] == "server_error"


def test_credentials_are_shown_as_a_bearer() -> None:
    assert OPENAI.credential_headers("sk-1") == {"Authorization": "Bearer sk-1"}
    assert OPENAI.default_headers() == {}


def response(**more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m-2025", "status": "in_progress", "usage": None, **more}


def begun(**more: Any) -> bytes:
    return event({"type": "response.created", "sequence_number": 0, "response": response(**more)})


def test_a_response_is_known_by_its_id_and_goes_on_until_its_status_says_otherwise() -> None:
    for status, goes_on in (("queued", True), ("in_progress", True), ("completed", False), ("cancelled", False)):
        reading = OPENAI.read_answer("responses.retrieve", json.dumps(response(status=status)).encode())
        assert (reading.object_id, reading.status, reading.goes_on) == ("resp_1", status, goes_on)
        assert reading.usage is None
    for odd in ({"id": "resp/1"}, {"id": 7}, {"id": "x" * 300}, {"store": False}):
        assert OPENAI.read_answer("responses", json.dumps(response(**odd)).encode()).object_id == ""
    chat = OPENAI.read_answer(CHAT, json.dumps({"id": "chatcmpl-1", "status": "queued"}).encode())
    assert (chat.object_id, chat.goes_on) == ("", False)


def test_a_streamed_responses_id_is_in_its_first_event_however_long_that_is() -> None:
    done = event({"type": "response.completed", "response": response(status="completed", usage={"input_tokens": 1})})
    _, reading = feed(begun() + done, endpoint="responses")
    assert (reading.object_id, reading.status, reading.finished) == ("resp_1", "completed", True)
    _, broken = feed(begun(), endpoint="responses")
    assert (broken.object_id, broken.status, broken.finished) == ("resp_1", "in_progress", False)
    _, long = feed(begun(instructions="x" * 2 * RETAINED_BYTES), endpoint="responses")
    assert (long.object_id, long.finished) == ("resp_1", False)
    _, later = feed(done, endpoint="responses.retrieve")  # taken up again after its first event
    assert (later.object_id, later.goes_on, later.finished) == ("resp_1", False, True)


def test_counted_tokens_are_nobodys_usage() -> None:
    reading = OPENAI.read_answer("responses.input_tokens", b'{"object": "response.input_tokens", "input_tokens": 15}')
    assert reading == Reading(finished=True)


def test_an_answer_that_is_heard_can_be_referred_to() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    message = {"role": "assistant", "content": None, "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hi"}}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    assert OPENAI.read_answer(CHAT, json.dumps(whole).encode()).part_ids == ("audio_1",)
    first = {"choices": [{"index": 0, "delta": {"audio": {"id": "audio_1", "transcript": "Hi"}}}]}
    last = {"choices": [], "usage": usage}
    stream = b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in (first, last)) + b"data: [DONE]\n\n"
    assert OpenAiReader(CHAT).read(stream).part_ids == ("audio_1",)
    message = {"role": "assistant", "content": '"audio": {"id": "audio_2"}'}
    said = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    assert OPENAI.read_answer(CHAT, json.dumps(said).encode()).part_ids == ()


def test_only_the_ids_that_the_provider_gives_can_be_referred_to() -> None:
    """The schemas of somebody's MCP server may say anything."""
    schema = {"type": "object", "id": "rs_theirs", "container_id": "cntr_theirs"}
    output = [
        {"type": "mcp_list_tools", "id": "mcpl_1", "tools": [{"name": "t", "input_schema": schema}]},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"},
        {"type": "shell_call", "id": "sh_1", "environment": {"type": "container_reference", "container_id": "cntr_2"}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    body = json.dumps({"id": "resp_1", "object": "response", "output": output, "usage": usage}).encode()
    expected = ("mcpl_1", "ci_1", "cntr_1", "sh_1", "cntr_2")
    assert OPENAI.read_answer("responses", body).part_ids == expected
