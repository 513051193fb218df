"""Requests in the OpenAI dialect: chat completions, completions, responses, embeddings, and what is asked about stored
responses.

Shapes: the types of the `openai` package 3.54 and https://developers.openai.com/api/reference. Servers that speak the
dialect add names of their own; those that decide money are read too (llama.cpp takes `n_predict` before `max_tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from ...domain.call import Ask
from ...domain.demand import IMAGES, UNKNOWN_TURNS
from ...domain.errors import Refused
from ..content import AUDIO, Images, cache_write_ttl
from ..request import Request, check_model, end_user_id, read_model, read_outputs, read_tier
from ..wire.fields import Fields, bad_request, may_say, read_object
from ..wire.lenient import items
from .content import REFERENCES, RESPONSE_ITEMS, RESPONSE_NAMES, items_reason, messages_reason, texts_reason
from .extras import extras
from .references import response_references, spoken_references
from .tools import chat_tool_turns, image_tool_tokens, response_tool_turns, search_turns

CHOICES_MAX = 10_000  # n, best_of: OpenAI takes 128
PROMPTS_MAX = 10_000  # in one request: OpenAI takes 2,048
ID_CHARACTERS_MAX = 200

# What would be billed without our seeing it, or lead to another model than the one that was judged.
NOT_METERED: dict[str, str] = {
    "background": "only responses run in the background",
    # Conversations are made through an API that is not passed on: an id here would be somebody else's.
    "conversation": "stored conversations are not passed on; previous_response_id goes on from a response",
    "deferred": "deferred completions are not metered yet",  # xAI
    "multi_agent": "agents that a provider runs by itself have no bound, and are not metered",
    "models": "a list of models to fall back on is not metered; name one model",  # OpenRouter
    "preset": "a stored preset can change the model, and is not metered",  # OpenRouter
}
# About a response that the provider keeps.
ABOUT_STORED = frozenset({"responses.retrieve", "responses.cancel", "responses.delete", "responses.input_items"})
OUTPUT_NAMES = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "max_new_tokens"})
CHOICE_NAMES = frozenset({"n", "best_of", "n_cmpl"})
# Of these no variant in another case may stand in a body.
MONEY_NAMES = frozenset(
    OUTPUT_NAMES
    | CHOICE_NAMES
    | REFERENCES.keys()
    | NOT_METERED.keys()
    | {"model", "modalities", "messages", "input", "prompt", "instructions", "stream", "stream_options", "tools"}
    | {"service_tier", "max_tool_calls", "web_search_options", "context_management", "plugins"}
    | {"search_parameters", "user", "safety_identifier", "suffix", "functions", "store"}
)
AGENTS = frozenset({"enabled"})
STREAM_OPTIONS = frozenset({"include_usage"})
USAGE_PATH = ("stream_options", "include_usage")
_IDENTITIES = frozenset({"safety_identifier", "user"})
_NO_FIELDS = read_object(b"{}")

_TOKENS = re.compile(rb"\[[\s\d,]*+\]")
_PROMPT = re.compile(rb'[\[,]\s*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|\[[^\[\]"]*+\]|\d++)\s*+', re.DOTALL)


def read_request(endpoint: str, body: bytes, path_model: str = "") -> Request:
    """The request in `body`; `path_model` where the path names the model, and the body's counts for nothing (Azure).
    Raises Refused("bad_request") and Refused("not_supported")."""
    if endpoint in ABOUT_STORED:
        # Its path says all; no body is passed on, for none was judged.
        return Request(Ask(endpoint, "", False, 0, generates=False, free=True), b"", _NO_FIELDS, model_in_body=False)
    fields = read_object(body, MONEY_NAMES)
    if not NOT_METERED.keys().isdisjoint(fields.values):
        _refuse_unmetered(fields, endpoint)
    if path_model:
        return replace(_READ[endpoint](fields, check_model(path_model)), model_in_body=False)
    return _READ[endpoint](fields, read_model(fields))


def read_chat(fields: Fields, model: str) -> Request:
    turns = chat_tool_turns(fields, model)
    images = Images()
    reason = messages_reason(fields.values.get("messages"), images)
    more = extras(fields, reason) if reason or turns else ()
    spoken = spoken_references(fields.raw("messages")) if reason else ()
    reason = _reference(fields) or reason or _media_output(fields)
    request = _generating(
        fields, "chat.completions", model, reason, turns, images, multiplier=_choices(fields), options=True
    )
    return replace(request, ask=replace(request.ask, extras=more, refers_to=spoken)) if more or spoken else request


def read_completion(fields: Fields, model: str) -> Request:
    multiplier = _choices(fields) * _prompts(fields)
    return _generating(
        fields, "completions", model, _reference(fields), 0, Images(), multiplier=multiplier, options=True
    )


def read_response(fields: Fields, model: str) -> Request:
    reason = _reference(fields) or ("a stored prompt" if "prompt" in fields else "")
    fields.string("instructions")
    images = Images()
    item_reason, turns = items_reason(fields.raw("input"), RESPONSE_ITEMS, RESPONSE_NAMES, images)
    turns = response_tool_turns(fields) or turns or search_turns(fields, model)
    if "context_management" in fields:
        turns = UNKNOWN_TURNS  # a compaction on the server bills the conversation once more
    request = _generating(fields, "responses", model, reason or item_reason, turns, images, multiplier=1, options=False)
    ask = replace(
        request.ask,
        continues=_continued(fields),
        stores=fields.boolean("store") is not False,
        background=bool(fields.boolean("background")),
        extras=extras(fields, item_reason) if item_reason or turns else (),
        **response_references(fields)._asdict(),
    )
    return replace(request, ask=ask)


def read_compaction(fields: Fields, model: str) -> Request:
    """It takes what a response takes, but for an output maximum:
    https://developers.openai.com/api/reference/resources/responses/methods/compact"""
    request = read_response(fields, model)
    ask = replace(request.ask, endpoint="responses.compact", stores=False, output_tokens_max=None, output_fixed=True)
    return replace(request, ask=ask, outputs=())


def read_count(fields: Fields, model: str) -> Request:
    """OpenAI counts for nothing: https://developers.openai.com/api/docs/guides/token-counting"""
    ask = Ask(
        endpoint="responses.input_tokens",
        model=model,
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        free=True,
        end_user=_end_user(fields),
        continues=_continued(fields),
        **response_references(fields)._asdict(),
    )
    return Request(ask, fields.body, fields)


def read_embedding(fields: Fields, model: str) -> Request:
    no_texts = texts_reason(fields.raw("input"))
    ask = Ask(
        endpoint="embeddings",
        model=model,
        stream=_stream(fields),
        input_bytes=len(fields.body),
        generates=False,
        unbounded_input=_reference(fields) or no_texts,
        inputs=max(1, len(items(fields.raw("input")))) if no_texts else 1,
        service_tier=read_tier(fields),
        end_user=_end_user(fields),
    )
    return Request(ask, fields.body, fields)


_READ: dict[str, Callable[[Fields, str], Request]] = {
    "chat.completions": read_chat,
    "completions": read_completion,
    "responses": read_response,
    "responses.compact": read_compaction,
    "responses.input_tokens": read_count,
    "embeddings": read_embedding,
}


def _generating(
    fields: Fields,
    endpoint: str,
    model: str,
    reason: str,
    turns: int,
    images: Images,
    *,
    multiplier: int,
    options: bool,
) -> Request:
    """The request of an endpoint that generates. `options`: its streams report usage only when asked to."""
    stream = _stream(fields)
    wants_usage = True
    if stream and options:
        inner = fields.object("stream_options", STREAM_OPTIONS)
        wants_usage = inner is not None and bool(inner.boolean("include_usage"))
    outputs = read_outputs(fields, OUTPUT_NAMES)
    values = [value for _, value in outputs]
    # Some servers take 0 for no bound (Ollama). OpenAI takes it in completions alone, to have a prompt scored.
    unbounded = 0 in values
    if unbounded:
        if endpoint != "completions":
            name = outputs[values.index(0)][0][0]
            raise bad_request(f"{name} must be at least 1", param=name)
        outputs = ()
    ask = Ask(
        endpoint,
        model,
        stream,
        len(fields.body),
        max(values) if outputs else None,
        multiplier,
        service_tier=read_tier(fields),
        cache_write_ttl=cache_write_ttl(fields.text),
        wants_usage=wants_usage,
        output_fixed=unbounded,
        end_user=_end_user(fields),
    )
    if turns or reason or images.count:
        ask = replace(
            ask,
            unbounded_input=images.reason(reason),
            images=images.count,
            image_bytes=images.bytes,
            server_tool_turns=turns,
            image_tool_tokens=image_tool_tokens(fields) if turns else 0,
        )
    return Request(ask, fields.body, fields, outputs, USAGE_PATH if options else ())


def _refuse_unmetered(fields: Fields, endpoint: str) -> None:
    for name, why in NOT_METERED.items():
        if name == "background" and endpoint == "responses":
            continue
        agents = fields.object(name, AGENTS) if name == "multi_agent" else None
        if agents is not None and agents.boolean("enabled") is False:
            continue
        if name in fields and bytes(fields.values[name]) != b"false":
            raise Refused("not_supported", why, hint=f"leave out {name}", param=name)


def _continued(fields: Fields) -> str:
    """The response that it goes on from."""
    if "previous_response_id" not in fields:
        return ""
    previous = fields.string("previous_response_id")
    if not previous or len(previous) > ID_CHARACTERS_MAX or not previous.isprintable():
        raise bad_request(
            f"previous_response_id must be at most {ID_CHARACTERS_MAX} printable characters",
            param="previous_response_id",
        )
    return previous


def _stream(fields: Fields) -> bool:
    return bool(fields.boolean("stream"))


def _end_user(fields: Fields) -> str:
    if _IDENTITIES.isdisjoint(fields.values):
        return ""
    return end_user_id(fields.string("safety_identifier") or fields.string("user"))


def _choices(fields: Fields) -> int:
    """How many answers are generated for each prompt: `best_of` are, of which `n` are returned."""
    if CHOICE_NAMES.isdisjoint(fields.values):
        return 1
    values = [fields.integer(name, most=CHOICES_MAX) for name in CHOICE_NAMES]
    return max((1, *(value for value in values if value is not None)))


def _prompts(fields: Fields) -> int:
    """How many prompts `prompt` holds: a list of numbers is one, as tokens."""
    value = fields.raw("prompt")
    if value is None:
        return 1
    text = bytes(value)
    if text.startswith(b'"') or _TOKENS.fullmatch(text):
        return 1
    count = position = 0
    while found := _PROMPT.match(text, position):
        count, position = count + 1, found.end()
        if count > PROMPTS_MAX:
            raise bad_request(f"prompt holds more than {PROMPTS_MAX:,} prompts", param="prompt")
    if text[position:] != b"]":
        raise bad_request("prompt must be a string, a list of strings, or lists of token numbers", param="prompt")
    return count


def _reference(fields: Fields) -> str:
    """What the request refers to that is stored at the provider."""
    if REFERENCES.keys().isdisjoint(fields.values):
        return ""
    return next((reason for name, reason in REFERENCES.items() if _refers(fields, name)), "")


def _refers(fields: Fields, name: str) -> bool:
    # Gemini's OpenAI surface takes what is its own as extra_body.google.cached_content.
    return name in fields and (name != "extra_body" or may_say(fields.values[name], b"cached"))


def _media_output(fields: Fields) -> str:
    """Answers that are not text: then the call is priced as one with media, and its input is not bounded by bytes."""
    modalities = fields.values.get("modalities")
    if modalities is None:
        return ""
    return AUDIO if may_say(modalities, b'"audio"') else IMAGES if may_say(modalities, b'"image"') else ""
