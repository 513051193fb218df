"""POST /v1/chat/completions, in the dialect of OpenAI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from . import brain, models
from .brain import Answer, Prompt, Turn
from .content import Content, as_text, read_texts
from .errors import SandboxError
from .wire import DONE, Positive, Reply, Stream, frame, new_id, parse

CHOICES_MAX: Final = 128  # OpenAI's maximum of `n`
STREAM_OPTIONS_REFUSED: Final = "stream_options is only allowed when stream is true."
FINISH_REASONS: Final = {"end": "stop", "stop": "stop", "length": "length"}


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    name: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    stop: str | list[str] | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None


_DECODER: Final = msgspec.json.Decoder(ChatRequest)


def reply(body: bytes) -> Reply:
    request = parse(body, _DECODER)
    model = models.find(request.model, "chat")
    prompt = _read_prompt(request)
    answer = brain.answer(prompt, model, _output_tokens_max(request), stops(request.stop))
    choices = request.n or 1
    usage = usage_document(prompt.input_tokens, answer.tokens * choices)
    head = {"id": new_id("chatcmpl-"), "created": int(time.time()), "model": model.name}
    if request.stream:
        with_usage = includes_usage(request.stream_options)
        return Stream(_frames(head, answer, choices, usage if with_usage else None))
    if request.stream_options is not None:
        raise SandboxError("invalid", STREAM_OPTIONS_REFUSED, param="stream_options")
    return {
        **head,
        "object": "chat.completion",
        "choices": [_choice(index, answer) for index in range(choices)],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def stops(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else (value or [])


def includes_usage(options: StreamOptions | None) -> bool:
    return options is not None and bool(options.include_usage)


def usage_document(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _read_prompt(request: ChatRequest) -> Prompt:
    turns = []
    tools = [as_text(tool) for tool in [*(request.tools or []), *(request.functions or [])]]
    for message in request.messages:
        turns.append(Turn(message.role, read_texts(message.content), message.name or ""))
        tools += [as_text(call) for call in message.tool_calls or []]
    return brain.read_chat(turns, tools, request.model)


def _output_tokens_max(request: ChatRequest) -> int | None:
    maxima = [value for value in (request.max_tokens, request.max_completion_tokens) if value is not None]
    return min(maxima, default=None)


def _choice(index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": FINISH_REASONS[answer.finish],
    }


def _frames(head: dict[str, Any], answer: Answer, choices: int, usage: dict[str, Any] | None) -> Iterator[bytes]:
    """The chunks. If usage was asked for, a last one without a choice has it, and all others a null."""
    head = {**head, "object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": None}

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return frame({**head, "choices": [choice], **({} if usage is None else {"usage": None})})

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
    for piece in answer.pieces:
        for index in range(choices):
            yield chunk(index, {"content": piece})
    for index in range(choices):
        yield chunk(index, {}, FINISH_REASONS[answer.finish])
    if usage is not None:
        yield frame({**head, "choices": [], "usage": usage})
    yield DONE
