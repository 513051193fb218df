"""Cohere's own dialect: what is read from requests, and each trap of its answers once. The figures are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.cohere.dialect import COHERE
from llmctl.dialects.request import Request
from llmctl.domain.call import Ask, Reading
from llmctl.domain.demand import IMAGES, UNKNOWN_TURNS
from llmctl.domain.errors import Refused
from llmctl.domain.usage import Usage

HELLO = [{"role": "user", "content": "Hello"}]


def read(endpoint: str = "cohere.chat", **body: Any) -> Request:
    return COHERE.read_request(endpoint, json.dumps({"model": "c", **body}).encode())


def chat(**body: Any) -> Ask:
    return read(**{"messages": HELLO, **body}).ask


def search_units(**body: Any) -> int:
    ((meter, count),) = read("cohere.rerank", **body).ask.units
    assert meter == "search_units"
    return count


def whole(**answer: Any) -> Reading:
    return COHERE.read_answer("cohere.chat", json.dumps({"id": "1", **answer}).encode())


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


START = event("message-start", id="1", delta={"message": {"role": "assistant", "content": []}})
PLAN = event("tool-plan-delta", delta={"message": {"tool_plan": "I will "}})
TEXT = event("content-delta", index=0, delta={"message": {"content": {"text": "Hello "}}})
END = event(
    "message-end",
    delta={
        "finish_reason": "COMPLETE",
        "usage": {
            "billed_units": {"input_tokens": 7, "output_tokens": 5},
            "tokens": {"input_tokens": 500, "output_tokens": 9},
        },
    },
)
DONE = b"data: [DONE]\n\n"


def stream(*events: bytes, size: int = 1 << 20) -> tuple[Reading, bool]:
    reader, body = COHERE.reader("cohere.chat", read(messages=HELLO)), b"".join(events)
    for position in range(0, len(body), size):
        piece = body[position : position + size]
        assert reader.feed(piece) is piece
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading, reader.first_output


def test_a_plain_chat_is_bounded_by_its_bytes_and_capped_in_max_tokens() -> None:
    body = b'{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"Hello"}],"stream":true}'
    request = COHERE.read_request("cohere.chat", body)
    assert request.ask == Ask("cohere.chat", "c", True, len(body), output_tokens_max=9)
    assert request.upstream_body(inject_usage=True) is body
    assert request.upstream_body(output_tokens_max=5) == body.replace(b":9,", b":5,")


def test_documents_tools_and_their_results_are_text() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
        {"role": "assistant", "tool_plan": "look", "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "document", "document": {"data": "Matz"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}], "citations": [{"start": 0}]},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    ask = chat(messages=messages, tools=tools, documents=["a", {"id": "1", "data": {"text": "b"}}])
    assert (ask.unbounded_input, ask.server_tool_turns) == ("", 0)
    assert chat(tools=[{"type": "web_search"}]).server_tool_turns == UNKNOWN_TURNS
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    ask = chat(messages=[image])
    assert (ask.unbounded_input, ask.images) == (IMAGES, 1)
    assert chat(messages=[{"role": "user", "content": [{"type": "video"}]}]).unbounded_input


def test_a_thinking_budget_is_a_floor_below_the_maximum() -> None:
    thinking = {"type": "enabled", "token_budget": 2000}
    assert chat(thinking=thinking).output_tokens_floor == 2001
    assert chat(thinking=thinking, max_tokens=1000).output_tokens_floor == 1000
    assert chat(thinking={"type": "disabled"}).output_tokens_floor == 0


def test_what_decides_money_is_read_strictly() -> None:
    for body in ({"MAX_TOKENS": 5}, {"max_tokens": "5"}, {"max_tokens": 5.5}, {"stream": 1}, {"model": ""}):
        with pytest.raises(Refused) as caught:
            chat(**body)
        assert caught.value.code == "bad_request"
    with pytest.raises(Refused):
        COHERE.read_request("cohere.chat", b'{"model":"c","max_tokens":5,"max_tokens":9,"messages":[]}')
    with pytest.raises(Refused):
        read("cohere.rerank", query="q", documents={"a": 1})
    with pytest.raises(Refused):
        read("cohere.embed", inputs=["text"])


def test_embeddings_of_text_are_bounded_and_images_may_each_fill_the_window() -> None:
    ask = read("cohere.embed", texts=["a", "b"], max_tokens=100).ask
    assert (ask.generates, ask.output_tokens_max, ask.unbounded_input, ask.units) == (False, None, "", ())
    ask = read("cohere.embed", images=["data:image/png;base64,AAAA"] * 3).ask
    assert (ask.unbounded_input, ask.inputs, ask.units) == (IMAGES, 3, (("images", 3),))
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    ask = read("cohere.embed", inputs=[{"content": [{"type": "text", "text": "a"}, part]}]).ask
    assert (ask.unbounded_input, ask.units) == (IMAGES, (("images", 1),))


def test_search_units_are_bounded_by_documents_and_their_chunks() -> None:
    assert search_units(query="q", documents=["short"]) == 1
    assert search_units(query="q", documents=["short"] * 100) == 1
    assert search_units(query="q", documents=["short"] * 101) == 2
    assert search_units(query="q", documents=["x" * 2_000] * 100) == 5  # bytes: a token has one at least
    assert search_units(query="q", documents=["x" * 1_000_000]) == 1  # cut off
    assert search_units(query="q" * 4_000, documents=["x" * 4_000] * 10, max_tokens_per_doc=4_000) == 4


def test_what_is_billed_is_booked_and_not_what_cohere_adds_itself() -> None:
    reading = whole(
        message={"content": [{"type": "text", "text": "Hi"}]},
        usage={
            "billed_units": {"input_tokens": 267, "output_tokens": 66},
            "tokens": {"input_tokens": 34, "output_tokens": 99, "reasoning_tokens": 29, "image_tokens": 259},
            "cached_tokens": 448.0,
        },
    )
    assert reading.usage == Usage(
        input_tokens=267, cache_read_tokens=267, input_image_tokens=259, output_tokens=66, reasoning_tokens=29
    )
    assert reading.finished
    assert COHERE.read_usage("cohere.chat", reading.raw_usage) == reading.usage


def test_embeddings_and_reranking_state_their_units_in_meta() -> None:
    embedded = whole(meta={"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7, "image_tokens": 300}})
    assert embedded.usage == Usage(input_tokens=307, input_image_tokens=300)
    assert whole(meta={"billed_units": {"search_units": 2}}).usage == Usage(search_units=2)
    assert whole(meta={"billed_units": {"images": 3}}).usage == Usage(images=3)
    assert whole(meta={"api_version": {"version": "2"}}).usage is None


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 20])
def test_a_stream_ends_with_its_usage_wherever_it_is_cut(size: int) -> None:
    reading, first_output = stream(START, TEXT, END, DONE, size=size)
    assert reading.usage == Usage(input_tokens=7, output_tokens=5)
    assert (reading.finished, reading.error, first_output) == (True, "", True)
    assert json.loads(reading.raw_usage)["tokens"]["output_tokens"] == 9


def test_a_stream_that_breaks_leaves_its_text() -> None:
    reading, _ = stream(START, PLAN, TEXT, TEXT[:30])
    assert (reading.usage, reading.finished, reading.output_text) == (None, False, "I will Hello ")
    reading, first_output = stream(START)
    assert not first_output
    assert COHERE.stream_texts(PLAN + TEXT + TEXT) == ["I will ", "Hello Hello "]


def test_an_answer_that_fails_on_its_way_is_an_error() -> None:
    reading, _ = stream(START, event("message-end", delta={"finish_reason": "ERROR", "error": "boom"}))
    assert (reading.error, reading.usage) == ("error", None)


@pytest.mark.parametrize(
    "usage", [None, [], "x", {}, {"billed_units": None}, {"billed_units": {"input_tokens": -1}}, {"tokens": []}]
)
def test_usage_that_makes_no_sense_is_none(usage: Any) -> None:
    assert whole(usage=usage).usage is None


def test_errors_are_a_message() -> None:
    body = COHERE.error_body(429, code="limit_spent", type="", message="spent", request_id="c_1")
    assert json.loads(body) == {"id": "c_1", "message": "spent"}


def test_texts_of_a_request_for_an_estimate() -> None:
    text = COHERE.input_text(read(messages=HELLO, documents=["facts"]))
    assert text.messages == (("user", "Hello"),)
    assert "facts" in text.tools
    assert COHERE.input_text(read("cohere.embed", texts=["a", "b"])).messages == (("user", "a"), ("user", "b"))


def test_images_whose_type_is_written_in_escapes_are_refused() -> None:
    body = b'{"model": "m", "inputs": [{"content": [{"type": "im\\u0061ge_url", "image_url": {"url": "data:"}}]}]}'
    with pytest.raises(Refused, match="escapes"):
        COHERE.read_request("cohere.embed", body)
