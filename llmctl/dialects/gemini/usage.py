"""Gemini's `usageMetadata`, normalised into our classes, and the searches that Google bills beside it.

https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, NamedTuple

from msgspec import Raw

from ...domain.usage import Usage
from ..openai.usage import HIDDEN_TOKENS_MAX
from ..wire.lenient import count, counts, encoded_members, is_count, is_present, plain, short_name

_STATED = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")
PREDICTED = "token_count"  # of each of the texts that Vertex AI embedded
_GIVEN = ("promptTokensDetails", "promptTokenDetails", "toolUsePromptTokensDetails")  # embeddings spell the second
_CACHED = ("cacheTokensDetails",)
_MADE = ("candidatesTokensDetails",)
# Vertex AI's name of how a call was served -> the tier that prices know.
_TRAFFIC = {"ON_DEMAND": "", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
_STANDARD = "standard"
# As numbers where the client asked for `enum-encoding=int`.
_AUDIO, _IMAGE, _VIDEO, _DOCUMENT = ("AUDIO", 4), ("IMAGE", 2), ("VIDEO", 3), ("DOCUMENT", 5)
_BY_PROMPT = re.compile(r"(?:models/)?gemini-[12][.-]")


class Searches(NamedTuple):
    """How many of each kind are billed."""

    web: int = 0
    maps: int = 0


NO_SEARCHES = Searches()


def read_usage(raw: bytes | Raw, *, generates: bool = True, searches: Searches = NO_SEARCHES) -> Usage | None:
    """The usage object `raw` in our classes; None if it states no usable figure. `searches`: those that the answer
    tells of and that are billed."""
    values = plain(raw)
    if isinstance(tokens := values.get(PREDICTED), list):
        return Usage(input_tokens=sum(map(count, tokens)))
    if not any(is_count(values.get(name)) for name in _STATED):
        return None
    usage = counts(values)
    input_ = usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    thoughts = usage.get("thoughtsTokenCount", 0)  # outside candidatesTokenCount
    output = usage.get("candidatesTokenCount", 0) + thoughts
    missing = usage.get("totalTokenCount", 0) - input_ - output  # previews of 2.5 showed thoughts in the total alone
    if 0 < missing <= HIDDEN_TOKENS_MAX:
        if generates and is_count(values.get("promptTokenCount")):
            output += missing
        else:
            input_ += missing
    # Models that generate bill pages as text and images alike. Those that embed have no rate for pages, and bill images
    # dearer than text: https://ai.google.dev/gemini-api/docs/pricing#gemini-embedding-2
    images = _IMAGE if generates else (*_IMAGE, *_DOCUMENT)
    cached = usage.get("cachedContentTokenCount", 0)
    input_ = max(input_, cached)
    cached_audio = min(_tokens_of(_AUDIO, values, _CACHED), cached)
    audio = max(_tokens_of(_AUDIO, values, _GIVEN), cached_audio)
    return Usage(
        input_tokens=input_,
        cache_read_tokens=cached,
        input_audio_tokens=min(audio, input_),
        input_image_tokens=min(_tokens_of(images, values, _GIVEN), input_),
        input_video_tokens=min(_tokens_of(_VIDEO, values, _GIVEN), input_),
        cache_read_audio_tokens=cached_audio,
        output_tokens=output,
        reasoning_tokens=thoughts,
        output_audio_tokens=min(_tokens_of(_AUDIO, values, _MADE), output),
        output_image_tokens=min(_tokens_of(_IMAGE, values, _MADE), output),
        web_search_calls=searches.web,
        map_search_calls=searches.maps,
    )


def merge_usage(merged: dict[str, Raw], later: dict[str, Raw]) -> None:
    """Of a stream's usage objects, each of which counts from the beginning, the newest value of each field: the last
    one may leave out what an earlier one said."""
    merged.update((name, value) for name, value in later.items() if is_present(value))


def encoded(usage: dict[str, Raw]) -> bytes:
    return encoded_members(usage) if usage else b""


def served_tier(raw: bytes) -> str:
    """The tier that served the call, as prices name it; "" is the standard one."""
    values = plain(raw)
    traffic = short_name(values.get("trafficType"))
    tier = short_name(values.get("serviceTier")).lower() or _TRAFFIC.get(traffic, traffic.lower())
    return "" if tier == _STANDARD else tier


def billed_searches(queries: Set[str], model: str, *, web: bool, maps: bool) -> Searches:
    """What `queries` are billed as. `web` and `maps`: the answer has something from there.

    Searches are billed by the query from Gemini 3 on, empty and repeated ones left out, and by the prompt before:
    https://ai.google.dev/gemini-api/docs/google-search#pricing. So are those in Google Maps, by a price of their own,
    if something was found there: https://ai.google.dev/gemini-api/docs/maps-grounding#pricing. Their queries stand
    among the others; which are whose is not said, and an answer from both may have asked Maps more than once.
    """
    of_prompt = _BY_PROMPT.match(model) is not None
    asked = min(len(queries), 1) if of_prompt else len(queries)
    if not maps:
        return Searches(web=asked)
    return Searches(web=asked, maps=1) if web else Searches(maps=max(asked, 1))


def _tokens_of(modality: tuple[str | int, ...], values: dict[str, Any], names: tuple[str, ...]) -> int:
    return sum(
        count(one.get("tokenCount"))
        for name in names
        if isinstance(details := values.get(name), list)
        for one in details
        if isinstance(one, dict) and one.get("modality") in modality
    )
