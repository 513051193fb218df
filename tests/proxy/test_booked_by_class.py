"""From what a provider's answer says to the money: of each class, at the prices of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.wire import post

from .recorder import Recorder

RESPONSES = "/v1/responses"


@pytest.fixture(scope="module")
def catalogued(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("classes")
    (directory / "credential").write_text(running_recorder.api_key)
    providers = [
        f'[providers.{name}]\nbase_url = "{running_recorder.base_url}"\ncredential_file = "credential"\n'
        for name in ("openai", "gemini")
    ]
    with Daemon(directory, "".join(providers)) as daemon:
        daemon.here("price", "sync")
        yield daemon


@pytest.fixture(scope="module")
def user_key(catalogued: Daemon) -> str:
    return catalogued.add_user("carla")


def response(model: str, tool: str, *output: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 330, "output_tokens": 446, "total_tokens": 776}
    said = {"id": "resp_1", "model": model, "status": "completed", "output": output}
    return {**said, "tools": [{"type": tool}], "usage": usage, **more}


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}


@pytest.mark.parametrize(
    ("model", "tool", "counts", "usd"),
    [
        ("gpt-4o", "web_search", {"web_search_calls": 1}, "0.015285"),
        ("gpt-4o", "web_search_preview", {"web_search_preview_calls": 1}, "0.030285"),
        ("gpt-5", "web_search_preview", {"web_search_preview_calls": 1}, "0.0148725"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_searches_cost_what_their_tool_does(
    catalogued: Daemon,
    user_key: str,
    recorder: Recorder,
    model: str,
    tool: str,
    counts: dict[str, int],
    usd: str,
    stream: bool,
) -> None:
    answer = response(model, tool, SEARCH)
    if stream:
        event = json.dumps({"type": "response.completed", "response": answer})
        recorder.reply(f"event: response.completed\ndata: {event}\n\n".encode(), content_type="text/event-stream")
    else:
        recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    asked = {"model": model, "input": "weather?", "tools": [{"type": tool}], "stream": stream}
    row = booked(catalogued, RESPONSES, asked, user_key)
    assert {name: row[name] for name in counts} == counts
    assert Decimal(row["cost_usd"]) == Decimal(usd)
    assert row["web_search_calls"] + row["web_search_preview_calls"] == 1


IMAGE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA", "quality": "low"}
MADE = {"input_tokens": 40, "input_tokens_details": {"text_tokens": 40, "image_tokens": 0}, "output_tokens": 272}


@pytest.mark.parametrize(("stated", "usd"), [({"image_gen": MADE}, "0.0137765"), ({}, "0.2548725")])
def test_images_of_a_tool_cost_what_their_tokens_do_where_the_answer_says_them(
    catalogued: Daemon, user_key: str, recorder: Recorder, stated: dict[str, Any], usd: str
) -> None:
    answer = response("gpt-5", "image_generation", IMAGE, tool_usage=stated)
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    tool = {"type": "image_generation", "quality": "max", "size": "3840x2160"}
    asked = {"model": "gpt-5", "input": "a hat", "tools": [tool], "max_tool_calls": 1, "max_output_tokens": 1_000}
    row = booked(catalogued, RESPONSES, asked, user_key)
    assert row["image_generation_calls"] == 1
    assert row["image_tool_output_tokens"] == stated.get("image_gen", {}).get("output_tokens", 0)
    assert Decimal(row["cost_usd"]) == Decimal(usd)
    assert Decimal(row["held_usd"]) > 224_649 * Decimal("0.000032")


PLACE = {"maps": {"uri": "https://maps.google.com/?cid=1", "title": "Lilia", "placeId": "places/1"}}


@pytest.mark.parametrize(
    ("model", "searches", "usd"), [("gemini-2.5-flash", 1, "0.02505"), ("gemini-3.5-flash", 2, "0.028222")]
)
def test_answers_from_maps_cost_what_maps_do(
    catalogued: Daemon, user_key: str, recorder: Recorder, model: str, searches: int, usd: str
) -> None:
    grounding = {"groundingChunks": [PLACE], "webSearchQueries": ["italian restaurants", "restaurants near me"]}
    candidate = {"content": {"parts": [{"text": "Lilia."}]}, "finishReason": "STOP", "groundingMetadata": grounding}
    counts = {"promptTokenCount": 100, "candidatesTokenCount": 8}
    answer = {"candidates": [candidate], "modelVersion": model, "usageMetadata": counts}
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    asked = {"contents": [{"parts": [{"text": "Where to eat?"}]}], "tools": [{"googleMaps": {}}]}
    row = booked(catalogued, f"/v1beta/models/{model}:generateContent", asked, user_key)
    assert (row["web_search_calls"], row["map_search_calls"]) == (0, searches)
    assert Decimal(row["cost_usd"]) == Decimal(usd)


@pytest.mark.parametrize(
    ("modality", "media_type", "usd_per_token"),
    [
        ("VIDEO", "video/mp4", "0.000012"),
        ("AUDIO", "audio/mpeg", "0.0000065"),
        ("DOCUMENT", "application/pdf", "0.00000045"),
    ],
)
def test_embeddings_of_media_are_held_and_booked_at_the_rate_of_the_media(
    catalogued: Daemon, user_key: str, recorder: Recorder, modality: str, media_type: str, usd_per_token: str
) -> None:
    details = [{"modality": modality, "tokenCount": 1_000}]
    answer = {
        "embedding": {"values": [0.5]},
        "usageMetadata": {"promptTokenCount": 1_000, "promptTokenDetails": details},
    }
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    part = {"inlineData": {"mimeType": media_type, "data": "AAAA"}}
    row = booked(catalogued, "/v1beta/models/gemini-embedding-2:embedContent", {"content": {"parts": [part]}}, user_key)
    assert Decimal(row["cost_usd"]) == 1_000 * Decimal(usd_per_token)
    assert Decimal(row["held_usd"]) == 8_192 * Decimal("0.000012")


def test_audio_from_a_cache_costs_what_cached_audio_does(catalogued: Daemon, user_key: str, recorder: Recorder) -> None:
    details = [{"modality": "AUDIO", "tokenCount": 10_000}, {"modality": "TEXT", "tokenCount": 10_000}]
    cached = [{"modality": "AUDIO", "tokenCount": 10_000}]
    counts = {"promptTokenCount": 20_000, "cachedContentTokenCount": 10_000, "candidatesTokenCount": 0}
    usage = {**counts, "promptTokensDetails": details, "cacheTokensDetails": cached}
    answer = {"candidates": [{"finishReason": "STOP"}], "modelVersion": "gemini-2.5-flash", "usageMetadata": usage}
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    asked = {"contents": [{"parts": [{"text": "What is said?"}]}]}
    row = booked(catalogued, "/v1beta/models/gemini-2.5-flash:generateContent", asked, user_key)
    assert (row["input_audio_tokens"], row["cache_read_audio_tokens"]) == (10_000, 10_000)
    assert Decimal(row["cost_usd"]) == Decimal("0.004")  # 10,000 of text at $0.30, of cached audio at $0.10


def booked(gateway: Daemon, path: str, asked: dict[str, Any], key: str) -> dict[str, Any]:
    reply = post(gateway.url, path, asked, key)
    assert reply.status == 200, reply.body
    row: dict[str, Any] = gateway.call(reply.headers["x-llmctl-call-id"])
    return row
