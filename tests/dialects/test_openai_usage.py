"""Each trap of the OpenAI dialect's usage objects, once. The figures are made up."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from llmctl.dialects.openai.usage import count_tool_calls, read_usage
from llmctl.dialects.reported_cost import reported_cost_nano_usd
from llmctl.domain.usage import COUNT_MAX, Usage


def usage(generates: bool = True, **stated: Any) -> Usage | None:
    return read_usage(json.dumps(stated).encode(), generates=generates)


CHAT: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def test_chat_and_responses_name_the_same_things_differently() -> None:
    chat = usage(
        **CHAT,
        prompt_tokens_details={
            "cached_tokens": 60,
            "audio_tokens": 3,
            "image_tokens": 4,
            "video_tokens": 5,
            "cache_write_tokens": 30,
        },
        completion_tokens_details={"reasoning_tokens": 7, "audio_tokens": 2, "image_tokens": 1},
    )
    assert chat == Usage(
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_tokens=30,
        input_audio_tokens=3,
        input_image_tokens=4,
        input_video_tokens=5,
        output_tokens=20,
        reasoning_tokens=7,
        output_audio_tokens=2,
        output_image_tokens=1,
    )
    response = usage(
        input_tokens=100,
        output_tokens=20,
        total_tokens=120,
        input_tokens_details={"cached_tokens": 60},
        output_tokens_details={"reasoning_tokens": 7},
    )
    assert response == Usage(input_tokens=100, cache_read_tokens=60, output_tokens=20, reasoning_tokens=7)


@pytest.mark.parametrize(
    "spelled",
    [
        {"prompt_tokens_details": {"cached_tokens": 60}},
        {"input_tokens_details": {"cached_tokens": 60}},
        {"prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 40},
        {"num_cached_tokens": 60},
        {"cached_tokens": 60},
        {"cache_read_input_tokens": 60},
        {"cacheReadInputTokens": 60},
        {"prompt_cache_hit_tokens": 60, "prompt_tokens_details": {"cached_tokens": 60}},
    ],
)
def test_cached_input_is_one_class_however_it_is_spelled(spelled: dict[str, Any]) -> None:
    assert usage(**CHAT, **spelled) == Usage(input_tokens=100, cache_read_tokens=60, output_tokens=20)


@pytest.mark.parametrize("name", ["prompt_tokens_details", "input_token_details"])
def test_audio_from_a_cache_is_told_apart(name: str) -> None:
    details = {
        "audio_tokens": 70,
        "cached_tokens": 60,
        "cached_tokens_details": {"audio_tokens": 50, "text_tokens": 10},
    }
    assert usage(**CHAT, **{name: details}) == Usage(
        input_tokens=100, cache_read_tokens=60, input_audio_tokens=70, cache_read_audio_tokens=50, output_tokens=20
    )
    read = usage(**CHAT, **{name: details | {"cached_tokens_details": [50]}})
    assert read is not None
    assert read.cache_read_audio_tokens == 0


def test_more_cached_than_prompt_never_makes_a_negative() -> None:
    read = usage(prompt_tokens=10, completion_tokens=5, total_tokens=15, prompt_tokens_details={"cached_tokens": 161})
    assert read == Usage(input_tokens=161, cache_read_tokens=161, output_tokens=5)


def test_thinking_that_only_the_total_shows_is_output() -> None:
    assert usage(prompt_tokens=100, completion_tokens=20, total_tokens=500) == Usage(
        input_tokens=100, output_tokens=400, reasoning_tokens=380
    )
    apart = usage(
        prompt_tokens=32, completion_tokens=9, total_tokens=135, completion_tokens_details={"reasoning_tokens": 94}
    )
    assert apart == Usage(input_tokens=32, output_tokens=103, reasoning_tokens=94)


def test_audio_outside_the_prompt_is_input() -> None:
    assert usage(prompt_tokens=4, completion_tokens=20, total_tokens=399, prompt_audio_seconds=30) == Usage(
        input_tokens=379, input_audio_tokens=375, output_tokens=20, audio_seconds=30
    )


def test_a_cache_outside_the_prompt_is_input() -> None:
    assert usage(prompt_tokens=4, completion_tokens=20, total_tokens=124, cache_read_input_tokens=100) == Usage(
        input_tokens=104, cache_read_tokens=100, output_tokens=20
    )


def test_cache_writes_are_part_of_what_was_not_read() -> None:
    read = usage(**CHAT, prompt_tokens_details={"cached_tokens": 80, "cache_write_tokens": 100})
    assert read is not None
    assert (read.input_tokens, read.cache_read_tokens, read.cache_write_tokens) == (100, 80, 20)


def test_embeddings_may_state_only_a_total() -> None:
    assert usage(generates=False, total_tokens=8) == Usage(input_tokens=8)
    assert usage(generates=False, prompt_tokens=5, total_tokens=8) == Usage(input_tokens=8)


def test_billed_calls_of_tools_are_counted() -> None:
    xai = {"web_search_calls": 2, "x_search_calls": 1, "code_interpreter_calls": 3, "document_search_calls": 4}
    read = usage(**CHAT, server_side_tool_usage_details=xai)
    assert read is not None
    assert (read.web_search_calls, read.code_interpreter_calls, read.file_search_calls) == (3, 3, 4)
    openrouter = usage(**CHAT, server_tool_use_details={"web_search_requests": 5})
    assert openrouter is not None
    assert openrouter.web_search_calls == 5
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},  # not billed
        {"type": "file_search_call"},
        {"type": "code_interpreter_call", "container_id": "cntr_1"},
        {"type": "code_interpreter_call", "container_id": "cntr_1"},  # billed once
        {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "cntr_2"}},
        {"type": "shell_call", "environment": {"type": "local"}},
        {"type": "image_generation_call"},
        {"type": "function_call"},
        "rubbish",
    ]
    read = response_usage(output=output)
    assert read is not None
    assert (read.web_search_calls, read.file_search_calls) == (1, 1)
    assert (read.code_interpreter_calls, read.image_generation_calls) == (2, 1)


def response_usage(**response: Any) -> Usage | None:
    calls = count_tool_calls({name: Raw(json.dumps(value).encode()) for name, value in response.items()})
    return read_usage(json.dumps(CHAT).encode(), tool_calls=calls)


SEARCH = {"type": "web_search_call", "action": {"type": "search", "queries": ["a", "b"]}}


@pytest.mark.parametrize(
    ("tools", "searches", "in_preview"),
    [
        (["web_search"], 1, 0),
        (["web_search_preview"], 0, 1),
        (["function", "web_search_preview_2025_03_11"], 0, 1),
        (["web_search", "web_search_preview"], 0, 1),  # either may have searched: the dearer
        (["file_search"], 1, 0),
        (None, 1, 0),
    ],
)
def test_a_search_is_of_the_tool_that_the_response_repeats(
    tools: list[str] | None, searches: int, in_preview: int
) -> None:
    listed = [{"type": kind} for kind in tools] if tools is not None else None
    read = response_usage(output=[SEARCH], tools=listed)
    assert read is not None
    assert (read.web_search_calls, read.web_search_preview_calls) == (searches, in_preview)


@pytest.mark.parametrize(
    ("stated", "tokens"),
    [
        (
            {"input_tokens": 60, "input_tokens_details": {"text_tokens": 50, "image_tokens": 10}, "output_tokens": 9},
            (50, 10, 9),
        ),
        ({"input_tokens": 60, "output_tokens": 9}, (0, 60, 9)),
        ({"input_tokens": 60, "input_tokens_details": {"text_tokens": 90}}, (60, 0, 0)),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, (0, 0, 0)),
        ({"input_tokens": -1, "output_tokens": "9", "input_tokens_details": []}, (0, 0, 0)),
        ([], (0, 0, 0)),
        (None, (0, 0, 0)),
    ],
)
def test_the_tokens_of_the_tool_for_images_stand_beside_those_of_the_model(
    stated: object, tokens: tuple[int, int, int]
) -> None:
    read = response_usage(output=[{"type": "image_generation_call"}], tool_usage={"image_gen": stated})
    assert read == Usage(
        input_tokens=100,
        output_tokens=20,
        image_generation_calls=1,
        image_tool_text_tokens=tokens[0],
        image_tool_image_tokens=tokens[1],
        image_tool_output_tokens=tokens[2],
    )


@pytest.mark.parametrize(("stated", "billed"), [(3, 3), (1, 2), (0, 2), (None, 2), ("9", 2), (-1, 2)])
def test_a_search_that_asks_several_questions_is_billed_as_often_as_the_response_says(
    stated: object, billed: int
) -> None:
    read = response_usage(output=[SEARCH, SEARCH], tool_usage={"web_search": {"num_requests": stated}})
    assert read is not None
    assert read.web_search_calls == billed
    assert response_usage(tool_usage={"web_search": {"num_requests": 0}}) == read._replace(web_search_calls=0)
    for odd in (None, [], {"web_search": None}, "x"):
        assert response_usage(output=[SEARCH, SEARCH], tool_usage=odd) == read._replace(web_search_calls=2)


def test_research_that_thinks_beside_its_answer() -> None:
    deep = usage(**CHAT, citation_tokens=1000, num_search_queries=48, reasoning_tokens=9000)
    assert deep == Usage(input_tokens=100, output_tokens=9020, reasoning_tokens=9000, web_search_calls=48)


@pytest.mark.parametrize("rubbish", [None, -5, "12", True, [], {}, 1.5, 10**12, 10**30])
def test_a_figure_that_makes_no_sense_counts_as_absent(rubbish: object) -> None:
    assert usage(prompt_tokens=rubbish, completion_tokens=20) == Usage(output_tokens=20)
    assert usage(prompt_tokens=100, completion_tokens=20, total_tokens=rubbish) == Usage(
        input_tokens=100, output_tokens=20
    )
    assert usage(**CHAT, prompt_tokens_details=rubbish) == Usage(input_tokens=100, output_tokens=20)
    assert usage(prompt_tokens=rubbish, completion_tokens=rubbish) is None
    assert usage(prompt_tokens=rubbish, completion_tokens=20, total_tokens=120) == Usage(
        input_tokens=100, output_tokens=20
    )


def test_whole_floats_and_numbers_too_long_for_python() -> None:
    assert read_usage(b'{"prompt_tokens":100.0,"completion_tokens":2e1}') == Usage(input_tokens=100, output_tokens=20)
    assert read_usage(b'{"prompt_tokens":%b,"completion_tokens":20}' % (b"9" * 5000)) == Usage(output_tokens=20)
    assert read_usage(b'{"prompt_tokens":1e999999999,"completion_tokens":20}') == Usage(output_tokens=20)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'"x"', b"{", b"{}", b'{"prompt_tokens":NaN}', b"\xff"])
def test_what_is_no_usage_is_none(raw: bytes) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("stated", "nano_usd"),
    [
        ('{"cost":0.00123}', 1_230_000),
        ('{"cost":1.5e-10}', 1),  # rounded up
        ('{"cost":0}', 0),
        ('{"cost":0.1}', 100_000_000),  # not 100000000.00000001
        ('{"cost":{"total_cost":0.006}}', 6_000_000),
        ('{"cost_in_usd_ticks":160708500}', 16_070_850),
        ('{"cost_in_usd_ticks":1}', 1),
        ('{"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.004}}', 4_000_000),
        ('{"cost":0.5,"is_byok":false,"cost_details":{"upstream_inference_cost":0.5}}', 500_000_000),
        ('{"cost":-1}', None),
        ('{"cost":"0.1"}', None),
        ('{"cost":1e999999999}', None),
        ('{"cost":1e-999999999}', 1),
        ('{"cost":1e12}', None),
        ('{"cost":true}', None),
        ('{"cost":null}', None),
        ("{}", None),
        ("[]", None),
    ],
)
def test_the_providers_own_statement_of_the_money(stated: str, nano_usd: int | None) -> None:
    assert reported_cost_nano_usd(stated.encode()) == nano_usd


COUNTS = st.integers(-5, 2 * COUNT_MAX) | st.none() | st.text(max_size=2) | st.floats() | st.booleans()
NAMES = ["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens", "cached_tokens"]
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"]), COUNTS
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(NAMES), COUNTS), DETAILS, DETAILS)
def test_parts_never_exceed_their_totals(stated: dict[str, Any], prompt: Any, completion: Any) -> None:
    read = usage(**stated, prompt_tokens_details=prompt, completion_tokens_details=completion)
    if read is None:
        return
    assert min(read.input_tokens, read.output_tokens, read.cache_write_tokens) >= 0
    assert read.cache_read_tokens + read.cache_write_tokens <= read.input_tokens
    assert read.input_audio_tokens <= read.input_tokens
    assert max(read.reasoning_tokens, read.output_audio_tokens) <= read.output_tokens
