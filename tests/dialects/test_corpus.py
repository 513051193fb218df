"""Recorded traffic of real providers, where there is a recording: LLMCTL_CORPUS names a file of exchanges (gzipped JSON
lines). Each is read as it was recorded; what is expected is derived from the recording's own note of the usage, by
means of their own."""

import base64
import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from llmctl.config.presets import PRESETS
from llmctl.dialects.base import Dialect
from llmctl.dialects.bedrock import usage as bedrock_usage
from llmctl.dialects.table import DIALECTS
from llmctl.domain.call import Reading
from llmctl.domain.errors import Refused

CORPUS = os.environ.get("LLMCTL_CORPUS", "")
pytestmark = pytest.mark.skipif(not CORPUS, reason="LLMCTL_CORPUS names no recording")

ENDPOINTS = {
    "chat.completions": ("openai", "chat.completions"),
    "completions": ("openai", "completions"),
    "responses": ("openai", "responses"),
    "responses.input_tokens": ("openai", "responses.input_tokens"),
    "embeddings": ("openai", "embeddings"),
    "anthropic.messages": ("anthropic", "messages"),
    "anthropic.count_tokens": ("anthropic", "messages.count_tokens"),
    "cohere.chat": ("cohere", "cohere.chat"),
    "cohere.embed": ("cohere", "cohere.embed"),
    "rerank": ("cohere", "cohere.rerank"),
    "audio.speech": ("openai", "audio.speech"),
    "audio.transcriptions": ("openai", "audio.transcriptions"),
    "audio.translations": ("openai", "audio.translations"),
    "images": ("openai", "images.generations"),
    "mistral.ocr": ("openai", "ocr"),
    "moderations": ("openai", "moderations"),
    "gemini.generateContent": ("gemini", "generateContent"),
    "gemini.streamGenerateContent": ("gemini", "streamGenerateContent"),
    "gemini.embed": ("gemini", "batchEmbedContents"),
    "gemini.countTokens": ("gemini", "countTokens"),
    "gemini.predict": ("gemini", "predict"),
    "bedrock.converse": ("bedrock", "bedrock.converse"),
    "bedrock.converse-stream": ("bedrock", "bedrock.converse-stream"),
    "bedrock.invoke": ("bedrock", "bedrock.invoke"),
    "bedrock.invoke-stream": ("bedrock", "bedrock.invoke-stream"),
}
MEDIA = ("audio.speech", "audio.transcriptions", "images", "mistral.ocr", "rerank")
NUMBERS = {"IMAGE": 2, "AUDIO": 4}  # of modalities
OVERHEAD_TOKENS = 2048  # hidden prompts, as presets allow for them
PATH_MODEL = re.compile(r"/models/([^/:]+):|/model/(.+)/")
EVENT = re.compile(rb"(?s).+?(?:(?>\r\n|\n|\r)(?>\r\n|\n|\r)|$)")


@pytest.fixture(scope="module")
def exchanges() -> list[dict[str, Any]]:
    with gzip.open(Path(CORPUS)) as lines:
        return [one for one in map(json.loads, lines) if is_spoken(one) and one["status"] == 200]


def is_spoken(exchange: dict[str, Any]) -> bool:
    if exchange["endpoint"].startswith("cohere."):
        return exchange["path"].startswith("/v2/") and exchange["provider"] == "cohere"
    if exchange["endpoint"] == "gemini.predict":
        return str(exchange["path"]).endswith(":predict")  # not :predictLongRunning, which makes videos
    return exchange["endpoint"] in ENDPOINTS


def dialect_of(exchange: dict[str, Any]) -> tuple[Dialect, str]:
    dialect, endpoint = ENDPOINTS[exchange["endpoint"]]
    if endpoint == "images.generations":
        endpoint = f"images.{exchange['path'].rpartition('/')[2]}"
    if exchange["endpoint"] == "rerank" and exchange["provider"] != "cohere":
        dialect, endpoint = "openai", "rerank"
    return DIALECTS[dialect], endpoint


def chunked(body: bytes, seed: str) -> Iterator[bytes]:
    chance, position = random.Random(seed), 0
    while position < len(body):
        size = chance.choice([1, 2, 5, 17, 100, 1400, 5000])
        yield body[position : position + size]
        position += size


def readings(exchange: dict[str, Any]) -> Iterator[Reading]:
    dialect, endpoint = dialect_of(exchange)
    body = body_of(exchange, "response")
    if not exchange["stream"]:
        yield with_headers(exchange, dialect.read_answer(endpoint, body))
        return
    placeholder = dialect.read_request(endpoint, b'{"model":"m"}', "m")
    for chunks in ([body], [body[i : i + 1] for i in range(len(body))], list(chunked(body, exchange["id"]))):
        reader = dialect.reader(endpoint, placeholder)
        assert all(reader.feed(chunk) is chunk for chunk in chunks)
        rest, reading = reader.close(), reader.reading()
        assert rest == b""
        yield with_headers(exchange, reading)


def with_headers(exchange: dict[str, Any], reading: Reading) -> Reading:
    if exchange["provider"] != "bedrock" or exchange["endpoint"] == "responses":
        return reading
    headers = exchange["response_headers"].items()
    return bedrock_usage.with_headers(
        reading, {name.lower(): value[0] if isinstance(value, list) else value for name, value in headers}
    )


def body_of(exchange: dict[str, Any], side: str) -> bytes:
    text = exchange[f"{side}_body"] or ""
    return base64.b64decode(text) if exchange[f"{side}_body_kind"] == "base64" else text.encode()


def test_every_answer_is_read_with_the_providers_own_usage(exchanges: list[dict[str, Any]]) -> None:
    for exchange in exchanges:
        truth = exchange.get("truth")
        for reading in readings(exchange):
            if not truth or not states_usage(truth["usage_raw"]):
                assert reading.usage is None, exchange["id"]
                continue
            assert reading.usage is not None, exchange["id"]
            if truth.get("flavor") != "bedrock-invoke":  # there the recording's note is gathered from several places
                assert json.loads(reading.raw_usage) == truth["usage_raw"], exchange["id"]
            assert (reading.response_model or None) == truth["model"], exchange["id"]
            stated = expected(exchange)
            assert {name: getattr(reading.usage, name) for name in stated} == stated, exchange["id"]


def states_usage(usage: dict[str, Any]) -> bool:
    """Reranking on Bedrock notes a null for each document."""
    return any(value not in (None, [None] * 3) for value in usage.values())


def test_the_injected_event_alone_is_taken_out(exchanges: list[dict[str, Any]]) -> None:
    for exchange in exchanges:
        dialect, endpoint = dialect_of(exchange)
        if not exchange["stream"] or endpoint not in ("chat.completions", "completions"):
            continue
        body = exchange["response_body"].encode()
        reader = dialect.reader(endpoint, dialect.read_request(endpoint, b'{"model":"m"}'), strip_usage=True)
        forwarded = b"".join(map(reader.feed, chunked(body, exchange["id"]))) + reader.close()
        assert forwarded == b"".join(event for event in EVENT.findall(body) if not is_usage_alone(event)), exchange[
            "id"
        ]


def test_the_providers_own_money_is_read_to_the_nano_dollar(exchanges: list[dict[str, Any]]) -> None:
    for exchange in exchanges:
        truth = exchange.get("truth") or {}
        if "provider_cost_usd" not in truth or truth["usage_raw"].get("is_byok"):
            continue  # with a key of one's own, OpenRouter's `cost` is its fee only
        if truth["usage_raw"].get("cost_in_usd_ticks") == 0:
            continue  # Azure says so of every call, and bills it
        cost = Decimal(str(truth["provider_cost_usd"])) * 10**9
        for reading in readings(exchange):
            assert reading.reported_cost_nano_usd == cost.to_integral_value(ROUND_CEILING), exchange["id"]


def test_every_request_that_a_provider_took_is_taken_and_bounded(exchanges: list[dict[str, Any]]) -> None:
    for exchange in exchanges:
        dialect, endpoint = dialect_of(exchange)
        if exchange["request_body_kind"] != "text":
            continue
        body = body_of(exchange, "request")
        in_path = PATH_MODEL.search(exchange["path"]) if dialect.name in ("gemini", "bedrock") else None
        if not body.startswith(b"{") or not (in_path or json.loads(body).get("model")):
            continue  # not recorded; or a stored prompt or Azure's path names the model
        try:
            ask = dialect.read_request(endpoint, body, unquote(in_path[1] or in_path[2]) if in_path else "").ask
        except Refused as error:
            pytest.fail(f"{exchange['id']}: {error}")
        if (
            exchange.get("truth")
            and states_usage(exchange["truth"]["usage_raw"])
            and not (ask.unbounded_input or ask.server_tool_turns)
        ):
            assert expected(exchange)["input_tokens"] <= len(body) + OVERHEAD_TOKENS, exchange["id"]
        if exchange.get("truth") and dialect.name == "gemini" and ask.images and not ask.server_tool_turns:
            bound = len(body) - ask.image_bytes + ask.images * PRESETS["gemini"].image_tokens_max + OVERHEAD_TOKENS
            assert expected(exchange)["input_tokens"] <= bound, exchange["id"]


def is_usage_alone(event: bytes) -> bool:
    data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    if not data.startswith(b"{"):
        return False
    value = json.loads(data)
    return value.get("choices") == [] and value.get("usage") is not None


def expected(exchange: dict[str, Any]) -> dict[str, int]:
    usage = exchange["truth"]["usage_raw"]
    if exchange["endpoint"].startswith("gemini."):
        return of_gemini(usage)
    if exchange["provider"] == "cohere":
        return of_cohere(usage)
    if exchange["endpoint"].startswith("bedrock.") and "anthropic" not in exchange["truth"]["flavor"]:
        return of_bedrock(usage)
    if exchange["endpoint"].startswith("bedrock."):
        return of_anthropic(usage)
    if exchange["endpoint"] in MEDIA:
        return of_media(usage)
    return of_anthropic(usage) if exchange["endpoint"] == "anthropic.messages" else of_openai(usage)


def of_bedrock(usage: dict[str, Any]) -> dict[str, int]:
    def of(*names: str) -> int:
        return max(int(usage.get(name) or 0) for name in names)

    read = of("cacheReadInputTokens", "cacheReadInputTokenCount")
    written = of("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    header = "x-amzn-bedrock-{}-token-count"
    return {
        "input_tokens": of("inputTokens", "inputTokenCount", header.format("input")) + read + written,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": sum(one["inputTokens"] for one in usage.get("cacheDetails", []) if one["ttl"] == "1h"),
        "output_tokens": of("outputTokens", "outputTokenCount", header.format("output")),
    }


def of_cohere(usage: dict[str, Any]) -> dict[str, int]:
    billed, seen = usage["billed_units"], usage.get("tokens", {})
    input_tokens = billed.get("input_tokens", 0) + billed.get("image_tokens", 0)
    return {
        "input_tokens": input_tokens,
        "cache_read_tokens": min(usage.get("cached_tokens", 0), input_tokens),
        "input_image_tokens": seen.get("image_tokens", 0) + billed.get("image_tokens", 0),
        "output_tokens": billed.get("output_tokens", 0),
        "reasoning_tokens": min(seen.get("reasoning_tokens", 0), billed.get("output_tokens", 0)),
        "search_units": billed.get("search_units", 0),
    }


def of_gemini(usage: dict[str, Any]) -> dict[str, int]:
    if "token_count" in usage:  # of Vertex AI's predictions
        return {"input_tokens": sum(usage["token_count"]), "output_tokens": 0}

    def of(modality: str, *names: str) -> int:
        parts = [part for name in names for part in usage.get(name, [])]
        return sum(part["tokenCount"] for part in parts if part["modality"] in (modality, NUMBERS[modality]))

    given, made = ("promptTokensDetails", "promptTokenDetails", "toolUsePromptTokensDetails"), "candidatesTokensDetails"
    thoughts = usage.get("thoughtsTokenCount", 0)
    return {
        "input_tokens": usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0),
        "cache_read_tokens": usage.get("cachedContentTokenCount", 0),
        "cache_write_tokens": 0,
        "input_audio_tokens": of("AUDIO", *given),
        "input_image_tokens": of("IMAGE", *given),
        "output_tokens": usage.get("candidatesTokenCount", 0) + thoughts,
        "reasoning_tokens": thoughts,
        "output_audio_tokens": of("AUDIO", made),
        "output_image_tokens": of("IMAGE", made),
    }


def of_anthropic(usage: dict[str, Any]) -> dict[str, int]:
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return {
        "input_tokens": usage["input_tokens"] + read + written,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0),
        "output_tokens": usage["output_tokens"],
        "web_search_calls": (usage.get("server_tool_use") or {}).get("web_search_requests", 0),
    }


def of_media(usage: dict[str, Any]) -> dict[str, int]:
    """Of images, audio, documents and reranking."""
    return {
        **of_openai(usage),
        "input_tokens": usage.get("input_tokens", usage.get("total_tokens", 0)),
        "input_audio_tokens": usage.get("input_token_details", {}).get("audio_tokens", 0),
        "audio_seconds": usage.get("seconds", 0),
        "pages": usage.get("pages_processed", 0),
    }


def of_openai(usage: dict[str, Any]) -> dict[str, int]:
    given = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    made = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    cached = max(given.get("cached_tokens") or 0, usage.get("prompt_cache_hit_tokens") or 0)
    return {
        "input_tokens": max(int(usage.get("prompt_tokens") or usage.get("input_tokens") or 0), cached),
        "cache_read_tokens": cached,
        "cache_write_tokens": given.get("cache_write_tokens") or 0,
        "input_audio_tokens": given.get("audio_tokens") or 0,
        "input_image_tokens": given.get("image_tokens") or 0,
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens", 0)),
        "reasoning_tokens": made.get("reasoning_tokens") or 0,
        "output_audio_tokens": made.get("audio_tokens") or 0,
        "output_image_tokens": made.get("image_tokens") or 0,
    }
