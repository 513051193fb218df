"""Answers in the Gemini dialect, whole and streamed in both ways: each trap once. The figures are made up."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.gemini.dialect import GEMINI
from llmctl.domain.call import Reading
from llmctl.domain.usage import Usage

REQUEST = GEMINI.read_request("streamGenerateContent", b'{"contents":[]}', "m")


def whole(endpoint: str = "generateContent", model: str = "gemini-3.5-flash", **values: Any) -> Reading:
    return GEMINI.read_answer(endpoint, json.dumps({"modelVersion": model, **values}).encode())


def usage_of(**usage: Any) -> Usage | None:
    return whole(usageMetadata=usage).usage


def test_a_lone_surrogate_in_a_name_hides_no_usage() -> None:
    found = whole(usageMetadata={"\ud800": 1, "promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13})
    assert found.usage == Usage(input_tokens=9, output_tokens=4)
    assert json.loads(found.raw_usage)["totalTokenCount"] == 13


def chunk(text: str = "", *, end: bool = False, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if end:
        candidate["finishReason"] = "STOP"
    return {"candidates": [candidate], "modelVersion": "gemini-3.5-flash", **more}


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(one).encode() for one in chunks)


def listed(*chunks: dict[str, Any]) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(one, indent=2).encode() for one in chunks) + b"]\n"


FORMS = pytest.mark.parametrize("form", [events, listed], ids=["events", "list"])


def stream(body: bytes, size: int = 1 << 20) -> Reading:
    reader = GEMINI.reader("streamGenerateContent", REQUEST, strip_usage=True)
    for position in range(0, len(body), size):
        piece = body[position : position + size]
        assert reader.feed(piece) is piece
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    return reading


def test_thoughts_and_tool_prompts_are_outside_the_counts_that_they_belong_to() -> None:
    reading = whole(
        usageMetadata={
            "promptTokenCount": 100,
            "toolUsePromptTokenCount": 50,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 200,
            "cachedContentTokenCount": 60,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 40},
                {"modality": "IMAGE", "tokenCount": 25},
                {"modality": "AUDIO", "tokenCount": 35},
            ],
            "toolUsePromptTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}, {"modality": "TEXT", "tokenCount": 30}],
            "candidatesTokensDetails": [
                {"modality": "IMAGE", "tokenCount": 12},
                {"modality": "AUDIO", "tokenCount": 3},
            ],
            "serviceTier": "priority",
        }
    )
    assert reading.usage == Usage(
        input_tokens=150,
        cache_read_tokens=60,
        input_audio_tokens=40,
        input_image_tokens=25,
        cache_read_audio_tokens=30,
        output_tokens=50,
        reasoning_tokens=30,
        output_audio_tokens=3,
        output_image_tokens=12,
    )
    assert (reading.service_tier, reading.response_model, reading.finished) == ("priority", "gemini-3.5-flash", True)
    assert GEMINI.read_usage("generateContent", reading.raw_usage) == reading.usage


def test_enums_may_come_as_numbers() -> None:
    details = [{"modality": 1, "tokenCount": 5}, {"modality": 2, "tokenCount": 258}]
    usage = usage_of(promptTokenCount=263, promptTokensDetails=details, trafficType=1)
    assert usage == Usage(input_tokens=263, input_image_tokens=258)


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"serviceTier": "standard"}, ""),
        ({"trafficType": "ON_DEMAND"}, ""),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        ({"serviceTier": "flex", "trafficType": "ON_DEMAND"}, "flex"),
        ({"serviceTier": 5}, ""),
    ],
)
def test_the_tier_that_served_is_named_as_prices_name_it(usage: dict[str, Any], tier: str) -> None:
    assert whole(usageMetadata={"promptTokenCount": 1, **usage}).service_tier == tier


def test_tokens_that_only_the_total_shows_are_output() -> None:
    usage = usage_of(promptTokenCount=10, candidatesTokenCount=5, totalTokenCount=115)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (10, 105)
    assert usage_of(totalTokenCount=7) == Usage(input_tokens=7)


def test_embeddings_have_input_alone_and_some_models_report_none() -> None:
    details = [{"modality": "IMAGE", "tokenCount": 258}, {"modality": "TEXT", "tokenCount": 3}]
    usage = {"promptTokenCount": 261, "promptTokenDetails": details}
    for endpoint in ("embedContent", "batchEmbedContents"):
        reading = whole(endpoint, embeddings=[{"values": [0.5]}], usageMetadata=usage)
        assert reading.usage == Usage(input_tokens=261, input_image_tokens=258)
    assert whole("embedContent", embedding={"values": [0.5]}).usage is None


@pytest.mark.parametrize("name", ["promptTokenDetails", "promptTokensDetails"])
def test_embeddings_of_media_are_told_apart(name: str) -> None:
    """As the Gemini API spells it, and as Vertex AI does."""
    counts = {"VIDEO": 500, "AUDIO": 300, "IMAGE": 258, "DOCUMENT": 40, "TEXT": 2}
    details = [{"modality": modality, "tokenCount": count} for modality, count in counts.items()]
    stated = {"promptTokenCount": 1_100, name: details}
    expected = Usage(input_tokens=1_100, input_audio_tokens=300, input_image_tokens=298, input_video_tokens=500)
    assert whole("embedContent", embedding={"values": [0.5]}, usageMetadata=stated).usage == expected
    numbered = [{"modality": 3, "tokenCount": 500}, {"modality": 5, "tokenCount": 40}]
    stated = {"promptTokenCount": 540, name: numbered}
    read = whole("embedContent", embedding={"values": [0.5]}, usageMetadata=stated).usage
    assert read == Usage(input_tokens=540, input_image_tokens=40, input_video_tokens=500)


def test_audio_from_a_cache_is_audio_and_no_more_than_was_cached() -> None:
    cached = [{"modality": "AUDIO", "tokenCount": 70}]
    usage = usage_of(promptTokenCount=100, cachedContentTokenCount=60, cacheTokensDetails=cached)
    assert usage == Usage(input_tokens=100, cache_read_tokens=60, input_audio_tokens=60, cache_read_audio_tokens=60)


def test_pages_are_text_to_a_model_that_generates() -> None:
    details = [{"modality": "DOCUMENT", "tokenCount": 40}, {"modality": "VIDEO", "tokenCount": 60}]
    usage = usage_of(promptTokenCount=100, promptTokensDetails=details)
    assert usage == Usage(input_tokens=100, input_video_tokens=60)


def test_predictions_state_their_tokens_beside_each_vector() -> None:
    statistics = [{"statistics": {"token_count": count, "truncated": False}, "values": [0.5]} for count in (3, 4.0)]
    predictions = [{"embeddings": one} for one in statistics]
    reading = whole("predict", predictions=predictions, metadata={"billableCharacterCount": 29})
    assert reading.usage == Usage(input_tokens=7)
    assert json.loads(reading.raw_usage) == {"token_count": [3, 4.0], "billableCharacterCount": 29}
    assert GEMINI.read_usage("predict", reading.raw_usage) == reading.usage
    for odd in ([], [1], [{"embeddings": []}], [{"embeddings": {"statistics": {"token_count": None}}}]):
        assert whole("predict", predictions=odd).usage is None


QUERIES = {"webSearchQueries": ["a", "b", "a", "", " "], "imageSearchQueries": ["c"]}


@pytest.mark.parametrize(
    ("model", "searches"),
    [("gemini-3.5-flash", 3), ("gemini-2.5-flash", 1), ("gemini-2.0-flash-001", 1), ("gemini-20-x", 3), ("other", 3)],
)
def test_searches_are_billed_by_the_query_or_before_gemini_3_by_the_prompt(model: str, searches: int) -> None:
    grounded = [{"content": {}, "groundingMetadata": QUERIES}]
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1}
    found = whole(model=model, candidates=grounded, usageMetadata=usage).usage
    assert found is not None
    assert found.web_search_calls == searches
    none = whole(model=model, candidates=[{"groundingMetadata": {"webSearchQueries": [""]}}], usageMetadata=usage).usage
    assert none is not None
    assert none.web_search_calls == 0


PLACE = {"maps": {"uri": "x", "title": "y", "placeId": "z"}}
PAGE = {"web": {"uri": "x", "title": "maps"}}
ASKED = {"webSearchQueries": ["a", "b"]}


@pytest.mark.parametrize(
    ("grounding", "by_query", "by_prompt"),
    [
        ({"groundingChunks": [PLACE]}, (0, 1), (0, 1)),
        ({"groundingChunks": [PLACE], **ASKED}, (0, 2), (0, 1)),
        ({"groundingChunks": [PAGE], **ASKED}, (2, 0), (1, 0)),
        ({"groundingChunks": [PAGE, PLACE], **ASKED}, (2, 1), (1, 1)),
        ({"groundingChunks": [PLACE, {"image": {"imageUri": "x"}}], **ASKED}, (2, 1), (1, 1)),
        ({"groundingChunks": [PLACE], "searchEntryPoint": {"renderedContent": "x"}, **ASKED}, (2, 1), (1, 1)),
        ({"groundingChunks": {"maps": 1}}, (0, 0), (0, 0)),
        ({"groundingChunks": [None, {"maps": None}, PAGE]}, (0, 0), (0, 0)),
    ],
)
def test_an_answer_from_google_maps_is_billed_as_such(
    grounding: dict[str, Any], by_query: tuple[int, int], by_prompt: tuple[int, int]
) -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1}
    for model, searches in (("gemini-3.5-flash", by_query), ("gemini-2.5-flash", by_prompt)):
        found = whole(model=model, candidates=[{"groundingMetadata": grounding}], usageMetadata=usage).usage
        assert found is not None
        assert (found.web_search_calls, found.map_search_calls) == searches


@FORMS
def test_searches_of_a_stream_are_counted_once(form: Any) -> None:
    first, last = chunk("a"), chunk("b", end=True, usageMetadata={"promptTokenCount": 1, "candidatesTokenCount": 2})
    first["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["x", "y"]}
    last["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["y", "z"]}
    reading = stream(form(first, last))
    assert reading.usage == Usage(input_tokens=1, output_tokens=2, web_search_calls=3)
    last["candidates"][0]["groundingMetadata"] = {"groundingChunks": [PLACE, PLACE]}
    assert stream(form(first, last)).usage == Usage(input_tokens=1, output_tokens=2, map_search_calls=2)
    first["candidates"][0]["groundingMetadata"] |= {"groundingChunks": [PAGE]}
    both = Usage(input_tokens=1, output_tokens=2, web_search_calls=2, map_search_calls=1)
    assert stream(form(first, last)).usage == both


@FORMS
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_usage_of_a_stream_is_the_newest_value_of_each_field(form: Any, size: int) -> None:
    body = form(
        chunk("Grüß ", usageMetadata={"promptTokenCount": 9, "thoughtsTokenCount": 40, "candidatesTokenCount": 1}),
        chunk('"{[\\', usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 5, "cachedContentTokenCount": 8}),
        chunk(
            "\\",
            end=True,
            usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 7, "thoughtsTokenCount": None},
        ),
    )
    reading = stream(body, size)
    assert reading.usage == Usage(input_tokens=10, cache_read_tokens=8, output_tokens=47, reasoning_tokens=40)
    assert json.loads(reading.raw_usage) == {
        "promptTokenCount": 10,
        "thoughtsTokenCount": 40,
        "candidatesTokenCount": 7,
        "cachedContentTokenCount": 8,
    }
    assert (reading.finished, reading.output_text, reading.error) == (True, "", "")


@FORMS
def test_a_stream_that_broke_has_its_usage_so_far_and_its_text(form: Any) -> None:
    begun = chunk("Hello ", usageMetadata={"promptTokenCount": 9})
    body = form(begun, chunk("world", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 2}))
    reading = stream(body[: body.rindex(b'"finish') if b'"finish' in body else len(body) - 30], 11)
    assert reading.usage is not None
    assert reading.usage.input_tokens == 9
    assert not reading.finished
    assert reading.output_text.startswith("Hello ")


@FORMS
def test_the_texts_of_a_stream_are_put_together_by_candidate_and_thoughts_apart(form: Any) -> None:
    second = {"candidates": [{"content": {"parts": [{"text": "b"}]}, "index": 1}]}
    thought = {"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": True}]}, "index": 0}]}
    body = form(thought, chunk("a"), second, chunk("a"), second)
    assert GEMINI.stream_texts(body) == ["Hm.", "aa", "bb"]


def test_vertex_tells_counts_only_at_the_end() -> None:
    first = chunk("Hi", usageMetadata={"trafficType": "ON_DEMAND"})
    assert stream(events(first)).usage is None
    assert stream(events(first)).output_text == "Hi"
    last = chunk("", end=True, usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 1})
    assert stream(events(first, last)).usage == Usage(input_tokens=3, output_tokens=1)


def test_a_blocked_prompt_is_a_fine_answer() -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 8}}
    for reading in (whole(**blocked), stream(events(blocked)), stream(listed(blocked))):
        assert reading.usage == Usage(input_tokens=8)
        assert (reading.error, reading.finished) == ("", True)


@FORMS
def test_an_error_inside_a_stream_is_seen(form: Any) -> None:
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    reading = stream(form(chunk("a", usageMetadata={"promptTokenCount": 2, "candidatesTokenCount": 1}), error), 5)
    assert reading.error == "UNAVAILABLE"
    assert reading.usage == Usage(input_tokens=2, output_tokens=1)
    assert whole(**error).error == "UNAVAILABLE"


@FORMS
def test_the_first_output_is_noticed(form: Any) -> None:
    reader = GEMINI.reader("streamGenerateContent", REQUEST)
    reader.feed(form({"usageMetadata": {"promptTokenCount": 1}}).removesuffix(b"]\n"))
    assert not reader.first_output
    reader.feed(b",\n" + form(chunk("a")).removeprefix(b"["))
    assert reader.first_output


@pytest.mark.parametrize(
    ("body", "error"),
    [(b"", ""), (b"<html>", "not_json"), (b"[1, 2]", ""), (b'"text"', "not_json"), (b"{}", "not_json")],
)
def test_a_body_that_is_none_is_no_usage(body: bytes, error: str) -> None:
    reading = GEMINI.read_answer("generateContent", body)
    assert reading.usage is None
    assert reading.error == error


def test_a_stream_that_was_not_asked_for_is_read_as_one() -> None:
    last = chunk("a", end=True, usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 1})
    for body in (events(last), listed(last)):
        assert GEMINI.read_answer("generateContent", body).usage == Usage(input_tokens=3, output_tokens=1)


@pytest.mark.parametrize("value", [None, -1, "7", 7.5, True, [], {}, 10**15, float("nan")])
def test_figures_that_are_none_count_as_absent(value: Any) -> None:
    assert usage_of(promptTokenCount=value) is None
    usage = usage_of(
        promptTokenCount=5, candidatesTokenCount=value, promptTokensDetails=value, cachedContentTokenCount=value
    )
    assert usage == Usage(input_tokens=5)
    details = usage_of(promptTokenCount=5, promptTokensDetails=[value, {"modality": "AUDIO", "tokenCount": value}])
    assert details == Usage(input_tokens=5)


def test_parts_are_never_larger_than_their_whole() -> None:
    audio = [{"modality": "AUDIO", "tokenCount": 900}]
    usage = usage_of(
        promptTokenCount=5, cachedContentTokenCount=9, promptTokensDetails=audio, candidatesTokensDetails=audio
    )
    assert usage == Usage(input_tokens=9, cache_read_tokens=9, input_audio_tokens=9)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), max_size=60),
    st.sampled_from([events, listed]),
)
def test_however_a_stream_is_cut_it_is_read_alike(texts: list[str], sizes: list[int], form: Any) -> None:
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 6}
    body = form(*map(chunk, texts), chunk("end", end=True, usageMetadata=usage))
    reader, position = GEMINI.reader("streamGenerateContent", REQUEST), 0
    for size in [*sizes, len(body)]:
        reader.feed(body[position : position + size])
        position += size
    reader.close()
    assert reader.reading() == stream(body)


def test_errors_have_googles_shape() -> None:
    body = json.loads(GEMINI.error_body(429, code="limit_spent", type="", message="spent", request_id="c_1"))
    assert body["error"]["code"] == 429
    assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert body["error"]["message"] == "spent"
    assert body["error"]["details"][0]["reason"] == "LIMIT_SPENT"
    for status, name in (
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (503, "UNAVAILABLE"),
    ):
        assert json.loads(GEMINI.error_body(status, code="x", type="y", message="z"))["error"]["status"] == name


def test_lists_of_models_lose_their_prefix() -> None:
    assert GEMINI.read_models(b'{"models":[{"name":"models/gemini-x","displayName":"X"}]}') == ["gemini-x"]
    assert GEMINI.read_models(b"{}") == []
    with pytest.raises(ValueError, match="not a list"):
        GEMINI.read_models(b'{"models":[1]}')
