"""POST /v1/completions, OpenAI's older form: one text for each prompt."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from . import brain, chat, models
from .brain import Answer, Prompt
from .content import TextsOrTokens, read_prompts
from .errors import SandboxError
from .wire import DONE, Positive, Reply, Stream, frame, new_id, parse

OUTPUT_TOKENS_DEFAULT: Final = 16  # as OpenAI documents


class CompletionRequest(msgspec.Struct):
    model: str
    prompt: TextsOrTokens
    stream: bool | None = None
    stream_options: chat.StreamOptions | None = None
    max_tokens: Positive | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=chat.CHOICES_MAX)] | None = None
    stop: str | list[str] | None = None


_DECODER: Final = msgspec.json.Decoder(CompletionRequest)


def reply(body: bytes) -> Reply:
    request = parse(body, _DECODER)
    model = models.find(request.model, "chat")
    prompts = [Prompt(text, tokens) for text, tokens in read_prompts(request.prompt, model.name)]
    choices = len(prompts) * (request.n or 1)
    if choices > chat.CHOICES_MAX:
        message = f"prompts times n is {choices}; the sandbox gives at most {chat.CHOICES_MAX} answers."
        raise SandboxError("invalid", message, param="n")
    maximum = request.max_tokens or OUTPUT_TOKENS_DEFAULT
    answers = []
    for prompt in prompts:
        answers += [brain.answer(prompt, model, maximum, chat.stops(request.stop))] * (request.n or 1)
    usage = chat.usage_document(
        sum(prompt.input_tokens for prompt in prompts), sum(answer.tokens for answer in answers)
    )
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": model.name,
        "system_fingerprint": None,
    }
    if request.stream:
        return Stream(_frames(head, answers, usage if chat.includes_usage(request.stream_options) else None))
    if request.stream_options is not None:
        raise SandboxError("invalid", chat.STREAM_OPTIONS_REFUSED, param="stream_options")
    return {
        **head,
        "choices": [
            _choice(index, answer.text, chat.FINISH_REASONS[answer.finish]) for index, answer in enumerate(answers)
        ],
        "usage": usage,
    }


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _frames(head: dict[str, Any], answers: list[Answer], usage: dict[str, Any] | None) -> Iterator[bytes]:
    head = head if usage is None else {**head, "usage": None}
    for pieces in itertools.zip_longest(*(answer.pieces for answer in answers)):
        for index, piece in enumerate(pieces):
            if piece is not None:
                yield frame({**head, "choices": [_choice(index, piece, None)]})
    for index, answer in enumerate(answers):
        yield frame({**head, "choices": [_choice(index, "", chat.FINISH_REASONS[answer.finish])]})
    if usage is not None:
        yield frame({**head, "choices": [], "usage": usage})
    yield DONE
