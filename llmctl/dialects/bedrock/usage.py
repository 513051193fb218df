"""What Bedrock says of usage, normalised into our classes. It says it in many ways:

- `usage` of Converse, and of Nova's own answers: inputTokens, outputTokens, cacheReadInputTokens, ...
- `usage` of Anthropic's and of OpenAI's own answers, as those say it elsewhere
- headers of an answer to InvokeModel, whatever the model: x-amzn-bedrock-input-token-count, ...
- counts in the answers of Llama and Titan
- `amazon-bedrock-invocationMetrics` in the last event of a stream: inputTokenCount, ...

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from ...domain.call import Reading
from ...domain.usage import Usage
from ..anthropic import usage as anthropic_usage
from ..openai import usage as openai_usage
from ..wire.lenient import count, is_count, items, plain, plain_value, short_name

_HEADER = "x-amzn-bedrock-"
_HEADERS = tuple(
    f"{_HEADER}{what}-token-count" for what in ("input", "output", "cache-read-input", "cache-write-input")
)
_COUNT = re.compile("[0-9]{1,15}")
_TIER_HEADER = f"{_HEADER}service-tier"
_LATENCY_HEADER = f"{_HEADER}performanceconfig-latency"
# Input, output, read from the cache, written to it: the cached ones are outside the input.
_SPELLINGS: tuple[tuple[str, ...], ...] = (
    ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ("inputTokens", "outputTokens", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
    ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
    _HEADERS,
    ("prompt_token_count", "generation_token_count", "", ""),  # Llama
    ("inputTextTokenCount", "tokenCount", "", ""),  # Titan; the second from each of its results
)
_IN_ANSWERS = ("prompt_token_count", "generation_token_count", "inputTextTokenCount")
OPTIMIZED = "optimized"  # latency that costs more counts as a tier of its own


def read_usage(raw: bytes | Raw) -> Usage | None:
    """The usage object `raw` in our classes; None if it states no usable figure."""
    usage = plain(raw)
    stated = [names for names in _SPELLINGS if any(is_count(usage.get(name)) for name in names)]
    if not stated:
        return anthropic_usage.read_usage(raw) or openai_usage.read_usage(raw)
    input_, output, read, written = (
        max(count(usage.get(name)) for name in column) for column in zip(*stated, strict=True)
    )
    details = usage.get("cacheDetails")
    for_1h = sum(map(_for_an_hour, details)) if isinstance(details, list) else 0
    written = max(written, for_1h)
    return Usage(
        input_tokens=input_ + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=for_1h,
        output_tokens=output,
    )


def counts_in(values: Mapping[str, Raw]) -> bytes:
    """The counts that stand in an answer beside its text, as an object; b"" if there are none."""
    stated = {name: count(plain_value(values[name])) for name in _IN_ANSWERS if name in values}
    if "results" in values and stated:
        stated["tokenCount"] = sum(count(plain(result).get("tokenCount")) for result in items(values["results"]))
    return msgspec.json.encode(stated) if stated else b""


def with_headers(reading: Reading, headers: Mapping[str, str]) -> Reading:
    """`reading` with what an answer's headers say beside its body."""
    tier = tier_of(headers.get(_TIER_HEADER), headers.get(_LATENCY_HEADER))
    if tier and not reading.service_tier:
        reading = replace(reading, service_tier=tier)
    if reading.usage is not None:
        return reading
    stated = {name: int(value) for name in _HEADERS if _COUNT.fullmatch(value := headers.get(name, ""))}
    raw = msgspec.json.encode(stated)
    usage = read_usage(raw)
    return reading if usage is None else replace(reading, usage=usage, raw_usage=raw, output_text="")


def tier_of(tier: object, latency: object) -> str:
    """The service tier, by what request or answer say: `default` is the standard one."""
    if latency == OPTIMIZED:
        return OPTIMIZED
    return short_name(tier)[:64]


def _for_an_hour(detail: Any) -> int:
    return count(detail.get("inputTokens")) if isinstance(detail, dict) and detail.get("ttl") == "1h" else 0
