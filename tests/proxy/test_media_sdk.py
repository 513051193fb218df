"""Images, audio, moderation and reranking through OpenAI's SDK: booked as told, sent as it came, refused in time."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.daemon import Daemon

from .conftest import provider
from .recorder import Recorder

PRICES = {
    "echo/image-tokens": ("--input", "5", "--input-image", "8", "--output", "10", "--output-image", "32"),
    "echo/image-each": ("--per-image", "0.04"),
    "echo/hear-minutes": ("--per-audio-minute", "0.006"),
    "echo/hear-tokens": ("--input", "2.5", "--input-audio", "6", "--output", "10"),
    "echo/say-characters": ("--characters", "15"),
    "echo/say-tokens": ("--input", "0.6", "--output", "12"),
    "echo/rerank-units": ("--per-search-unit", "0.002"),
    "echo/rerank-tokens": ("--input", "0.05", "--output", "0"),
    "echo/ocr": ("--per-page", "0.001"),
    "echo/mistral-moderation-latest": ("--input", "0.1", "--output", "0"),
}
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 1_000
IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 4_160,
    "output_tokens_details": {"image_tokens": 4_150, "text_tokens": 10},
    "total_tokens": 4_210,
}
HEARD_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 5,
    "total_tokens": 19,
}
JSON = {"Content_Type": "application/json"}
EVENTS = {"Content_Type": "text/event-stream; charset=utf-8"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("media")
    (directory / "azure.key").write_text("azure-key")
    root = running_recorder.base_url.removesuffix("/v1")
    providers = provider(directory, "echo", running_recorder.base_url, running_recorder.api_key, ["openai"], ["*"])
    azure = f'\n[providers.azure]\nbase_url = "{root}/openai"\ncredential_file = "azure.key"\n'
    aliases = '[aliases]\nlistener = "echo/hear-minutes-of-another-name"\n'
    with Daemon(directory, providers + azure, extra=aliases) as daemon:
        for model, rates in PRICES.items():
            daemon.here("price", "set", model, *rates)
        yield daemon


@pytest.fixture(scope="module")
def key(media: Daemon) -> str:
    return media.add_user("mia")


@pytest.fixture(scope="module")
def user(media: Daemon, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=media.base_url, api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def poor(media: Daemon) -> Iterator[openai.OpenAI]:
    """With ten cents a day."""
    key = media.add_user("poor")
    media.here("limit", "set", "--user", "poor", "--cost", "0.10", "--per", "day")
    with openai.OpenAI(base_url=media.base_url, api_key=key, max_retries=0) as client:
        yield client


def answers(recorder: Recorder, answer: dict[str, Any]) -> None:
    recorder.reply(json.dumps(answer).encode(), **JSON)


def streams(recorder: Recorder, *events: dict[str, Any]) -> None:
    lines = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events]
    recorder.reply(*lines, **EVENTS)


def last(media: Daemon) -> dict[str, Any]:
    return media.calls("-n", "1", count=1)[0]


def booked(media: Daemon, *names: str) -> tuple[Any, ...]:
    row = last(media)
    return tuple(row[name] for name in names)


def sound(size: int, name: str = "talk.mp3") -> io.BytesIO:
    file = io.BytesIO(b"ID3" + os.urandom(size - 3))
    file.name = name
    return file


# ---- Images ----


def test_an_image_in_tokens(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"created": 1, "data": [{"b64_json": "eA=="}], "usage": IMAGE_USAGE})
    told = user.images.generate(model="image-tokens", prompt="a cat", n=1, quality="high", size="1024x1024")
    assert told.usage is not None
    assert recorder.last.path == "/v1/images/generations"
    assert booked(media, "endpoint", "input_tokens", "input_image_tokens", "output_tokens", "output_image_tokens") == (
        *("images.generations", 50, 40, 4_160, 4_150),
    )
    # 10 of text in, 40 of images in, 10 of text out, 4,150 of images out.
    assert booked(media, "cost_usd", "images", "usage_source") == ("0.133270000", 1, "reported")


def test_images_at_a_price_each(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"created": 1, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}]})
    user.images.generate(model="image-each", prompt="a cat", n=2)
    assert booked(media, "images", "cost_usd") == (2, "0.080000000")


def test_a_streamed_image(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": "eA==" * 50_000, "partial_image_index": 0}
    done = {"type": "image_generation.completed", "b64_json": "eA==" * 50_000, "usage": IMAGE_USAGE}
    streams(recorder, partial, done)
    with user.images.generate(model="image-tokens", prompt="a cat", stream=True, partial_images=1) as events:
        assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert booked(media, "stream", "output_tokens", "images", "usage_source") == (True, 4_160, 1, "reported")


def test_an_edit_sends_its_images_as_they_came(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"created": 1, "data": [{"b64_json": "eA=="}], "usage": IMAGE_USAGE})
    images = [("a.png", PNG, "image/png"), ("b.png", PNG, "image/png")]
    user.images.edit(model="image-tokens", prompt="greener", image=images, size="1024x1024")
    assert recorder.last.path == "/v1/images/edits"
    assert recorder.last.body.count(PNG) == 2
    assert booked(media, "endpoint", "input_image_tokens") == ("images.edits", 40)
    # The newer form of the same.
    answer = media.send(
        "/v1/images/edits",
        {"model": "image-tokens", "prompt": "greener", "images": [{"image_url": "https://x"}]},
        key=user.api_key,
    )
    assert (answer.status, last(media)["endpoint"]) == (200, "images.edits")


def test_a_variation(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"created": 1, "data": [{"url": "https://x/1"}]})
    with pytest.deprecated_call():
        user.images.create_variation(model="image-each", image=("a.png", PNG, "image/png"))
    assert booked(media, "endpoint", "cost_usd") == ("images.variations", "0.040000000")


def test_an_image_that_does_not_fit_is_refused_before_it_is_made(
    poor: openai.OpenAI, media: Daemon, recorder: Recorder
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        poor.images.generate(model="image-tokens", prompt="a cat", n=1, quality="high")  # up to $0.34
    assert refused.value.code == "request_exceeds_limit"
    with pytest.raises(openai.PermissionDeniedError):
        poor.images.generate(model="image-nobody-priced", prompt="a cat")
    assert not recorder.sent
    answers(recorder, {"created": 1, "data": [{"b64_json": "eA=="}], "usage": IMAGE_USAGE})
    poor.images.generate(model="image-tokens", prompt="a cat", quality="low", size="1024x1024")
    assert "max_tokens" not in recorder.last.json


# ---- Audio ----


def test_speech_passes_as_it_is_spoken(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    pieces = (b"ID3\x00", b"\xff" * 1_000, b"end")
    recorder.reply(*pieces, Content_Type="audio/mpeg")
    with user.audio.speech.with_streaming_response.create(model="say-characters", voice="alloy", input="naïve") as told:
        assert b"".join(told.iter_bytes()) == b"".join(pieces)
        assert told.headers["content-type"] == "audio/mpeg"
    assert booked(media, "endpoint", "characters", "cost_usd") == ("audio.speech", 5, "0.000075000")


def test_speech_in_events_tells_its_tokens(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    usage = {"input_tokens": 6, "output_tokens": 40, "total_tokens": 46}
    streams(recorder, {"type": "speech.audio.delta", "audio": "eA=="}, {"type": "speech.audio.done", "usage": usage})
    told = user.audio.speech.create(model="say-tokens", voice="alloy", input="Hi", stream_format="sse")
    assert b"speech.audio.done" in told.content
    assert booked(media, "input_tokens", "output_tokens", "usage_source", "stream") == (6, 40, "reported", True)
    recorder.reply(b"\xff" * 100, Content_Type="audio/mpeg")
    user.audio.speech.create(model="say-tokens", voice="alloy", input="Hi there, how are you?")
    assert booked(media, "usage_source", "output_tokens") == ("estimated", 29)


def test_minutes_that_were_heard(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"text": "Hello", "usage": {"type": "duration", "seconds": 7}})
    file = sound(5_000)
    assert user.audio.transcriptions.create(model="hear-minutes", file=file).text == "Hello"
    assert file.getvalue() in recorder.last.body
    assert booked(media, "endpoint", "audio_seconds", "cost_usd", "usage_source") == (
        *("audio.transcriptions", 7, "0.000700000", "reported"),
    )
    answers(recorder, {"text": "Hello"})
    with pytest.deprecated_call():
        user.audio.translations.create(model="hear-minutes", file=sound(32_000))
    assert booked(media, "endpoint", "audio_seconds", "usage_source") == ("audio.translations", 2, "estimated")
    recorder.reply(b"1\n00:00:00,000 --> 00:00:02,000\nHello\n", Content_Type="text/plain")
    srt = user.audio.transcriptions.create(model="hear-minutes", file=sound(32_000), response_format="srt")
    assert "Hello" in str(srt)
    assert booked(media, "status", "error", "usage_source") == (200, None, "estimated")


def test_tokens_that_were_heard_streamed_and_not(media: Daemon, key: str, recorder: Recorder) -> None:
    async def ask(stream: bool) -> Any:
        async with openai.AsyncOpenAI(base_url=media.base_url, api_key=key, max_retries=0) as client:
            told = await client.audio.transcriptions.create(model="hear-tokens", file=sound(9_000), stream=stream)
            return [event.type async for event in told] if stream else told.text

    answers(recorder, {"text": "Hello", "usage": HEARD_USAGE})
    assert asyncio.run(ask(False)) == "Hello"
    assert booked(media, "input_tokens", "input_audio_tokens", "output_tokens") == (14, 10, 5)
    assert last(media)["cost_usd"] == "0.000120000"
    done = {"type": "transcript.text.done", "text": "Hello", "usage": HEARD_USAGE}
    streams(recorder, {"type": "transcript.text.delta", "delta": "Hello"}, done)
    assert asyncio.run(ask(True)) == ["transcript.text.delta", "transcript.text.done"]
    assert booked(media, "stream", "input_audio_tokens", "usage_source") == (True, 10, "reported")


def test_an_alias_changes_the_model_in_the_form_and_nothing_else(
    media: Daemon, user: openai.OpenAI, recorder: Recorder
) -> None:
    answers(recorder, {"text": "Hello", "usage": {"type": "duration", "seconds": 7}})
    for size in (1_000, 3 << 20):  # in memory, and from a file
        file = sound(size)
        user.audio.transcriptions.create(model="listener", file=file, language="en")
        sent = recorder.last.body
        assert sent.count(b"hear-minutes-of-another-name") == 1
        assert b"listener" not in sent
        assert file.getvalue() in sent
        assert int(recorder.last.headers["content-length"]) == len(sent)
        assert last(media)["request_model"] == "listener"


def test_a_form_that_can_be_read_in_two_ways_is_refused(media: Daemon, key: str, recorder: Recorder) -> None:
    def send(*dispositions: str, path: str = "/v1/audio/transcriptions") -> tuple[int, str]:
        parts = [f"--B\r\nContent-Disposition: form-data; {name}\r\n\r\nhear-minutes\r\n" for name in dispositions]
        headers = {"Content-Type": "multipart/form-data; boundary=B"}
        answer = media.send(path, ("".join(parts) + "--B--\r\n").encode(), key=key, headers=headers)
        return answer.status, answer.json["error"]["message"]

    file = 'name="file"; filename="a.mp3"'
    for twice in ('name="model"', 'name="Model"', 'name="model[]"', 'name="model"; filename="x"', "name*=model"):
        status, message = send('name="model"', twice, file)
        assert (status, message.startswith("the form ")) == (400, True), twice
    assert send(file)[0] == 400
    assert media.send("/v1/audio/transcriptions", {"model": "hear-minutes"}, key=key).status == 400
    assert not recorder.sent
    refused = media.calls("--refused", "--user", "mia", count=7)
    assert {row["error"] for row in refused} == {"bad_request"}


def test_audio_that_may_cost_too_much_is_refused(poor: openai.OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        poor.audio.transcriptions.create(model="hear-minutes", file=sound(2 << 20))  # up to 2,797 s: $0.28
    assert refused.value.code == "request_exceeds_limit"
    assert not recorder.sent


def test_azures_sdk_hears_speaks_and_draws(media: Daemon, key: str, recorder: Recorder) -> None:
    with openai.AzureOpenAI(azure_endpoint=media.url, api_key=key, api_version="2025-03-01", max_retries=0) as client:
        answers(recorder, {"text": "Hello", "usage": {"type": "duration", "seconds": 7}})
        client.audio.transcriptions.create(model="my-whisper", file=sound(2_000))
        assert recorder.last.path == "/openai/deployments/my-whisper/audio/transcriptions"
        assert recorder.last.query == "api-version=2025-03-01"
        assert booked(media, "model", "audio_seconds") == ("my-whisper", 7)
        answers(recorder, {"created": 1, "data": [{"b64_json": "eA=="}], "usage": IMAGE_USAGE})
        client.images.generate(model="my-painter", prompt="a cat")
        assert booked(media, "provider", "model", "output_tokens") == ("azure", "my-painter", 4_160)
        client.images.edit(model="my-painter", prompt="a cat", image=("a.png", PNG, "image/png"))
        assert recorder.last.path == "/openai/deployments/my-painter/images/edits"
        recorder.reply(b"\xff\xf3", Content_Type="audio/mpeg")
        assert client.audio.speech.create(model="my-voice", voice="alloy", input="Hi").content == b"\xff\xf3"


# ---- Large uploads ----


def test_memory_stays_flat_while_large_files_pass(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, {"text": "Hello", "usage": {"type": "duration", "seconds": 7}})
    user.audio.transcriptions.create(model="hear-minutes", file=sound(2 << 20))
    before = peak_bytes(media)
    for _ in range(3):
        file = sound(25 << 20)
        user.audio.transcriptions.create(model="hear-minutes", file=file)
        assert file.getvalue() in recorder.last.body
    assert peak_bytes(media) - before < 6 << 20
    assert not list(Path(f"/proc/{media.process.pid}/fd").glob("*deleted*"))


def test_a_provider_that_answers_before_it_has_read_all(media: Daemon, user: openai.OpenAI, recorder: Recorder) -> None:
    """And one that hangs up: whatever it is, the call ends and the next one works."""
    with pytest.raises(openai.APIStatusError) as early:
        user.audio.transcriptions.create(
            model="hear-minutes", file=sound(20 << 20), extra_headers={"x-recorder": "refuse-early"}
        )
    assert early.value.status_code in (413, 502)
    answers(recorder, {"text": "Hello", "usage": {"type": "duration", "seconds": 7}})
    assert user.audio.transcriptions.create(model="hear-minutes", file=sound(2_000)).text == "Hello"


def peak_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


# ---- Moderation, reranking, documents ----


def test_moderation_costs_nothing(media: Daemon, user: openai.OpenAI, poor: openai.OpenAI, recorder: Recorder) -> None:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    answers(recorder, {"id": "modr-1", "model": "omni-moderation-2024", "results": [result]})
    for client in (user, poor):
        assert not client.moderations.create(input="Hello").results[0].flagged
        assert booked(media, "endpoint", "cost_usd", "model", "usage_source") == (
            *("moderations", "0.000000000", "omni-moderation-latest", None),
        )
    assert recorder.last.body == b'{"input":"Hello"}'


def test_moderation_costs_what_the_provider_bills_for_it(
    media: Daemon, user: openai.OpenAI, poor: openai.OpenAI, recorder: Recorder
) -> None:
    answer = {"id": "mod-1", "model": "mistral-moderation-2411", "results": []}
    for usage, source, cost in (
        ({"usage": {"prompt_tokens": 20, "total_tokens": 20, "completion_tokens": 0}}, "reported", "0.000002000"),
        ({}, "estimated", "0.000000100"),
    ):
        answers(recorder, answer | usage)
        user.moderations.create(input=["Hello"], model="mistral-moderation-latest")
        assert booked(media, "endpoint", "usage_source", "cost_usd") == ("moderations", source, cost)
    answers(recorder, answer)
    user.moderations.create(input="Hello", model="another-moderation")
    assert booked(media, "usage_source", "cost_usd") == ("estimated", None)  # unpriced, never 0 in silence
    with pytest.raises(openai.PermissionDeniedError, match="has no price"):
        poor.moderations.create(input="Hello", model="another-moderation")


@pytest.mark.parametrize(
    ("model", "answer", "units", "tokens", "cost"),
    [
        ("rerank-units", {"meta": {"billed_units": {"search_units": 2}}}, 2, 0, "0.004000000"),
        ("rerank-tokens", {"usage": {"total_tokens": 170}}, 0, 170, "0.000008500"),
        ("rerank-units", {}, 1, 16, "0.002000000"),
    ],
)
def test_reranking(
    media: Daemon, key: str, recorder: Recorder, model: str, answer: dict[str, Any], units: int, tokens: int, cost: str
) -> None:
    answers(recorder, {"id": "1", "results": [{"index": 0, "relevance_score": 0.9}], **answer})
    media.send("/v1/rerank", {"model": model, "query": "q", "documents": ["a", "b"]}, key=key)
    assert recorder.last.path == "/v1/rerank"
    assert booked(media, "search_units", "input_tokens", "cost_usd") == (units, tokens, cost)


def test_documents_that_are_read(media: Daemon, key: str, recorder: Recorder) -> None:
    answers(recorder, {"pages": [], "model": "ocr", "usage_info": {"pages_processed": 3, "doc_size_bytes": 10}})
    media.send("/v1/ocr", {"model": "ocr", "document": {"type": "document_url", "document_url": "https://x"}}, key=key)
    assert booked(media, "endpoint", "pages", "cost_usd") == ("ocr", 3, "0.003000000")
