"""POST /v1/responses, in the dialect of OpenAI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from llmctl.sandbox import brain, models
from llmctl.sandbox.brain import Answer, Prompt, Turn
from llmctl.sandbox.content import Content, as_text, read_texts
from llmctl.sandbox.errors import SandboxError
from llmctl.sandbox.wire import Reply, Stream, frame, new_id, parse

# Each points at something that a provider has stored; the sandbox stores nothing.
STORED_FIELDS: Final = ("previous_response_id", "conversation", "prompt", "background")
STORES_NOTHING: Final = "The sandbox stores nothing, so {} cannot work here."


class ResponseRequest(msgspec.Struct):
    model: str
    input: str | Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=16)] | None = None  # 16 is OpenAI's minimum
    tools: list[msgspec.Raw] | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None


class InputItem(msgspec.Struct):
    type: str = "message"
    role: str = ""
    content: Content = None


_DECODER: Final = msgspec.json.Decoder(ResponseRequest)
_ITEM: Final = msgspec.json.Decoder(InputItem)


def reply(body: bytes) -> Reply:
    request = parse(body, _DECODER)
    model = models.find(request.model, "chat")
    for field in STORED_FIELDS:
        if getattr(request, field):
            raise SandboxError("invalid", STORES_NOTHING.format(field), param=field)
    prompt = _read_prompt(request)
    answer = brain.answer(prompt, model, request.max_output_tokens)
    shell = _shell(request)
    if request.stream:
        return Stream(_frames(shell, prompt, answer))
    return _finished(shell, prompt, answer, new_id("msg_"))


def _read_prompt(request: ResponseRequest) -> Prompt:
    turns = [Turn("system", [request.instructions])] if request.instructions else []
    tools = [as_text(tool) for tool in request.tools or []]
    if isinstance(request.input, str):
        turns.append(Turn("user", [request.input]))
        return brain.read_chat(turns, tools, request.model)
    for raw in request.input:
        item = parse(bytes(raw), _ITEM)
        if item.type == "item_reference":
            raise SandboxError("invalid", STORES_NOTHING.format("item_reference"), param="input")
        if item.type == "message":
            turns.append(Turn(item.role, read_texts(item.content)))
        else:  # a tool's call, its result, reasoning: counted as the JSON that it came as
            tools.append(as_text(raw))
    return brain.read_chat(turns, tools, request.model)


def _shell(request: ResponseRequest) -> dict[str, Any]:
    """The response object before there is an answer in it."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": request.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": request.tools or [],
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _finished(shell: dict[str, Any], prompt: Prompt, answer: Answer, item_id: str) -> dict[str, Any]:
    cut = answer.finish == "length"
    return {
        **shell,
        "status": _status(answer),
        "completed_at": None if cut else int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_item(item_id, _status(answer), [_part(answer.text)])],
        "usage": {
            "input_tokens": prompt.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt.input_tokens + answer.tokens,
        },
    }


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish == "length" else "completed"


def _item(item_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _frames(shell: dict[str, Any], prompt: Prompt, answer: Answer) -> Iterator[bytes]:
    # The terminal event carries the status as its name, and there is no [DONE].
    for number, event in enumerate(_events(shell, prompt, answer)):
        yield frame({**event, "sequence_number": number}, event["type"])


def _events(shell: dict[str, Any], prompt: Prompt, answer: Answer) -> Iterator[dict[str, Any]]:
    item_id = new_id("msg_")
    of_item = {"output_index": 0}
    of_part = {"item_id": item_id, "output_index": 0, "content_index": 0}
    part = _part(answer.text)
    yield {"type": "response.created", "response": shell}
    yield {"type": "response.in_progress", "response": shell}
    yield {"type": "response.output_item.added", **of_item, "item": _item(item_id, "in_progress", [])}
    yield {"type": "response.content_part.added", **of_part, "part": _part("")}
    for piece in answer.pieces:
        yield {"type": "response.output_text.delta", **of_part, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **of_part, "text": answer.text, "logprobs": []}
    yield {"type": "response.content_part.done", **of_part, "part": part}
    yield {"type": "response.output_item.done", **of_item, "item": _item(item_id, _status(answer), [part])}
    yield {
        "type": f"response.{_status(answer)}",
        "response": _finished(shell, prompt, answer, item_id),
    }
