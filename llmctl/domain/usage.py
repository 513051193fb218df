"""What one call used, by class. Totals include their parts."""

from __future__ import annotations

from typing import Literal, NamedTuple

UsageSource = Literal["reported", "estimated"]

# Beyond any model's context window by orders of magnitude: a larger figure is a provider's mistake, not usage.
COUNT_MAX = 1_000_000_000


class Usage(NamedTuple):  # one is made for every call: a tuple, because a frozen dataclass takes five times as long
    """Integers >= 0. `input_tokens` and `output_tokens` are totals; the others are parts of them, tool calls, or what
    is billed by another unit than tokens."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0  # part of cache_write_tokens
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    input_video_tokens: int = 0
    cache_read_audio_tokens: int = 0  # part of cache_read_tokens and of input_audio_tokens
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    web_search_calls: int = 0
    web_search_preview_calls: int = 0  # of OpenAI's older tool, which costs more on some models
    map_search_calls: int = 0
    file_search_calls: int = 0
    code_interpreter_calls: int = 0
    image_generation_calls: int = 0
    image_tool_text_tokens: int = 0  # what that tool's own model read and made: no part of the input and output
    image_tool_image_tokens: int = 0
    image_tool_output_tokens: int = 0
    audio_seconds: int = 0  # of speech that was read; rounded up
    characters: int = 0  # that were spoken
    images: int = 0  # that were made
    pages: int = 0  # that were read
    search_units: int = 0  # of a reranker

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


USAGE_CLASSES: tuple[str, ...] = Usage._fields
NO_USAGE = Usage()


def count_of(value: object) -> int:
    """A provider's figure as a usable count: anything but an integer in 0..COUNT_MAX (or a whole float) counts as 0."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and 0 < value <= COUNT_MAX:
        return value
    return 0
