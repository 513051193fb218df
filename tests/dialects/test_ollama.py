"""Ollama's own dialect: what is read from requests, and each trap of its answers once. The figures are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.ollama.dialect import OLLAMA
from llmctl.dialects.request import Request
from llmctl.domain.call import Ask, Reading
from llmctl.domain.demand import IMAGES
from llmctl.domain.errors import Refused
from llmctl.domain.usage import Usage

HELLO = [{"role": "user", "content": "Hello"}]
FIELD = "options.num_predict"


def read(endpoint: str = "ollama.chat", **body: Any) -> Request:
    return OLLAMA.read_request(endpoint, json.dumps({"model": "m", **body}).encode())


def ask(endpoint: str = "ollama.chat", **body: Any) -> Ask:
    return read(endpoint, **body).ask


def line(**piece: Any) -> bytes:
    return json.dumps({"model": "m:8b", "created_at": "2026-01-01T00:00:00Z", **piece}).encode() + b"\n"


EMPTY = line(message={"role": "assistant", "content": ""}, done=False)
THINKS = line(message={"role": "assistant", "content": "", "thinking": "Hm. "}, done=False)
SAYS = line(message={"role": "assistant", "content": 'a "done":true naïve\n'}, done=False)
END = line(
    message={"role": "assistant", "content": ""},
    done=True,
    done_reason="stop",
    total_duration=5_000_000_000,
    prompt_eval_count=26,
    prompt_eval_cached_count=20,
    eval_count=282,
)


def stream(*lines: bytes, size: int = 1 << 20) -> tuple[Reading, bool]:
    reader, body = OLLAMA.reader("ollama.chat", read(messages=HELLO)), b"".join(lines)
    for position in range(0, len(body), size):
        piece = body[position : position + size]
        assert reader.feed(piece) is piece
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading, reader.first_output


def whole(**answer: Any) -> Reading:
    return OLLAMA.read_answer("ollama.chat", line(**answer))


def test_streams_are_the_default() -> None:
    assert ask(messages=HELLO).stream
    assert ask(messages=HELLO, stream=None).stream
    assert not ask(messages=HELLO, stream=False).stream
    assert not ask("ollama.embed", input="a").stream


def test_num_predict_is_lowered_where_it_stands() -> None:
    body = b'{"model":"m","prompt":"Hello","options":{"temperature":0,"num_predict":90}}'
    request = OLLAMA.read_request("ollama.generate", body)
    assert request.ask.output_tokens_max == 90
    assert request.upstream_body(output_tokens_max=50, output_field=FIELD) == body.replace(b"90", b"50")
    assert request.upstream_body(output_tokens_max=95, output_field=FIELD) is body


@pytest.mark.parametrize("unbounded", [-1, -2, 0, None])
def test_what_bounds_nothing_is_replaced_by_a_maximum(unbounded: int | None) -> None:
    request = read(messages=HELLO, options={"num_predict": unbounded, "seed": 1})
    assert request.ask.output_tokens_max is None
    sent = json.loads(request.upstream_body(output_tokens_max=50, output_field=FIELD))
    assert sent["options"] == {"num_predict": 50, "seed": 1}


def test_a_maximum_is_set_where_there_is_none() -> None:
    sent = json.loads(read(messages=HELLO).upstream_body(output_tokens_max=50, output_field=FIELD))
    assert sent["options"] == {"num_predict": 50}


@pytest.mark.parametrize(
    "body",
    [
        {"options": {"num_predict": -3}},
        {"options": {"num_predict": 5.0}},
        {"options": {"NUM_PREDICT": 5}},
        {"options": "x"},
        {"Options": {}},
        {"messages": "Hello"},
        {"model": ""},
        {"stream": "yes"},
    ],
)
def test_what_decides_money_is_read_strictly(body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(**body)
    assert caught.value.code == "bad_request"


def test_text_is_bounded_by_its_bytes_images_and_templates_are_not() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    calls = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    result = {"role": "tool", "tool_name": "f", "content": "1", "images": None}
    bounded = ask(messages=[*HELLO, calls, result], tools=tools, format={"type": "object"}, think=True)
    assert (bounded.unbounded_input, bounded.server_tool_turns) == ("", 0)
    assert ask("ollama.generate", prompt="Hello", context=[1, 2, 3], images=[]).unbounded_input == ""
    assert ask("ollama.generate", prompt="What?", images=["AAAA"]).unbounded_input == IMAGES
    assert ask(messages=[{"role": "user", "content": "", "images": ["AAAA"]}]).unbounded_input == IMAGES
    assert ask("ollama.generate", prompt="Hello", template="{{ .Prompt }}").unbounded_input


def test_embeddings_generate_nothing_and_showing_a_model_is_free() -> None:
    assert not ask("ollama.embed", input=["a", "b"]).generates
    assert not ask("ollama.embeddings", prompt="a").generates
    assert ask("ollama.show").free


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1 << 20])
def test_a_stream_ends_with_its_counts_wherever_it_is_cut(size: int) -> None:
    reading, first_output = stream(EMPTY, THINKS, SAYS, END, size=size)
    assert reading.usage == Usage(input_tokens=26, cache_read_tokens=20, output_tokens=282)
    assert (reading.finished, reading.error, reading.response_model, first_output) == (True, "", "m:8b", True)
    assert json.loads(reading.raw_usage) == {
        "prompt_eval_count": 26,
        "prompt_eval_cached_count": 20,
        "eval_count": 282,
        "done_reason": "stop",
        "total_duration": 5_000_000_000,
    }
    assert OLLAMA.read_usage("ollama.chat", reading.raw_usage) == reading.usage


def test_the_last_line_needs_no_end() -> None:
    reading, _ = stream(SAYS, END[:-1])
    assert reading.usage is not None
    assert reading.finished


def test_nothing_is_output_before_the_first_letter() -> None:
    assert not stream(EMPTY)[1]
    assert stream(EMPTY, THINKS)[1]


def test_a_stream_that_breaks_leaves_its_text() -> None:
    reading, _ = stream(THINKS, SAYS, END[:40])
    assert (reading.usage, reading.finished) == (None, False)
    assert reading.output_text == 'Hm. a "done":true naïve\n'
    assert reading.response_model == "m:8b"
    assert OLLAMA.stream_texts(THINKS + SAYS + END[:40]) == ["Hm. ", 'a "done":true naïve\n']


def test_an_error_comes_as_a_line_of_a_stream() -> None:
    reading, _ = stream(SAYS, b'{"error":"model runner has unexpectedly stopped"}\n')
    assert (reading.error, reading.usage, reading.finished) == ("error", None, False)


def test_a_line_too_long_is_left_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.dialects.ollama.answer.EVENT_BYTES_MAX", 1000)
    reading, _ = stream(line(response="x" * 5000, done=False), END, size=300)
    assert reading.error == "event_too_large"
    assert reading.usage is not None


def test_a_prompt_that_was_cached_may_not_be_counted() -> None:
    assert whole(response="Hi", done=True, eval_count=3).usage == Usage(output_tokens=3)


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_loading_a_model_uses_nothing(reason: str) -> None:
    loaded = whole(message={"role": "assistant", "content": ""}, done=True, done_reason=reason)
    assert (loaded.usage, loaded.error) == (Usage(), "")
    assert json.loads(loaded.raw_usage) == {"done_reason": reason}


def test_whole_answers_with_and_without_counts() -> None:
    embedded = whole(embeddings=[[0.1]], prompt_eval_count=8)
    assert (embedded.usage, embedded.finished) == (Usage(input_tokens=8), True)
    assert whole(embedding=[0.1]).usage is None
    assert whole(response="Hi", done=True, done_reason="stop").output_text == "Hi"
    assert whole(prompt_eval_count=-1, eval_count="3").usage is None
    assert OLLAMA.read_answer("ollama.chat", b"<html>").error == "not_json"
    assert OLLAMA.read_answer("ollama.chat", SAYS + END).usage == Usage(26, 20, output_tokens=282)


def test_errors_are_a_text() -> None:
    assert OLLAMA.error_body(429, code="limit_spent", type="", message="spent") == b'{"error":"spent"}'


def test_texts_of_a_request_for_an_estimate() -> None:
    text = OLLAMA.input_text(read(messages=HELLO))
    assert (text.messages, text.framed) == ((("user", "Hello"),), True)
    text = OLLAMA.input_text(read("ollama.generate", prompt="Hello", system="Be brief", context=[1, 2]))
    assert (text.messages, text.tokens) == ((("user", "Be brief"), ("user", "Hello")), 2)
    text = OLLAMA.input_text(read("ollama.embed", input=["a", "b"]))
    assert (text.messages, text.framed) == ((("user", "a"), ("user", "b")), False)
