"""POST /v1/embeddings, in the dialect of OpenAI."""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Any, Final, Literal

import msgspec

from llmctl import tokenizer

from . import models
from .content import TextsOrTokens, read_prompts
from .errors import SandboxError
from .models import SandboxModel
from .wire import Reply, parse

DIMENSIONS_DEFAULT: Final = 256
DIMENSIONS_MAX: Final = 3_072  # as many as OpenAI's largest model has

# Of one answer: up to 20 MB of JSON, a tenth of a second of work.
NUMBERS_MAX: Final = 1 << 20


class EmbeddingRequest(msgspec.Struct):
    model: str
    input: TextsOrTokens
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=DIMENSIONS_MAX)] | None = None


_DECODER: Final = msgspec.json.Decoder(EmbeddingRequest)


def reply(body: bytes) -> Reply:
    request = parse(body, _DECODER)
    model = models.find(request.model, "embedding")
    prompts = read_prompts(request.input, model.name)
    for _, tokens in prompts:
        if tokens > model.context_window_tokens:
            message = f"{model.name} takes {model.context_window_tokens} tokens per input; one here has {tokens}."
            raise SandboxError("context_overflow", message, param="input")
    dimensions = request.dimensions or DIMENSIONS_DEFAULT
    if len(prompts) * dimensions > NUMBERS_MAX:
        message = f"{len(prompts)} inputs of {dimensions} dimensions; the sandbox gives {NUMBERS_MAX} numbers."
        raise SandboxError("invalid", message, param="input")
    vectors = [embed(text, dimensions, model) for text, _ in prompts]
    total = sum(tokens for _, tokens in prompts)
    return {
        "object": "list",
        "data": [_entry(index, vector, request.encoding_format) for index, vector in enumerate(vectors)],
        "model": model.name,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def embed(text: str, dimensions: int, model: SandboxModel) -> list[float]:
    """A vector of length 1. Each token raises one dimension, so texts that share words point the same way."""
    counts = [0] * dimensions
    for token in tokenizer.encode(text, model.name):
        counts[token % dimensions] += 1
    length = math.sqrt(sum(count * count for count in counts))
    return [count / length for count in counts]


def _entry(index: int, vector: list[float], encoding_format: str | None) -> dict[str, Any]:
    if encoding_format != "base64":
        return {"object": "embedding", "index": index, "embedding": vector}
    packed = struct.pack(f"<{len(vector)}f", *vector)
    return {"object": "embedding", "index": index, "embedding": base64.b64encode(packed).decode()}
