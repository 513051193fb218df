from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.usage import COUNT_MAX, NO_USAGE, USAGE_CLASSES, Usage, count_of


@given(st.integers(1, COUNT_MAX))
def test_a_whole_number_counts_as_itself_also_when_it_is_written_with_a_point(count: int) -> None:
    assert count_of(count) == count
    assert count_of(float(count)) == count and type(count_of(float(count))) is int


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, -1, -1.0, 0, -0.0, 1.5, float("nan"), float("inf"), 1e300, COUNT_MAX + 1, 10**30,
        float(COUNT_MAX + 1), "12", b"34", [12], {"count": 12}, 3 + 0j,
    ],
)  # fmt: skip
def test_what_is_no_usable_figure_counts_as_nothing(value: object) -> None:
    assert count_of(value) == 0


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_whatever_a_provider_says_makes_a_count_that_the_ledger_can_hold(value: object) -> None:
    count = count_of(value)
    assert type(count) is int and 0 <= count <= COUNT_MAX


def test_the_total_is_input_and_output_of_which_the_other_classes_are_parts() -> None:
    usage = Usage(
        input_tokens=1_000,
        cache_read_tokens=400,
        cache_write_tokens=100,
        output_tokens=200,
        reasoning_tokens=150,
        web_search_calls=3,
    )
    assert usage.total_tokens == 1_200


def test_no_usage_is_nothing_of_every_class() -> None:
    assert Usage() == NO_USAGE
    assert {getattr(NO_USAGE, name) for name in USAGE_CLASSES} == {0}
    with pytest.raises(AttributeError):
        NO_USAGE.input_tokens = 1  # type: ignore[misc]


def test_the_classes_are_those_of_the_outside_contract() -> None:
    assert set(USAGE_CLASSES) == {
        "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "input_audio_tokens",
        "input_image_tokens", "input_video_tokens", "cache_read_audio_tokens", "output_tokens", "reasoning_tokens",
        "output_audio_tokens", "output_image_tokens",
        "web_search_calls", "web_search_preview_calls", "map_search_calls", "file_search_calls",
        "code_interpreter_calls", "image_generation_calls", "image_tool_text_tokens", "image_tool_image_tokens",
        "image_tool_output_tokens",
        "audio_seconds", "characters", "images", "pages", "search_units",
    }  # fmt: skip
