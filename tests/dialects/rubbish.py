"""What requests and answers may be made of, as strategies: known names in any shape, frames of every stream, damage."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from hypothesis import strategies as st

from llmctl.domain.usage import COUNT_MAX
from tests.support.frames import frame

REQUEST_NAMES = """
    messages input inputs prompt contents content documents query texts images image tools tool_choice thinking stream
    stream_options max_tokens max_completion_tokens max_output_tokens n best_of user metadata service_tier store
    background previous_response_id container system systemInstruction generationConfig cachedContent safetySettings
    requests instances parameters options template context inferenceConfig textGenerationConfig toolConfig serviceTier
    additionalModelRequestFields performanceConfig anthropic_version schemaVersion inputText num_generations size
    quality voice MAX_TOKENS Options candidateCount mcp_servers compaction context_management fallbacks audio modalities
    document parts generation_config inlineData
""".split()
ANSWER_NAMES = """
    usage usageMetadata usage_metadata message delta choices candidates content text parts type index model modelVersion
    response output metadata meta tokens billed_units input_tokens output_tokens prompt_tokens completion_tokens
    total_tokens cached_tokens prompt_tokens_details completion_tokens_details input_tokens_details reasoning_tokens
    cache_creation cache_creation_input_tokens cache_read_input_tokens ephemeral_1h_input_tokens iterations
    server_tool_use web_search_requests promptTokenCount candidatesTokenCount thoughtsTokenCount cachedContentTokenCount
    toolUsePromptTokenCount totalTokenCount promptTokensDetails modality tokenCount groundingMetadata inputTokens
    outputTokens cacheReadInputTokens cacheDetails ttl inputTokenCount eval_count prompt_eval_count done error code
    message-end amazon-bedrock-invocationMetrics results search_units cost total_cost cost_in_usd_ticks service_tier
    output_tokens_details status id seconds duration pages_processed usage_info data predictions statistics token_count
    embeddings finish_reason finishReason stop_reason
""".split()
WORDS = """
    text user assistant image_url image document audio video_url tool_use tool_result 1h ephemeral IMAGE AUDIO
    web_search response.completed message_start message_delta content_block_delta error completed in_progress
    file_search_call image_generation_call compaction priority flex standard auto
""".split()
NUMBERS = (
    st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from([0, 1, 5, -1, COUNT_MAX, COUNT_MAX + 1, 10**400, 1e308, 1.0, 0.5])
)


def documents(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of known names, of any shape."""
    known = st.sampled_from(names)
    values = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.sampled_from(WORDS)
    for _ in range(3):  # levels
        values = values | st.lists(values, max_size=3) | st.dictionaries(known, values, max_size=4)
    return st.dictionaries(known, values, max_size=6)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


REQUESTS = documents([*REQUEST_NAMES, "role", "content", "type", "text", "source", "bytes", "num_predict", "maxTokens"])

# Answers as providers give them: usage in each spelling, plain.
USAGES: list[dict[str, Any]] = [
    {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}},
    {"usage": {"input_tokens": 9, "output_tokens": 4, "cache_creation": {"ephemeral_1h_input_tokens": 2}}},
    {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 2}},
    {"meta": {"billed_units": {"input_tokens": 9, "output_tokens": 4, "search_units": 1}}},
    {"done": True, "prompt_eval_count": 9, "eval_count": 4},
    {"usage": {"inputTokens": 9, "outputTokens": 4, "cacheReadInputTokens": 1}},
    {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 4}},
    {"type": "transcript.text.done", "usage": {"type": "duration", "seconds": 7}},
    {"usage_info": {"pages_processed": 3}, "model": "m"},
]  # fmt: skip
ANSWERS: list[dict[str, Any]] = [
    *USAGES,
    *({"type": "message_start", "message": {"id": "1", "model": "m", **usage}} for usage in USAGES),
    *({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **usage} for usage in USAGES),
    *({"type": "response.completed", "response": {"id": "1", "status": "completed", **usage}} for usage in USAGES),
    *({"id": "1", "choices": [], "model": "m", **usage} for usage in USAGES),
    {"id": "1", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}], "usage": None},
    {"candidates": [{"content": {"parts": [{"text": "word"}]}, "finishReason": "STOP"}]},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word"}},
    {"error": {"type": "overloaded_error", "code": 529, "message": "no"}},
]
PIECES = st.sampled_from(
    [b"data: ", b"event: ", b"\n", b"\n\n", b"\r\n\r\n", b"\r", b": comment\n", b"error: ", b"[DONE]", b"[", b"]", b",",
     b"{}", b"}", b'{"usage":', b'"usage"', b'"error"', b'"message"', b"\xff\xfe", b"\x00\x00\x00\x10", b"NaN",
     b'\\ud800"']
)  # fmt: skip
EVENT_NAMES = st.sampled_from(["metadata", "chunk", "messageStop", "contentBlockDelta", "exception", ""])


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """One document in the frame of one of the streams."""
    document = draw(st.sampled_from(ANSWERS) | documents(ANSWER_NAMES))
    body = encoded(document)
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return b"data: %b\n\n" % body
    if kind == 1:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (str(document.get("type", "x")).encode("utf-8", "replace"), body)
    if kind == 2:
        return body + b"\n"
    if kind == 3:
        return b",\n" + body
    if kind == 4:
        return frame(body, event_type=draw(EVENT_NAMES), message_type=draw(st.sampled_from(["event", "exception"])))
    if kind == 5:
        return frame(encoded({"bytes": base64.b64encode(body).decode(), "p": "a"}), event_type="chunk")
    return body


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An answer: frames with rubbish between them, then damaged here and there."""
    body = bytearray(b"".join(draw(st.lists(framed() | PIECES | st.binary(max_size=12), max_size=8))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 6))] = draw(PIECES | st.binary(max_size=4))
    return bytes(body)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """The pieces that a body arrives in; what the sizes leave over is the last."""
    at = [0, *itertools.accumulate(sizes), len(body)]
    return [piece for begin, end in itertools.pairwise(at) if (piece := body[begin:end])]


SIZES = st.lists(st.integers(1, 90), max_size=40)
FORM_FIELDS = [
    f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
    for name in "model prompt language response_format stream n size quality temperature include[] MODEL".split()
]
FORM_PARTS = st.lists(
    st.sampled_from(
        [b"\r\n", b"--b\r\n", b"--b--\r\n", b"\r\n\r\n", b"m", b"9" * 30, b"true", *FORM_FIELDS]
        + [b"--b\r\n%bm\r\n" % field for field in FORM_FIELDS]
        + [b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n']
    )
    | st.binary(max_size=8),
    max_size=8,
)
