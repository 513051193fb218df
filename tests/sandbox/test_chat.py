"""Chat completions, through OpenAI's SDK."""

from __future__ import annotations

import json

import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletionChunk

from llmctl import tokenizer
from llmctl.tokenizer import ChatText

MODEL = "sandbox-small"
ASK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Naïve 素朴 😀 question?"}]
ASK_TOKENS = (ChatText("system", "Be kind."), ChatText("user", "Naïve 素朴 😀 question?"))


async def test_usage_is_what_tiktoken_counts(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(model=MODEL, messages=ASK)
    text = answer.choices[0].message.content
    assert answer.usage.prompt_tokens == tokenizer.count_chat(ASK_TOKENS, MODEL)
    assert answer.usage.completion_tokens == tokenizer.count(text, MODEL)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert text == "This is the llmctl sandbox, no provider was called. You said: Naïve 素朴 😀 question?"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL


async def test_a_stream_says_the_same_and_counts_the_same(openai: AsyncOpenAI) -> None:
    whole = await openai.chat.completions.create(model=MODEL, messages=ASK)
    stream = await openai.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices for chunk in chunks].count([]) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 10  # token by token


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}], ids=["none", "empty", "false"])
async def test_a_stream_tells_its_usage_only_if_asked(openai: AsyncOpenAI, options: dict[str, bool] | None) -> None:
    stream = await openai.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, extra_body={"stream_options": options}
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)


async def test_the_sdk_puts_a_stream_together(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(
        model=MODEL, messages=ASK, stream_options={"include_usage": True}
    ) as stream:
        final = await stream.get_final_completion()
    whole = await openai.chat.completions.create(model=MODEL, messages=ASK)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.usage == whole.usage


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("maximum", [1, 2, 7, 12, 20])
async def test_the_output_maximum_holds_and_is_counted(openai: AsyncOpenAI, field: str, maximum: int) -> None:
    # Some of these cut inside a character of several tokens.
    ask = [{"role": "user", "content": "𓀀𓀁𓀂 😀😀"}]
    answer = await openai.chat.completions.create(model=MODEL, messages=ask, **{field: maximum})
    text = answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert maximum - 3 <= answer.usage.completion_tokens <= maximum
    assert answer.usage.completion_tokens == tokenizer.count(text, MODEL)
    assert "\ufffd" not in text


async def test_a_wish_for_words_is_granted_up_to_the_output_maximum(openai: AsyncOpenAI) -> None:
    ask = [{"role": "user", "content": "Tell me a story of 300 words."}]
    answer = await openai.chat.completions.create(model=MODEL, messages=ask)
    assert len(answer.choices[0].message.content.split()) == 300
    answer = await openai.chat.completions.create(model=MODEL, messages=ask, max_tokens=100)
    assert answer.usage.completion_tokens == 100


@pytest.mark.parametrize("stop", ["sandbox", ["nowhere", "provider", "sandbox"]], ids=["text", "list"])
async def test_a_stop_sequence_ends_the_answer_before_itself(openai: AsyncOpenAI, stop: str | list[str]) -> None:
    answer = await openai.chat.completions.create(model=MODEL, messages=ASK, stop=stop)
    assert answer.choices[0].message.content == "This is the llmctl "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == tokenizer.count("This is the llmctl ", MODEL)


async def test_an_answer_that_is_stopped_at_once_is_empty_and_costs_nothing(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(model=MODEL, messages=ASK, stop="This")
    assert (answer.choices[0].message.content, answer.usage.completion_tokens) == ("", 0)


async def test_each_of_n_choices_is_counted(openai: AsyncOpenAI) -> None:
    one = await openai.chat.completions.create(model=MODEL, messages=ASK)
    three = await openai.chat.completions.create(model=MODEL, messages=ASK, n=3)
    stream = await openai.chat.completions.create(
        model=MODEL, messages=ASK, n=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert chunks[-1].usage == three.usage
    for index in range(3):
        assert text_of(chunks, index) == one.choices[0].message.content


async def test_tools_names_and_earlier_tool_calls_are_counted(openai: AsyncOpenAI) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answer = await openai.chat.completions.create(
        model=MODEL,
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look "}, {"type": "text", "text": "up"}],
                "name": "ann",
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        ],
        tools=[tool],
    )
    chat = (ChatText("user", "Look up", "ann"), ChatText("assistant", ""), ChatText("tool", "42"))
    expected = tokenizer.count_chat(chat, MODEL)
    expected += sum(tokenizer.count(json.dumps(item, separators=(",", ":")), MODEL) for item in (tool, call))
    assert answer.usage.prompt_tokens == expected
    assert answer.choices[0].message.content.endswith("You said: up")


async def test_unknown_fields_are_ignored(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, seed=1, extra_body={"brand_new": {"a": [1]}}
    )
    assert answer.choices[0].finish_reason == "stop"


async def test_more_than_the_context_window_is_refused_as_openai_does(openai: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        await openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 130_000}])
    assert refused.value.code == "context_length_exceeded"
    assert "128000" in refused.value.message


async def test_the_output_is_cut_to_what_the_context_window_leaves(openai: AsyncOpenAI) -> None:
    ask = [{"role": "user", "content": "word " * 127_980}]
    answer = await openai.chat.completions.create(model=MODEL, messages=ask)
    assert answer.usage.total_tokens == 128_000
    assert answer.choices[0].finish_reason == "length"


async def test_an_unknown_model_is_named_together_with_those_that_exist(openai: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as refused:
        await openai.chat.completions.create(model="gpt-9", messages=ASK)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    assert "gpt-9" in refused.value.message
    assert "sandbox-small" in refused.value.message


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"messages": "no list"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"messages": [{"content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": 7}]}, "content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "image_url",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 0}, "`$.n`"),
        ({"n": 1_000_000}, "`$.n`"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": 5}, "model"),
        ({"model": "sandbox-embed"}, "embedding"),
    ],
)
async def test_a_wrong_field_is_refused_and_named(openai: AsyncOpenAI, body: dict[str, object], hint: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await openai.chat.completions.create(model=MODEL, messages=ASK, extra_body=body)
    assert refused.value.type == "invalid_request_error"
    assert hint in refused.value.message


async def test_the_raw_chunks_are_framed_as_openai_frames_them(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.with_streaming_response.create(
        model=MODEL, messages=ASK, stream=True
    ) as response:
        body = await response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-request-id"].startswith("req_")
    *events, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    for event in events:
        assert msgspec.json.decode(event.removeprefix("data: "))["object"] == "chat.completion.chunk"


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = (choice for chunk in chunks for choice in chunk.choices)
    return "".join(choice.delta.content or "" for choice in choices if choice.index == index)
