"""Requests in the Gemini dialect: content generated at once or streamed, embeddings, the counting of tokens.

Shapes: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/embeddings, Vertex AI's
https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models/generateContent and
the types of the `google-genai` package 3.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw

from ...domain.call import Ask
from ...domain.demand import UNKNOWN_TURNS
from ...domain.errors import Refused
from ...domain.usage import COUNT_MAX
from ..content import Images, is_nothing
from ..request import Request, check_model, check_tier, thinking_floor
from ..wire.fields import Fields, bad_request, read_object, read_objects
from .content import contents_reason
from .fields import Spelled, flat, known, objects_in

CANDIDATES_MAX = 10_000  # Google takes 8
REQUESTS_MAX = 10_000  # in a batch; Google takes 100

TOP = known("contents", "systemInstruction", "tools", "generationConfig", "cachedContent", "serviceTier", "model")
CONFIG = known(
    *("maxOutputTokens", "candidateCount", "thinkingConfig", "responseModalities", "routingConfig"),
    "modelSelectionConfig",
)
THINKING = known("thinkingBudget")
EMBEDDING = known("content", "requests", "model")
PREDICTION = known("instances")
COUNTING = known("generateContentRequest", "model")

# Tools that the client runs. Every other kind is run by Google or for it, in turns that bill what they found.
_CLIENT_TOOLS = frozenset({"functiondeclarations", "computeruse"})
_EMBEDDED_TEXT = frozenset({"content", "tasktype", "title"})
_STANDARD_TIERS = frozenset({"unspecified", "standard"})
_items: Callable[[Raw], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode
_GAP = re.compile(rb"[ \t\r\n,]*+")
_DYNAMIC = b"-1"  # a thinking budget that the model chooses
_TEXT_ALONE = (b'["TEXT"]', b'"TEXT"')


def read_request(endpoint: str, body: bytes, path_model: str) -> Request:
    """The request in `body`; the path names its model. Raises Refused("bad_request") and Refused("not_supported")."""
    return _READ[endpoint](endpoint, read_object(body), check_model(path_model))


def read_generation(endpoint: str, fields: Fields, model: str) -> Request:
    top = Spelled(fields, TOP)
    config = top.object("generationConfig", CONFIG)
    if config is not None:
        _refuse_other_models(config)
    maximum = (top.written("generationConfig"), config.written("maxOutputTokens") if config else "maxOutputTokens")
    output_tokens_max = config.integer("maxOutputTokens") if config else None
    images = Images()
    reason = _unbounded(top, images)
    ask = Ask(
        endpoint=endpoint,
        model=model,
        stream=endpoint == "streamGenerateContent",
        input_bytes=len(fields.body),
        output_tokens_max=output_tokens_max,
        output_multiplier=max(1, (config.integer("candidateCount", most=CANDIDATES_MAX) or 1) if config else 1),
        output_tokens_floor=_thinking_floor(config, output_tokens_max) if config else 0,
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        server_tool_turns=_tool_turns(top.raw("tools")),
        service_tier=_tier(top),
        media_output=_media_output(config),
    )
    outputs = () if output_tokens_max is None else ((maximum, output_tokens_max),)
    return Request(
        ask, fields.body, fields, outputs, model_in_body=False, output_path=maximum, model_places=_named(top, model)
    )


def read_embedding(endpoint: str, fields: Fields, model: str) -> Request:
    """`embedContent` embeds one content, `batchEmbedContents` a list of such requests, each with the model's name."""
    top = Spelled(fields, EMBEDDING)
    images, places = Images(), [*_named(top, model)]
    reason = contents_reason(top.raw("content"), "content", images)
    inputs = 0
    for start, item in _requests(top):
        inputs += 1
        one = Spelled(item, EMBEDDING)
        reason = reason or contents_reason(one.raw("content"), "requests.content", images)
        places += _named(one, model, start)
    ask = Ask(
        endpoint=endpoint,
        model=model,
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        inputs=max(1, inputs) if images.reason(reason) else 1,
    )
    return Request(ask, fields.body, fields, model_in_body=False, model_places=tuple(places))


def read_count(endpoint: str, fields: Fields, model: str) -> Request:
    top = Spelled(fields, COUNTING)
    whole = top.object("generateContentRequest", TOP)
    places = _named(top, model) + (_named(whole, model) if whole is not None else ())
    ask = Ask(endpoint=endpoint, model=model, stream=False, input_bytes=len(fields.body), generates=False, free=True)
    return Request(ask, fields.body, fields, model_in_body=False, model_places=places)


def read_prediction(endpoint: str, fields: Fields, model: str) -> Request:
    """Vertex AI's general method: of all that it does, embeddings of text are metered."""
    value = Spelled(fields, PREDICTION).raw("instances")
    instances = read_objects(value, "instances") if value is not None else None
    if instances is None:
        raise bad_request("instances must be a list of objects", param="instances")
    for instance in instances:
        for name, inner in instance.items():
            if flat(name) not in _EMBEDDED_TEXT or memoryview(inner)[0] != ord('"'):
                why = (
                    "of predictions, only embeddings of text are metered; instances may hold content, task_type, title"
                )
                raise Refused("not_supported", why, param="instances")
    ask = Ask(endpoint=endpoint, model=model, stream=False, input_bytes=len(fields.body), generates=False)
    return Request(ask, fields.body, fields, model_in_body=False)


_READ: dict[str, Callable[[str, Fields, str], Request]] = {
    "generateContent": read_generation,
    "streamGenerateContent": read_generation,
    "embedContent": read_embedding,
    "batchEmbedContents": read_embedding,
    "countTokens": read_count,
    "predict": read_prediction,
}


def _unbounded(top: Spelled, images: Images) -> str:
    if "cachedContent" in top:
        return "a cached content"
    contents = contents_reason(top.raw("contents"), "contents", images)
    return contents or contents_reason(top.raw("systemInstruction"), "systemInstruction", images)


def _tool_turns(value: Raw | None) -> int:
    if value is None:
        return 0
    tools = objects_in(value, "tools")
    if tools is None:
        return UNKNOWN_TURNS
    kinds = (flat(name) for tool in tools for name, value in tool.items() if not is_nothing(value))
    return 0 if _CLIENT_TOOLS.issuperset(kinds) else UNKNOWN_TURNS


def _thinking_floor(config: Spelled, output_tokens_max: int | None) -> int:
    """Thoughts count towards maxOutputTokens: below their budget nothing would be left for an answer
    (https://ai.google.dev/gemini-api/docs/thinking)."""
    thinking = config.object("thinkingConfig", THINKING)
    if thinking is None:
        return 0
    raw = thinking.raw("thinkingBudget")
    if raw is None or bytes(raw) == _DYNAMIC:
        return 0
    return thinking_floor(thinking.integer("thinkingBudget", most=COUNT_MAX - 1), output_tokens_max)


def _media_output(config: Spelled | None) -> bool:
    """Models that make images or speech do so unless only text is asked for."""
    raw = config.raw("responseModalities") if config is not None else None
    return raw is None or b"".join(bytes(raw).split()).upper() not in _TEXT_ALONE


def _tier(top: Spelled) -> str:
    tier = check_tier((top.string("serviceTier") or "").lower(), "serviceTier")
    return "" if tier in _STANDARD_TIERS else tier


def _refuse_other_models(config: Spelled) -> None:
    """Vertex AI can be told to choose among models."""
    for name in ("routingConfig", "modelSelectionConfig"):
        if name in config:
            why = "a configuration that chooses the model is not metered; name one model"
            raise Refused("not_supported", why, hint=f"leave out {name}", param=f"generationConfig.{name}")


def _named(spelled: Spelled, model: str, offset: int = 0) -> tuple[tuple[int, int, str], ...]:
    """Where the body names the model once more. Raises Refused if it is another than the path's."""
    name = spelled.string("model")
    if not name:
        return ()
    prefix = "models/" if name.startswith("models/") else ""
    if name != prefix + model:
        raise bad_request(f"{spelled.fields.path}model must be the model of the path", param="model")
    start, end = spelled.fields.span("model")
    return ((start + offset, end + offset, prefix),)


def _requests(top: Spelled) -> Iterator[tuple[int, Fields]]:
    """The objects in `requests`, each with where it starts in the text."""
    value = top.raw("requests")
    if value is None:
        return
    objects = read_objects(value, "requests")
    if objects is None:
        raise bad_request("requests must be a list of objects", param="requests")
    if len(objects) > REQUESTS_MAX:
        raise bad_request(f"requests holds more than {REQUESTS_MAX:,}", param="requests")
    text, position = top.fields.text, top.fields.span("requests")[0] + 1
    for index, (item, values) in enumerate(zip(_items(value), objects, strict=True)):
        position = _GAP.match(text, position).end()  # type: ignore[union-attr]  # it matches nothing too
        yield position, Fields(top.fields.body, bytes(item), values, len(item), f"requests[{index}].", None)
        position += len(item)
