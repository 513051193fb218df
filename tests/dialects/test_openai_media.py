"""Images, audio, moderation, reranking, documents: what is held for them, and what their answers say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmctl.dialects.openai.dialect import OPENAI
from llmctl.dialects.wire.multipart import Form, FormField, FormFile
from llmctl.domain.bounds import Bounds
from llmctl.domain.call import Ask, Reading
from llmctl.domain.demand import ModelFacts, demand_of
from llmctl.domain.errors import Refused
from llmctl.domain.usage import Usage

FACTS = ModelFacts(None, None, 0, image_tokens_max=48_169)


def ask(endpoint: str, **body: Any) -> Ask:
    return OPENAI.read_request(endpoint, json.dumps({"model": "m", **body}).encode()).ask


def ask_form(endpoint: str, *files: FormFile, **fields: str) -> Ask:
    values = {"model": "m", **fields}
    found = tuple(FormField(name, value.encode(), 0, 0) for name, value in values.items())
    return OPENAI.read_form(endpoint, Form(found, files)).ask


def answer(endpoint: str, **body: Any) -> Reading:
    return OPENAI.read_answer(endpoint, json.dumps(body).encode())


def events(endpoint: str, *events: dict[str, Any]) -> Reading:
    reader = OPENAI.reader(endpoint, OPENAI.read_request("audio.speech", b'{"model":"m","input":"x"}'))
    stream = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    assert b"".join(reader.feed(stream[i : i + 7]) for i in range(0, len(stream), 7)) == stream
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading


# ---- What is held ----


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({"quality": "low", "size": "1024x1024"}, 500),
        ({"quality": "high", "size": "1024x1024"}, 7_100),
        ({}, 10_650),  # the model chooses: high, 1536x1024
        ({"quality": "max", "size": "auto"}, 42_600),
        ({"quality": "high", "size": "256x256"}, 7_100),
        ({"quality": "low", "size": "1024x1024", "partial_images": 3, "stream": True}, 800),
        ({"quality": "low", "size": "1024x1024", "output_format": "gif"}, 8_000),
    ],
)
def test_an_image_is_held_at_the_dearest_of_its_size_and_quality(more: dict[str, Any], tokens: int) -> None:
    asked = ask("images.generations", prompt="a cat", n=3, **more)
    demand = demand_of(asked, FACTS, None, Bounds())
    assert (demand.output_tokens, demand.output_multiplier) == (tokens, 3)
    assert demand.output_tokens_min == tokens  # an image cannot be capped
    assert not demand.output_tokens_injected
    assert asked.units == (("images", 3),)
    assert asked.stream is bool(more.get("stream"))


def test_images_that_are_edited_are_held_at_what_one_is_billed_with_at_most() -> None:
    png = FormFile("image[]", "a.png", 5_000_000, b"\x89PNG")
    asked = ask_form("images.edits", png, png, prompt="greener", n="2")
    assert (asked.images, asked.output_multiplier, asked.unbounded_input) == (2, 2, "images")
    assert demand_of(asked, FACTS, None, Bounds()).input_tokens == len("mgreener2") + 2 * 48_169
    as_json = ask("images.edits", prompt="greener", images=[{"image_url": "https://x"}, {"file_id": "f"}])
    assert as_json.images == 2
    assert as_json.units == (("images", 3),)  # some bill what they are given too


def test_svg_is_another_models_work() -> None:
    with pytest.raises(Refused) as caught:
        ask("images.generations", prompt="a cat", output_format="svg")
    assert caught.value.code == "not_supported"


def test_audio_is_held_by_its_bytes_at_the_leanest_bit_rate() -> None:
    asked = ask_form("audio.transcriptions", FormFile("file", "a.mp3", 1_500_000, b"ID3"), stream="true")
    assert asked.units == (("audio_seconds", 2_000),)
    assert asked.guess is not None
    assert asked.guess.audio_seconds == 94  # at 128 kbit/s
    assert (asked.stream, asked.media_input, asked.output_fixed) == (True, True, True)
    remote = ask_form("audio.transcriptions", file_url="https://x/a.mp3")
    assert remote.units == (("audio_seconds", 4 * 3_600),)


def flac(samples_per_s: int, samples: int) -> bytes:
    return b"fLaC\x80\x00\x00\x22" + bytes(10) + ((samples_per_s << 44) | samples).to_bytes(8, "big") + bytes(16)


def test_silence_costs_a_flac_nothing_but_its_length_stands_in_its_head() -> None:
    asked = ask_form("audio.transcriptions", FormFile("file", "a.flac", 35_000, flac(8_000, 6 * 3_600 * 8_000)))
    assert dict(asked.units)["audio_seconds"] == 6 * 3_600
    unknown = ask_form("audio.transcriptions", FormFile("file", "a.flac", 35_000, flac(8_000, 0)))
    assert dict(unknown.units)["audio_seconds"] >= 3 * 3_600


def test_a_wav_of_few_bytes_a_second_is_held_for_what_its_head_says() -> None:
    head = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + (100).to_bytes(4, "little") * 2
    head += b"\x01\x00\x08\x00"
    asked = ask_form("audio.transcriptions", FormFile("file", "a.wav", 100_000, head))
    assert dict(asked.units)["audio_seconds"] == 1_000


@pytest.mark.parametrize("beginning", [flac(8_000, 1), flac(1, 1 << 35)])
def test_a_head_that_cannot_be_true_is_not_booked_by(beginning: bytes) -> None:
    asked = ask_form("audio.transcriptions", FormFile("file", "a.flac", 9_600_000, beginning))
    assert asked.guess is not None
    assert asked.guess.audio_seconds == 192  # at 400 kbit/s


def test_the_length_of_a_wav_stands_in_its_head() -> None:
    head = (
        b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\xc0\x5d\x00\x00\x80\xbb\x00\x00\x02\x00\x10\x00"
    )
    asked = ask_form("audio.translations", FormFile("file", "a.wav", 48_000 * 7, head))
    assert asked.guess is not None
    assert asked.guess.audio_seconds == 7


def test_speech_is_held_by_its_characters() -> None:
    asked = ask("audio.speech", input="naïve" * 10, voice="alloy", stream_format="sse")
    assert (asked.units, asked.stream) == ((("characters", 50),), True)
    demand = demand_of(asked, FACTS, None, Bounds())
    assert (demand.output_tokens, demand.output_tokens_min) == (600, 600)


def test_reranking_is_held_by_documents_and_their_length() -> None:
    assert ask("rerank", query="q", documents=["a"] * 100).units == (("search_units", 2),)
    assert ask("rerank", query="q" * 100, documents=["a"] * 10).input_bytes > 1_000  # the query counts with each
    with pytest.raises(Refused):
        ask("rerank", query="q", documents="a")
    with pytest.raises(Refused):
        ask("rerank", query="q")


def test_documents_are_held_at_the_pages_that_are_asked_for() -> None:
    assert ask("ocr", document={}, pages=[0, 3]).units == (("pages", 2),)
    assert ask("ocr", document={}, pages="0-5").units == (("pages", 1_000),)
    assert ask("ocr", document={}).units == (("pages", 1_000),)


def test_moderation_has_a_model_of_its_own_accord() -> None:
    found = OPENAI.read_request("moderations", b'{"input":"x"}')
    assert (found.ask.model, found.ask.generates, found.ask.unbounded_input) == ("omni-moderation-latest", False, "")
    assert found.upstream_body(model=found.ask.model) == b'{"input":"x"}'
    assert json.loads(found.upstream_body(model="other")) == {"input": "x", "model": "other"}


@pytest.mark.parametrize("body", [b'{"model":"m","n":1,"n":10}', b'{"model":"m","N":10}', b'{"model":"m","n":"10"}'])
def test_what_decides_money_is_read_strictly(body: bytes) -> None:
    with pytest.raises(Refused):
        OPENAI.read_request("images.generations", body)


# ---- What answers say ----


def test_tokens_of_images_come_with_their_count() -> None:
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
        "output_tokens": 4_160,
        "output_tokens_details": {"image_tokens": 4_150, "text_tokens": 10},
        "total_tokens": 4_210,
    }
    reading = answer("images.edits", created=1, data=[{"b64_json": "x"}, {"b64_json": "y"}], usage=usage)
    assert reading.usage == Usage(
        input_tokens=50, input_image_tokens=40, output_tokens=4_160, output_image_tokens=4_150, images=2
    )
    assert json.loads(reading.raw_usage) == usage


def test_images_without_usage_leave_it_open() -> None:
    assert answer("images.generations", data=[{"url": "x"}]).usage is None


def test_money_alone_is_usage_too() -> None:
    reading = answer("images.generations", data=[{"url": "x"}], usage={"cost_in_usd_ticks": 200_000_000})
    assert (reading.usage, reading.reported_cost_nano_usd) == (Usage(images=1), 20_000_000)


def test_a_streamed_image_tells_its_usage_last() -> None:
    usage = {"input_tokens": 5, "output_tokens": 272, "total_tokens": 277}
    partial = {"type": "image_generation.partial_image", "b64_json": "x" * 10_000, "partial_image_index": 0}
    reading = events(
        "images.generations", partial, {"type": "image_generation.completed", "b64_json": "y" * 9_999, "usage": usage}
    )
    assert reading.usage == Usage(input_tokens=5, output_tokens=272, images=1)
    assert reading.finished
    assert events("images.generations", partial).usage is None


@pytest.mark.parametrize("seconds", [7, 6.2, "6.5"])
def test_minutes_are_counted_in_started_seconds(seconds: object) -> None:
    reading = answer("audio.transcriptions", text="x", usage={"type": "duration", "seconds": seconds})
    assert reading.usage == Usage(audio_seconds=7)


@pytest.mark.parametrize("seconds", [-1, True, None, "x", 10**20, [], 1e400])
def test_seconds_that_make_no_sense_are_absent(seconds: object) -> None:
    body = json.dumps({"text": "x", "usage": {"type": "duration", "seconds": seconds}}).replace("Infinity", "1e999")
    assert OPENAI.read_answer("audio.transcriptions", body.encode()).usage is None


def test_a_duration_stands_in_for_usage() -> None:
    assert answer("audio.transcriptions", text="x", duration=6.04, segments=[]).usage == Usage(audio_seconds=7)


def test_tokens_of_a_transcription_and_of_its_stream() -> None:
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 5,
        "total_tokens": 19,
    }
    told = Usage(input_tokens=14, input_audio_tokens=14, output_tokens=5)
    assert answer("audio.transcriptions", text="x", usage=usage).usage == told
    stream = events(
        "audio.transcriptions",
        {"type": "transcript.text.delta", "delta": "x"},
        {"type": "transcript.text.done", "text": "x", "usage": usage},
    )
    assert (stream.usage, stream.finished) == (told, True)


def test_a_transcription_may_be_plain_text() -> None:
    reading = OPENAI.read_answer("audio.transcriptions", b"1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    assert (reading.usage, reading.error, reading.finished) == (None, "", True)


def test_mistral_tells_seconds_beside_tokens() -> None:
    usage = {"prompt_audio_seconds": 30, "prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 391}
    reading = answer("audio.transcriptions", text="x", usage=usage)
    assert reading.usage == Usage(input_tokens=379, input_audio_tokens=375, output_tokens=12, audio_seconds=30)


def test_sound_passes_and_events_are_read() -> None:
    sound = OPENAI.reader("audio.speech", OPENAI.read_request("audio.speech", b'{"model":"m","input":"x"}'))
    assert sound.feed(b"\xff\xf3data") == b"\xff\xf3data"
    assert (sound.close(), sound.reading()) == (b"", Reading(finished=True))
    usage = {"input_tokens": 6, "output_tokens": 40, "total_tokens": 46}
    done = {"type": "speech.audio.done", "usage": usage}
    assert events("audio.speech", {"type": "speech.audio.delta", "audio": "x"}, done).usage == Usage(
        input_tokens=6, output_tokens=40
    )


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"meta": {"billed_units": {"search_units": 2}}}, Usage(search_units=2)),
        ({"usage": {"search_units": 1, "total_tokens": 0}}, Usage(search_units=1)),
        ({"usage": {"total_tokens": 17}}, Usage(input_tokens=17)),
        ({"usage": {"prompt_tokens": 17, "total_tokens": 17}}, Usage(input_tokens=17)),
        ({}, None),
    ],
)
def test_reranking_is_told_in_search_units_or_tokens(body: dict[str, Any], usage: Usage | None) -> None:
    assert answer("rerank", results=[], **body).usage == usage


def test_pages_are_counted() -> None:
    reading = answer("ocr", pages=[], model="ocr", usage_info={"pages_processed": 3, "doc_size_bytes": 10})
    assert (reading.usage, reading.response_model) == (Usage(pages=3), "ocr")
    assert OPENAI.read_usage("ocr", reading.raw_usage) == Usage(pages=3)
