"""Whatever clients and providers send in Cohere's, Ollama's and Bedrock's dialects: refused or read, never a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.base import Dialect
from llmctl.dialects.bedrock import BEDROCK
from llmctl.dialects.bedrock_usage import with_headers
from llmctl.dialects.cohere import COHERE
from llmctl.dialects.ollama import OLLAMA
from llmctl.domain.errors import Refused
from llmctl.domain.usage import COUNT_MAX, Usage
from tests.support.frames import chunk, event, frame

ENDPOINTS = [
    *((COHERE, name) for name in ("cohere.chat", "cohere.embed", "cohere.rerank")),
    *((OLLAMA, name) for name in ("ollama.chat", "ollama.generate", "ollama.embed", "ollama.show")),
    *(
        (BEDROCK, name)
        for name in ("bedrock.converse", "bedrock.invoke", "bedrock.invoke-stream", "bedrock.count-tokens")
    ),
]
MODELS = ["us.anthropic.claude-x", "amazon.nova-x", "meta.llama3", "cohere.rerank-x", "amazon.titan-embed-x", "m"]
NAMES = st.sampled_from(
    "messages max_tokens documents query texts images inputs tools thinking stream prompt options template context "
    "inferenceConfig textGenerationConfig additionalModelRequestFields toolConfig system serviceTier inputText n "
    "performanceConfig anthropic_version schemaVersion input num_generations MAX_TOKENS Options".split()
)
WORDS = st.sampled_from(
    "role content type text image_url image document source bytes num_predict maxTokens max_tokens token_budget "
    "budget_tokens usage billed_units input_tokens inputTokens tokens delta message-end done eval_count error meta "
    "amazon-bedrock-invocationMetrics inputTokenCount cacheDetails ttl 1h message results tokenCount".split()
)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.sampled_from([0, 1, 5, COUNT_MAX])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(ENDPOINTS), st.sampled_from(MODELS), st.dictionaries(NAMES, VALUES, max_size=5))
@settings(max_examples=150, deadline=None)
def test_requests(endpoint: tuple[Dialect, str], model: str, body: dict[str, Any]) -> None:
    dialect, name = endpoint
    encoded = json.dumps({"model": "m", **body}).encode("utf-8", "surrogatepass")
    try:
        request = dialect.read_request(name, encoded, model)
        sent = request.upstream_body(model="x", output_tokens_max=3, output_field="options.num_predict")
    except Refused as error:
        assert error.code in ("bad_request", "not_supported")
        return
    json.loads(sent)
    dialect.input_text(request)
    ask = request.ask
    assert ask.output_tokens_max is None or 0 <= ask.output_tokens_max <= COUNT_MAX
    assert all(count >= 0 for _, count in ask.units)


@pytest.mark.parametrize("dialect", [COHERE, OLLAMA, BEDROCK], ids=lambda dialect: dialect.name)
@given(st.dictionaries(WORDS, VALUES, max_size=5), st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_answers(dialect: Dialect, answer: dict[str, Any], rubbish: bytes) -> None:
    text = json.dumps(answer).encode("utf-8", "surrogatepass")
    request = dialect.read_request(next(name for one, name in ENDPOINTS if one is dialect), b'{"model":"m"}', "m")
    streams = {
        "cohere": [b"data: " + text + b"\n\n", rubbish],
        "ollama": [text + b"\n", rubbish + b"\n", text],
        "bedrock": [event("metadata", **answer), chunk(**answer), frame(rubbish), rubbish],
    }
    reader = dialect.reader("", request)
    for piece in streams[dialect.name]:
        assert reader.feed(piece) is piece
    readings = [reader.close()[1], dialect.read_answer("", text), dialect.read_answer("", rubbish + text)]
    if dialect is BEDROCK:
        readings.append(with_headers(readings[1], {"x-amzn-bedrock-input-token-count": rubbish.decode("latin-1")}))
    for reading in readings:
        if reading.usage is not None:
            assert_sound(reading.usage)
            assert dialect.read_usage("", reading.raw_usage) == reading.usage


def assert_sound(usage: Usage) -> None:
    assert min(usage) >= 0
    assert usage.input_tokens >= usage.cache_read_tokens + usage.cache_write_tokens
    assert usage.cache_write_tokens >= usage.cache_write_1h_tokens
    assert usage.input_tokens >= usage.input_image_tokens
    assert usage.output_tokens >= usage.reasoning_tokens
    assert max(usage) <= 5 * COUNT_MAX
