"""POST /v1/models/NAME:METHOD, in the dialect of Google."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from llmctl import tokenizer

from . import brain, embeddings, models
from .brain import Answer, Prompt, Turn
from .content import as_text
from .errors import SandboxError
from .wire import Positive, Reply, Stream, frame, new_id, parse

FINISH_REASONS: Final = {"end": "STOP", "stop": "STOP", "length": "MAX_TOKENS"}
JSON_LIST: Final = "application/json; charset=UTF-8"


class Part(msgspec.Struct):
    text: str | None = None


class Content(msgspec.Struct):
    parts: list[msgspec.Raw] = []
    role: str = "user"


class Config(msgspec.Struct):
    """Google takes both of protobuf's spellings."""

    maxOutputTokens: Positive | None = None
    max_output_tokens: Positive | None = None
    stopSequences: list[str] | None = None
    stop_sequences: list[str] | None = None


class Request(msgspec.Struct):
    contents: Annotated[list[Content], msgspec.Meta(min_length=1)]
    systemInstruction: Content | None = None
    system_instruction: Content | None = None
    generationConfig: Config | None = None
    generation_config: Config | None = None
    tools: list[msgspec.Raw] | None = None


class Embedded(msgspec.Struct):
    content: Content
    outputDimensionality: Annotated[int, msgspec.Meta(ge=1, le=embeddings.DIMENSIONS_MAX)] | None = None


class Batch(msgspec.Struct):
    requests: Annotated[list[Embedded], msgspec.Meta(min_length=1, max_length=100)]  # as many as Google takes


_PART: Final = msgspec.json.Decoder(Part)
_REQUEST: Final = msgspec.json.Decoder(Request)
_EMBEDDED: Final = msgspec.json.Decoder(Embedded)
_BATCH: Final = msgspec.json.Decoder(Batch)


def reply(name: str, method: str, body: bytes, *, as_events: bool) -> Reply:
    """`as_events`: a stream of events, where a list is the usual form."""
    answer = METHODS.get(method)
    if answer is None:
        raise SandboxError("unknown_path", f"The sandbox has no method {method[:100]!r}.")
    found = answer(name, body)
    if isinstance(found, list):
        return Stream(_events(found)) if as_events else Stream(_list(found), JSON_LIST)
    return found


def generate(name: str, body: bytes) -> dict[str, Any]:
    model, prompt, answer = _answer(name, body)
    return _chunk(model, new_id(""), prompt, answer.text, answer.tokens, FINISH_REASONS[answer.finish])


def stream(name: str, body: bytes) -> list[dict[str, Any]]:
    """The same in pieces, each with the usage up to there."""
    model, prompt, answer = _answer(name, body)
    identity, pieces = new_id(""), answer.pieces or ("",)
    made = [min(count, answer.tokens) for count in range(1, len(pieces))] + [answer.tokens]
    return [
        _chunk(model, identity, prompt, piece, tokens, FINISH_REASONS[answer.finish] if last else "")
        for piece, tokens, last in zip(pieces, made, [False] * (len(pieces) - 1) + [True], strict=True)
    ]


def count(name: str, body: bytes) -> dict[str, Any]:
    model = models.find(name, "chat")
    return {"totalTokens": _read_prompt(parse(body, _REQUEST), model.name).input_tokens}


def embed(name: str, body: bytes) -> dict[str, Any]:
    vectors, tokens = _embed(name, [parse(body, _EMBEDDED)])
    return {"embedding": {"values": vectors[0]}, "usageMetadata": {"promptTokenCount": tokens}}


def embed_batch(name: str, body: bytes) -> dict[str, Any]:
    vectors, tokens = _embed(name, parse(body, _BATCH).requests)
    return {"embeddings": [{"values": vector} for vector in vectors], "usageMetadata": {"promptTokenCount": tokens}}


METHODS: Final[Mapping[str, Callable[[str, bytes], dict[str, Any] | list[dict[str, Any]]]]] = {
    "generateContent": generate,
    "streamGenerateContent": stream,
    "countTokens": count,
    "embedContent": embed,
    "batchEmbedContents": embed_batch,
}


def _answer(name: str, body: bytes) -> tuple[str, Prompt, Answer]:
    model, request = models.find(name, "chat"), parse(body, _REQUEST)
    config = request.generationConfig or request.generation_config or Config()
    prompt = _read_prompt(request, model.name)
    output_tokens_max = config.maxOutputTokens or config.max_output_tokens
    stops = config.stopSequences or config.stop_sequences or []
    return model.name, prompt, brain.answer(prompt, model, output_tokens_max, stops)


def _read_prompt(request: Request, model: str) -> Prompt:
    system = request.systemInstruction or request.system_instruction
    turns = [Turn("system", _texts(system))] if system else []
    turns += [Turn(content.role, _texts(content)) for content in request.contents]
    return brain.read_chat(turns, [as_text(tool) for tool in request.tools or []], model)


def _texts(content: Content) -> list[str]:
    """The texts of its parts. What is neither text nor media (a function's call, its result) is its JSON."""
    return [_text(raw) for raw in content.parts]


def _text(raw: msgspec.Raw) -> str:
    text = parse(bytes(raw), _PART).text
    if text is not None:
        return text
    written = as_text(raw)
    for media in ("inlineData", "inline_data", "fileData", "file_data"):
        if f'"{media}"' in written:
            raise SandboxError("invalid", f"The sandbox reads text only, no {media}.")
    return written


def _chunk(model: str, identity: str, prompt: Prompt, text: str, tokens: int, finish: str) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": prompt.input_tokens,
        "candidatesTokenCount": tokens,
        "totalTokenCount": prompt.input_tokens + tokens,
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": identity}


def _embed(name: str, requests: list[Embedded]) -> tuple[list[list[float]], int]:
    model = models.find(name, "embedding")
    texts = ["".join(_texts(one.content)) for one in requests]
    sizes = [one.outputDimensionality or embeddings.DIMENSIONS_DEFAULT for one in requests]
    vectors = [embeddings.embed(text, size, model) for text, size in zip(texts, sizes, strict=True)]
    return vectors, sum(tokenizer.count(text, model.name) for text in texts)


def _events(chunks: list[dict[str, Any]]) -> Iterator[bytes]:
    for chunk in chunks:
        yield frame(chunk)


def _list(chunks: list[dict[str, Any]]) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks):
        yield (b",\r\n" if number else b"[") + msgspec.json.encode(chunk)
    yield b"]"
