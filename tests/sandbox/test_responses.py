"""Responses, through OpenAI's SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from llmctl import tokenizer
from llmctl.sandbox import Sandbox
from llmctl.tokenizer import ChatText
from tests.sandbox.conftest import CREDENTIAL

MODEL = "sandbox-large"
ASK = "Naïve 素朴 😀 question?"


async def test_usage_is_what_tiktoken_counts(openai: AsyncOpenAI) -> None:
    answer = await openai.responses.create(model=MODEL, input=ASK, instructions="Be kind.")
    chat = (ChatText("system", "Be kind."), ChatText("user", ASK))
    assert answer.status == "completed"
    assert answer.output_text.endswith(f"You said: {ASK}")
    assert answer.usage.input_tokens == tokenizer.count_chat(chat, MODEL)
    assert answer.usage.output_tokens == tokenizer.count(answer.output_text, MODEL)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.input_tokens_details.cached_tokens == 0
    assert answer.usage.output_tokens_details.reasoning_tokens == 0


async def test_the_sdk_helper_puts_a_stream_together(openai: AsyncOpenAI) -> None:
    whole = await openai.responses.create(model=MODEL, input=ASK)
    async with openai.responses.stream(model=MODEL, input=ASK) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage
    assert final.status == "completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert len(deltas) > 10  # token by token


async def test_every_event_is_valid_numbered_and_in_openais_order(openai: AsyncOpenAI) -> None:
    stream = await openai.responses.create(model=MODEL, input=ASK, stream=True)
    events = [event async for event in stream]
    strict = TypeAdapter(ResponseStreamEvent)
    for event in events:
        strict.validate_json(event.to_json())  # the SDK itself does not validate what it reads
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type.removeprefix("response.") for event in events]
    deltas = names.count("output_text.delta")
    assert names == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * deltas,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert events[0].response.usage is None
    assert events[0].response.status == "in_progress"
    of_item = [event for event in events if hasattr(event, "item_id")]
    assert {(event.output_index, event.content_index) for event in of_item} == {(0, 0)}
    assert {event.item_id for event in of_item} == {events[-1].response.output[0].id}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_cut_at_the_maximum_is_incomplete(openai: AsyncOpenAI, stream: bool) -> None:
    if stream:
        events = [
            event
            async for event in await openai.responses.create(
                model=MODEL, input="300 words", max_output_tokens=16, stream=True
            )
        ]
        assert events[-1].type == "response.incomplete"
        answer = events[-1].response
    else:
        answer = await openai.responses.create(model=MODEL, input="300 words", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"
    assert answer.usage.output_tokens == 16 == tokenizer.count(answer.output_text, MODEL)


async def test_messages_tools_and_tool_results_are_counted(openai: AsyncOpenAI) -> None:
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    answer = await openai.responses.create(
        model=MODEL,
        input=[
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look it up"}]},
            call,
            result,
        ],
        tools=[tool],
    )
    expected = tokenizer.count_chat((ChatText("developer", "Be brief."), ChatText("user", "Look it up")), MODEL)
    for item in (tool, call, result):
        expected += tokenizer.count(json.dumps(item, separators=(",", ":")), MODEL)
    assert answer.usage.input_tokens == expected
    assert answer.tools[0].name == "look"


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found"),
        ({"background": True, "store": False}, "Background mode requires store"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input_image",
        ),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"tools": {}}, "tools"),
    ],
)
async def test_what_the_sandbox_cannot_do_is_refused(openai: AsyncOpenAI, body: dict[str, object], hint: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await openai.responses.create(model=MODEL, input="x", extra_body=body)
    assert hint in refused.value.message


async def test_a_stored_response_is_read_continued_listed_and_deleted(openai: AsyncOpenAI) -> None:
    first = await openai.responses.create(model=MODEL, input=ASK)
    assert (await openai.responses.retrieve(first.id)).output_text == first.output_text
    second = await openai.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    chat = (ChatText("user", ASK), ChatText("assistant", first.output_text), ChatText("user", "And?"))
    assert second.usage.input_tokens == tokenizer.count_chat(chat, MODEL)
    items = await openai.responses.input_items.list(first.id)
    assert [item.content[0].text for item in items.data] == [ASK]
    many = await openai.responses.create(model=MODEL, input=[{"role": "user", "content": str(n)} for n in range(5)])
    pages = [item.content async for item in openai.responses.input_items.list(many.id, limit=2, order="asc")]
    assert pages == ["0", "1", "2", "3", "4"]
    await openai.responses.delete(first.id)
    with pytest.raises(NotFoundError, match=f"Response with id '{first.id}' not found"):
        await openai.responses.retrieve(first.id)
    unstored = await openai.responses.create(model=MODEL, input=ASK, store=False)
    with pytest.raises(NotFoundError):
        await openai.responses.retrieve(unstored.id)


async def test_counting_and_compacting(openai: AsyncOpenAI) -> None:
    whole = await openai.responses.create(model=MODEL, input=ASK)
    counted = await openai.responses.input_tokens.count(model=MODEL, input=ASK)
    assert counted.input_tokens == whole.usage.input_tokens
    compacted = await openai.responses.compact(model=MODEL, input=ASK)
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    assert compacted.usage.input_tokens == whole.usage.input_tokens


async def test_a_background_response_takes_its_time_and_can_be_streamed_again_and_cancelled(tmp_path: Path) -> None:
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox", delay_s=0.02)
    url = await sandbox.start()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=CREDENTIAL, max_retries=0) as openai:
        begun = await openai.responses.create(model=MODEL, input=ASK, background=True)
        assert (begun.status, begun.usage) == ("queued", None)
        assert (await openai.responses.retrieve(begun.id)).status == "in_progress"
        events = [event async for event in await openai.responses.retrieve(begun.id, stream=True, starting_after=3)]
        assert [event.sequence_number for event in events] == list(range(4, 4 + len(events)))
        assert events[-1].type == "response.completed"
        assert (await openai.responses.retrieve(begun.id)).usage == events[-1].response.usage
        assert (await openai.responses.cancel(begun.id)).status == "completed"

        long = await openai.responses.create(model=MODEL, input="300 words", background=True, stream=True)
        seen = [await anext(aiter(long))]
        cancelled = await openai.responses.cancel(seen[0].response.id)
        assert (cancelled.status, cancelled.usage) == ("cancelled", None)
        seen += [event async for event in long]
        assert len(seen) < 20
        with pytest.raises(BadRequestError, match="Cannot cancel a synchronous response"):
            await openai.responses.cancel((await openai.responses.create(model=MODEL, input=ASK)).id)
    await sandbox.stop()
