"""POST /v1/messages and /v1/messages/count_tokens, in the dialect of Anthropic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from . import brain, models
from .brain import Answer, Prompt, Turn
from .content import Content, as_text, read_texts
from .wire import Positive, Reply, Stream, frame, new_id, parse

STOP_REASONS: Final = {"end": "end_turn", "stop": "stop_sequence", "length": "max_tokens"}


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[msgspec.Raw]


class CountRequest(msgspec.Struct):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    system: Content = None
    tools: list[msgspec.Raw] | None = None


class MessagesRequest(CountRequest, kw_only=True):
    max_tokens: Positive
    stream: bool | None = None
    stop_sequences: list[str] | None = None


_COUNT: Final = msgspec.json.Decoder(CountRequest)
_MESSAGES: Final = msgspec.json.Decoder(MessagesRequest)


def reply(body: bytes) -> Reply:
    request = parse(body, _MESSAGES)
    model = models.find(request.model, "chat")
    prompt = _read_prompt(request)
    answer = brain.answer(prompt, model, request.max_tokens, request.stop_sequences or [])
    head = {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": model.name}
    if request.stream:
        return Stream(_frames(head, prompt, answer))
    return {
        **head,
        # As with Anthropic, an answer that a stop sequence left empty has no block.
        "content": [{"type": "text", "text": answer.text}] if answer.text else [],
        "stop_reason": STOP_REASONS[answer.finish],
        "stop_sequence": answer.stop,
        "usage": _usage(prompt, answer.tokens),
    }


def count_reply(body: bytes) -> Reply:
    request = parse(body, _COUNT)
    models.find(request.model, "chat")
    return {"input_tokens": _read_prompt(request).input_tokens}


def _read_prompt(request: CountRequest) -> Prompt:
    turns = [Turn("system", read_texts(request.system))] if request.system else []
    turns += [Turn(message.role, read_texts(message.content)) for message in request.messages]
    return brain.read_chat(turns, [as_text(tool) for tool in request.tools or []], request.model)


def _usage(prompt: Prompt, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _frames(head: dict[str, Any], prompt: Prompt, answer: Answer) -> Iterator[bytes]:
    for event in _events(head, prompt, answer):
        yield frame(event, event["type"])


def _events(head: dict[str, Any], prompt: Prompt, answer: Answer) -> Iterator[dict[str, Any]]:
    # Like Anthropic, the first event counts the first token, and the last one all of them: never add the two.
    usage = _usage(prompt, min(1, answer.tokens))
    message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": message}
    if answer.pieces:
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "ping"}
        for piece in answer.pieces:
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": STOP_REASONS[answer.finish], "stop_sequence": answer.stop},
        "usage": {
            "input_tokens": prompt.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answer.tokens,
        },
    }
    yield {"type": "message_stop"}
