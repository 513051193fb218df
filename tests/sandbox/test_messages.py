"""Messages, through Anthropic's SDK."""

from __future__ import annotations

import json

import pytest
from anthropic import AsyncAnthropic, BadRequestError, NotFoundError
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from llmctl import tokenizer
from llmctl.tokenizer import ChatText

MODEL = "sandbox-large"
TEXT = "Naïve 素朴 😀 question?"
ASK = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": TEXT}]}


async def test_usage_is_what_tiktoken_counts(anthropic: AsyncAnthropic) -> None:
    answer = await anthropic.messages.create(**ASK, system="Be kind.")
    chat = (ChatText("system", "Be kind."), ChatText("user", TEXT))
    assert answer.content[0].text.endswith(f"You said: {TEXT}")
    assert answer.stop_reason == "end_turn"
    assert answer.stop_sequence is None
    assert answer.usage.input_tokens == tokenizer.count_chat(chat, MODEL)
    assert answer.usage.output_tokens == tokenizer.count(answer.content[0].text, MODEL)
    assert answer.usage.cache_read_input_tokens == answer.usage.cache_creation_input_tokens == 0


async def test_the_sdk_helper_puts_a_stream_together(anthropic: AsyncAnthropic) -> None:
    whole = await anthropic.messages.create(**ASK)
    async with anthropic.messages.stream(**ASK) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(pieces) == whole.content[0].text == final.content[0].text
    assert len(pieces) > 10  # token by token
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == "end_turn"


async def test_every_event_is_valid_and_in_anthropics_order(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.with_streaming_response.create(**ASK, stream=True) as response:
        body = (await response.read()).decode()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["request-id"].startswith("req_")
    strict = TypeAdapter(RawMessageStreamEvent)
    names, events = [], []
    for block in body.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        names.append(event["type"])
        events.append(event)
        if event["type"] != "ping":
            strict.validate_python(event)
    deltas = names.count("content_block_delta")
    assert names == [
        *("message_start", "content_block_start", "ping"),
        *["content_block_delta"] * deltas,
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    start, end = events[0]["message"]["usage"], events[-2]["usage"]
    assert start["input_tokens"] == end["input_tokens"]
    assert (start["output_tokens"], end["output_tokens"] > 10) == (1, True)


async def test_the_output_maximum_holds_and_is_counted(anthropic: AsyncAnthropic) -> None:
    answer = await anthropic.messages.create(**{**ASK, "max_tokens": 5})
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 5 == tokenizer.count(answer.content[0].text, MODEL)


async def test_a_stop_sequence_is_named(anthropic: AsyncAnthropic) -> None:
    answer = await anthropic.messages.create(**ASK, stop_sequences=["nowhere", " sandbox"])
    assert answer.content[0].text == "This is the llmctl"
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", " sandbox")


async def test_an_answer_that_is_stopped_at_once_has_no_content(anthropic: AsyncAnthropic) -> None:
    answer = await anthropic.messages.create(**ASK, stop_sequences=["This"])
    assert (answer.content, answer.usage.output_tokens) == ([], 0)
    async with anthropic.messages.stream(**ASK, stop_sequences=["This"]) as stream:
        final = await stream.get_final_message()
    assert (final.content, final.usage.output_tokens) == ([], 0)


async def test_count_tokens_agrees_with_what_is_billed(anthropic: AsyncAnthropic) -> None:
    request = {
        "model": MODEL,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Look it up"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    }
    counted = await anthropic.messages.count_tokens(**request)
    billed = await anthropic.messages.create(**request, max_tokens=100)
    assert counted.input_tokens == billed.usage.input_tokens

    def compact(value: object) -> str:
        return json.dumps(value, separators=(",", ":"))

    chat = [ChatText("system", "Be kind."), ChatText("user", "Look it up")]
    chat += [ChatText(message["role"], compact(message["content"][0])) for message in request["messages"][1:]]
    tool = compact(request["tools"][0])
    assert counted.input_tokens == tokenizer.count_chat(chat, MODEL) + tokenizer.count(tool, MODEL)


async def test_an_unknown_model_is_not_found(anthropic: AsyncAnthropic) -> None:
    with pytest.raises(NotFoundError) as refused:
        await anthropic.messages.create(**{**ASK, "model": "claude-9"})
    assert refused.value.body["type"] == "error"
    assert refused.value.body["error"]["type"] == "not_found_error"
    assert refused.value.body["request_id"] == refused.value.request_id


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"text": "no type"}]}]}, "type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        ({"messages": [{"role": "user", "content": "word " * 210_000}]}, "prompt is too long"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"model": "sandbox-embed"}, "embedding"),
    ],
)
async def test_a_wrong_field_is_refused_and_named(
    anthropic: AsyncAnthropic, body: dict[str, object], hint: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        await anthropic.messages.create(**ASK, extra_body=body)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert hint in refused.value.body["error"]["message"]
