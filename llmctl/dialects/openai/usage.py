"""`usage` of everything that speaks the OpenAI dialect, normalised into our classes. Each quirk names its provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from ...domain.price import IMAGE_TOOL_METERS
from ...domain.usage import COUNT_MAX, Usage
from ..wire.lenient import count, counts, inner, is_count, items, members, plain

INPUT_NAMES, OUTPUT_NAMES = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
SEARCH, PREVIEW_SEARCH = "web_search_call", "web_search_preview_call"
HIDDEN_TOKENS_MAX = 10_000_000  # more than any model thinks; beyond it the total is a mistake


Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


class _PromptDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: Count = 0
    audio_tokens: Count = 0


class _CompletionDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: Count = 0
    audio_tokens: Count = 0
    accepted_prediction_tokens: Count = 0
    rejected_prediction_tokens: Count = 0


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What most servers report for chat and completions, without any quirk: most answers are read by this alone."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_usual = msgspec.json.Decoder(_Usual).decode
_NO_PROMPT_DETAILS, _NO_COMPLETION_DETAILS = _PromptDetails(), _CompletionDetails()


def read_usage(raw: bytes | Raw, *, generates: bool = True, tool_calls: dict[str, int] | None = None) -> Usage | None:
    """The usage object `raw` in our classes; None if it states no usable figure.

    `tool_calls`: billed calls that were counted in the answer's output, for usage that does not state them.
    """
    usual = read_usual(raw) if not tool_calls else None
    return usual or _read_any(raw, generates, tool_calls or {})


def states(values: Mapping[str, object], names: tuple[str, ...]) -> bool:
    """Whether a usage object says how much, by one of these names: a figure that is missing or makes no sense is
    none."""
    return any(is_count(values.get(name)) for name in names)


def read_usual(raw: bytes | Raw) -> Usage | None:
    """The usage object of most answers; None if it is another."""
    try:
        usage = _usual(raw)
    except (ValueError, RecursionError):
        return None
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    of_prompt = usage.prompt_tokens_details or _NO_PROMPT_DETAILS
    of_completion = usage.completion_tokens_details or _NO_COMPLETION_DETAILS
    if (
        prompt + completion != usage.total_tokens
        or usage.total_tokens == 0
        or max(of_prompt.cached_tokens, of_prompt.audio_tokens) > prompt
        or max(of_completion.reasoning_tokens, of_completion.audio_tokens) > completion
    ):
        return None
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=of_prompt.cached_tokens,
        input_audio_tokens=of_prompt.audio_tokens,
        output_tokens=completion,
        reasoning_tokens=of_completion.reasoning_tokens,
        output_audio_tokens=of_completion.audio_tokens,
    )


def _read_any(raw: bytes | Raw, generates: bool, tool_calls: dict[str, int]) -> Usage | None:
    values = plain(raw)
    input_stated, output_stated = states(values, INPUT_NAMES), states(values, OUTPUT_NAMES)
    usage = counts(values)
    total = usage.get("total_tokens", 0)
    if not (input_stated or output_stated or total):
        return None
    of_prompt = inner(
        values, "prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details"
    )
    prompt = counts(of_prompt)
    completion = counts(inner(values, "completion_tokens_details", "output_tokens_details"))

    output = max(usage.get("completion_tokens", 0), usage.get("output_tokens", 0))
    input_ = max(usage.get("prompt_tokens", 0), usage.get("input_tokens", 0))
    cached = _cache_read(usage, prompt)
    written = _cache_write(usage, prompt)
    reasoning = completion.get("reasoning_tokens", 0)
    cached_audio = min(count(inner(of_prompt, "cached_tokens_details").get("audio_tokens")), cached)
    input_audio = max(prompt.get("audio_tokens", 0), usage.get("audio_prompt_tokens", 0), cached_audio)

    audio_seconds = usage.get("prompt_audio_seconds", 0)
    missing = total - input_ - output  # tokens that only the total shows
    if 0 < missing <= HIDDEN_TOKENS_MAX:
        if not generates or not input_stated:
            input_ += missing
        elif audio_seconds:  # Mistral: audio is outside prompt_tokens
            input_ += missing
            input_audio = max(input_audio, missing)
        elif missing == cached + written:  # a cache that is outside the prompt, as in Anthropic's own dialect
            input_ += missing
        else:  # Gemini and xAI: thinking is outside completion_tokens
            output += missing
            reasoning = max(reasoning, missing)
    if apart := usage.get("reasoning_tokens", 0):
        reasoning = max(reasoning, apart)
        if "citation_tokens" in usage:  # Perplexity's deep research: outside completion_tokens and total_tokens
            output += apart
    if cached > input_:  # Grok on Azure: the prompt shows less than was read from the cache
        input_ = max(input_, cached + written)

    output = max(output, reasoning)
    return Usage(
        input_tokens=input_,
        cache_read_tokens=cached,
        cache_write_tokens=min(written, input_ - cached),  # OpenAI: "unadjusted", may include what was read
        input_audio_tokens=min(input_audio, input_),
        input_image_tokens=min(prompt.get("image_tokens", 0), input_),
        input_video_tokens=min(prompt.get("video_tokens", 0), input_),
        cache_read_audio_tokens=cached_audio,
        output_tokens=output,
        reasoning_tokens=reasoning,
        output_audio_tokens=min(completion.get("audio_tokens", 0), output),
        output_image_tokens=min(completion.get("image_tokens", 0), output),
        audio_seconds=audio_seconds,
        **_tool_calls(values, usage, tool_calls),
    )


def count_tool_calls(response: Mapping[str, Raw]) -> dict[str, int]:
    """What a response bills of its tools: calls by the type of its items, and the tokens of images by their classes.

    `tool_usage`: https://developers.openai.com/api/reference/resources/responses
    """
    counts = _count_items(response.get("output"))
    stated = plain(response["tool_usage"]) if "tool_usage" in response else {}
    if not (counts or stated):
        return counts
    # One call may ask several questions, each billed; discounted ones are left out here, and may cost something.
    if searches := max(counts.pop(SEARCH, 0), count(inner(stated, "web_search").get("num_requests"))):
        counts[PREVIEW_SEARCH if _searches_in_preview(response.get("tools")) else SEARCH] = searches
    return counts | _image_tokens(inner(stated, "image_gen"))


def _image_tokens(stated: dict[str, Any]) -> dict[str, int]:
    """What is not told apart is of images, which cost more than text. So is what was cached: it may be left out."""
    text = min(count(inner(stated, "input_tokens_details").get("text_tokens")), count(stated.get("input_tokens")))
    image = count(stated.get("input_tokens")) - text
    found = zip(IMAGE_TOOL_METERS, (text, image, count(stated.get("output_tokens"))), strict=True)
    return {name: tokens for name, tokens in found if tokens}


def _searches_in_preview(tools: Raw | None) -> bool:
    """Which tool it was that searched, by those that the response repeats: its items are alike. On models that do not
    reason the older one costs two and a half times as much: https://developers.openai.com/api/docs/pricing"""
    kinds = (bytes(members(tool).get("type", b"")) for tool in items(tools)) if tools is not None else ()
    return any(kind.startswith(b'"web_search_preview') for kind in kinds)


def _count_items(output: Raw | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    containers: set[bytes] = set()
    if output is None or b'_call"' not in bytes(output):
        return counts
    for item in items(output):
        values = members(item)
        kind = bytes(values.get("type", b"")).strip(b'"').decode("ascii", "replace")
        if kind == SEARCH:
            # OpenAI bills searches, not the opening of pages or finding in them.
            action = plain(values["action"]).get("type") if "action" in values else "search"
            if action not in ("search", None):
                continue
        container = values.get("container_id")
        if kind == "shell_call":  # of one that OpenAI runs, in the containers of the interpreter
            container = members(values.get("environment", b"")).get("container_id")
            kind = "code_interpreter_call" if container is not None else kind
        if kind == "code_interpreter_call" and container is not None:
            # OpenAI bills the container, however often code runs in it: https://platform.openai.com/docs/pricing
            if bytes(container) in containers:
                continue
            containers.add(bytes(container))
        if kind.endswith("_call"):
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _cache_read(usage: dict[str, int], prompt: dict[str, int]) -> int:
    return max(
        prompt.get("cached_tokens", 0),
        usage.get("prompt_cache_hit_tokens", 0),  # DeepSeek
        usage.get("num_cached_tokens", 0),  # Mistral
        usage.get("cached_tokens", 0),  # Cohere, Moonshot
        usage.get("cache_read_input_tokens", 0),  # Databricks
        usage.get("cacheReadInputTokens", 0),  # Bedrock
    )


def _cache_write(usage: dict[str, int], prompt: dict[str, int]) -> int:
    return max(
        prompt.get("cache_write_tokens", 0),  # OpenAI from GPT-5.6, OpenRouter
        prompt.get("cache_creation_tokens", 0),
        usage.get("cache_creation_input_tokens", 0),  # Databricks
        usage.get("cacheWriteInputTokens", 0),  # Bedrock
    )


def _tool_calls(values: dict[str, Any], usage: dict[str, int], counted: dict[str, int]) -> dict[str, int]:
    xai = inner(values, "server_side_tool_usage_details")
    if xai:
        return {
            "web_search_calls": count(xai.get("web_search_calls")) + count(xai.get("x_search_calls")),
            "file_search_calls": count(xai.get("file_search_calls")) + count(xai.get("document_search_calls")),
            "code_interpreter_calls": count(xai.get("code_interpreter_calls")),
            "image_generation_calls": count(xai.get("image_generation_calls")),
        }
    searches = max(
        counted.get(SEARCH, 0),
        usage.get("num_search_queries", 0),  # Perplexity's deep research
        count(inner(values, "server_tool_use", "server_tool_use_details").get("web_search_requests")),  # OpenRouter
    )
    return {
        "web_search_calls": searches,
        "web_search_preview_calls": counted.get(PREVIEW_SEARCH, 0),
        "file_search_calls": counted.get("file_search_call", 0),
        "code_interpreter_calls": counted.get("code_interpreter_call", 0),
        "image_generation_calls": counted.get("image_generation_call", 0),
        **{name: counted.get(name, 0) for name in IMAGE_TOOL_METERS},
    }
