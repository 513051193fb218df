"""Requests of Bedrock: Converse, and InvokeModel with the bodies of each model's vendor.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ...domain.call import Ask
from ...domain.demand import IMAGES, UNKNOWN_TURNS
from ...domain.errors import Refused
from ..anthropic import request as anthropic_request
from ..cohere.request import rerank_units
from ..content import Images, cache_write_ttl
from ..openai import content as openai_content
from ..request import MODEL_CHARACTERS_MAX, Path, Request, thinking_floor
from ..wire.fields import Fields, bad_request, is_obscure, may_say, read_object, read_objects
from ..wire.lenient import items
from .content import blocks_reason, messages_reason
from .usage import tier_of

STREAMS = ("bedrock.converse-stream", "bedrock.invoke-stream")
CONVERSE = ("bedrock.converse", "bedrock.converse-stream")
COUNT_TOKENS = "bedrock.count-tokens"

MAXIMUM: Path = ("inferenceConfig", "maxTokens")
# Where a vendor's own body has its output maximum; Converse passes such fields on too.
OUTPUT_NAMES = frozenset(
    {"max_tokens", "max_tokens_to_sample", "max_completion_tokens", "max_output_tokens", "max_new_tokens"}
    | {"maxTokens", "max_gen_len", "maxTokenCount"}
)
OUTPUT_OBJECTS = ("inferenceConfig", "textGenerationConfig")
CHOICE_NAMES = ("n", "num_generations", "numResults")
CHOICES_MAX = 100
MONEY_NAMES = (
    OUTPUT_NAMES
    | frozenset(OUTPUT_OBJECTS)
    | frozenset(CHOICE_NAMES)
    | {"messages", "system", "toolConfig", "additionalModelRequestFields", "serviceTier", "performanceConfig"}
    | {"prompt", "inputText", "texts", "images", "inputs", "query", "documents", "thinking", "reasoning_config"}
)
# The field that a model takes where the request sets no maximum, by what its name begins with behind the region.
OUTPUT_PATHS: Mapping[str, Path] = {
    "anthropic.": ("max_tokens",),
    "amazon.nova": MAXIMUM,
    "amazon.titan": ("textGenerationConfig", "maxTokenCount"),
    "meta.": ("max_gen_len",),
    "ai21.j2": ("maxTokens",),
    "openai.": ("max_completion_tokens",),
}
_VECTORS = ("embed", "rerank")
# What their bodies hold, where an alias or a profile hides the model. No body that generates is without its prompt, and
# Titan's takes no field that it does not know.
_VECTORS_NAMES = frozenset({"texts", "input_type", "singleEmbeddingParams", "segmentedEmbeddingParams", "query"})
_PROMPTS = frozenset({"prompt", "messages", "message", "inputText"})
_TITAN_VECTORS_NAMES = frozenset({"dimensions", "normalize", "embeddingTypes"})
# These are billed by the image or the second of video, which no answer states.
_NOT_METERED = re.compile(r"image|canvas|reel|sonic|stability\.|luma\.|twelvelabs\.|stable-")
_VECTOR_LISTS = ("images", "inputs")  # Cohere's models embed each of these for itself
_MEDIA = re.compile(rb'"(?:image|images|inputImage|image_url|video|inputVideo|audio|s3Location|mediaSource)"\s*+:')
_PROMPT = ":prompt/"


def read_request(endpoint: str, body: bytes, model: str) -> Request:
    """The request in `body`. Raises Refused("bad_request") and Refused("not_supported")."""
    if len(model) > MODEL_CHARACTERS_MAX:
        raise bad_request(f"a model id has at most {MODEL_CHARACTERS_MAX} characters here", hint="use an alias")
    if _PROMPT in model:
        raise Refused("not_supported", "a stored prompt names its model itself, so it is not metered")
    fields = read_object(body, MONEY_NAMES)
    stream = endpoint in STREAMS
    if endpoint == COUNT_TOKENS:
        ask = Ask(endpoint, model, stream=False, input_bytes=len(body), generates=False, free=True)
        return Request(ask, body, fields, model_in_body=False)
    if endpoint in CONVERSE:
        return _read_converse(endpoint, fields, model, stream)
    if _NOT_METERED.search(model):
        raise Refused("not_supported", "models of Bedrock that make images, video or speech are not metered yet")
    if "anthropic_version" in fields and "messages" in fields:
        return anthropic_request.read_request(endpoint, body, model=model, stream=stream)
    return _read_invoke(endpoint, fields, model, stream)


def with_headers(request: Request, headers: Mapping[str, str]) -> Request:
    """`request` with what its headers say beside its body."""
    tier = tier_of(headers.get("x-amzn-bedrock-service-tier"), headers.get("x-amzn-bedrock-performanceconfig-latency"))
    return replace(request, ask=replace(request.ask, service_tier=tier)) if tier else request


def _read_converse(endpoint: str, fields: Fields, model: str, stream: bool) -> Request:
    more = fields.object("additionalModelRequestFields", MONEY_NAMES)
    outputs = [*_maxima(fields, ("inferenceConfig",)), *_maxima(more)]
    images = Images()
    reason = messages_reason(fields.raw("messages"), images) or blocks_reason(fields.raw("system"), "system", images)
    tier, performance = fields.object("serviceTier"), fields.object("performanceConfig")
    ask = Ask(
        endpoint=endpoint,
        model=model,
        stream=stream,
        input_bytes=len(fields.body),
        output_tokens_max=_largest(outputs),
        output_tokens_floor=_thinking_floor(more, outputs),
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        server_tool_turns=_converse_turns(fields, more),
        service_tier=tier_of(tier and tier.string("type"), performance and performance.string("latency")),
        cache_write_ttl=cache_write_ttl(fields.text, b'"cachePoint"') or cache_write_ttl(fields.text),
    )
    return Request(ask, fields.body, fields, tuple(outputs), output_path=MAXIMUM, model_in_body=False)


def _holds_media(text: bytes) -> bool:
    return _MEDIA.search(text) is not None or is_obscure(text)


def _read_invoke(endpoint: str, fields: Fields, model: str, stream: bool) -> Request:
    if _makes_vectors(fields, model):
        return _read_vectors(endpoint, fields, model)
    outputs = _maxima(fields)
    images = Images()
    nova = "amazon.nova" in model or "schemaVersion" in fields
    messages = fields.raw("messages")
    reason = messages_reason(messages, images) if nova else openai_content.messages_reason(messages, images)
    if messages is None and _holds_media(fields.text):
        reason = IMAGES
    largest = _largest(outputs)
    if largest is not None and "amazon.titan" in model:
        largest += 1  # its streams count one token more than they may generate
    choices = [fields.integer(name, most=CHOICES_MAX) or 1 for name in CHOICE_NAMES if name in fields]
    ask = Ask(
        endpoint=endpoint,
        model=model,
        stream=stream,
        input_bytes=len(fields.body),
        output_tokens_max=largest,
        output_multiplier=max(choices, default=1),
        output_tokens_floor=_thinking_floor(fields, outputs),
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        server_tool_turns=_converse_turns(fields, None) if nova else 0,
        cache_write_ttl=cache_write_ttl(fields.text, b'"cachePoint"'),
    )
    return Request(
        ask, fields.body, fields, tuple(outputs), output_path=_output_path(fields, model, nova), model_in_body=False
    )


def _makes_vectors(fields: Fields, model: str) -> bool:
    if any(what in model for what in _VECTORS):
        return True
    names = fields.values.keys()
    if _PROMPTS.isdisjoint(names):
        return not _VECTORS_NAMES.isdisjoint(names)
    return "inputText" in names and not _TITAN_VECTORS_NAMES.isdisjoint(names)


def _read_vectors(endpoint: str, fields: Fields, model: str) -> Request:
    """Embeddings and reranking."""
    media = _holds_media(fields.text)
    ask = Ask(
        endpoint=endpoint,
        model=model,
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        unbounded_input=IMAGES if media else "",
        inputs=max(1, *(len(items(fields.raw(name))) for name in _VECTOR_LISTS)) if media else 1,
        units=(("search_units", rerank_units(fields)),) if "query" in fields else (),
    )
    return Request(ask, fields.body, fields, model_in_body=False)


def _maxima(fields: Fields | None, objects: Iterable[str] = OUTPUT_OBJECTS) -> list[tuple[Path, int]]:
    """The output maxima that are set, by their path in the body."""
    if fields is None:
        return []
    above = tuple(fields.path.removesuffix(".").split(".")) if fields.path else ()
    found = [((*above, name), value) for name in OUTPUT_NAMES if (value := fields.integer(name)) is not None]
    for name in objects:
        found += _maxima(fields.object(name, OUTPUT_NAMES), ())
    return found


def _largest(outputs: list[tuple[Path, int]]) -> int | None:
    return max([value for _, value in outputs]) if outputs else None


def _thinking_floor(fields: Fields | None, outputs: list[tuple[Path, int]]) -> int:
    """A thinking budget must fit below the maximum."""
    for name in ("thinking", "reasoning_config") if fields is not None else ():
        assert fields is not None
        thinking = fields.object(name, anthropic_request.THINKING)
        budget = thinking.integer("budget_tokens") if thinking is not None else None
        if budget is not None:
            return thinking_floor(budget, _largest(outputs))
    return 0


def _converse_turns(fields: Fields, more: Fields | None) -> int:
    """Tools that the client runs cost no turns; `systemTool` is run by the model's vendor."""
    if more is not None:
        management = more.raw("context_management")
        if management is not None and may_say(management, b"compact"):
            return UNKNOWN_TURNS
        if turns := anthropic_request.server_tool_turns(more.raw("tools")):
            return turns
    config = fields.object("toolConfig")
    tools = config.raw("tools") if config is not None else None
    if tools is None:
        return 0
    listed = read_objects(tools, "toolConfig.tools")
    if listed is None:
        return UNKNOWN_TURNS
    return 0 if all(tool.keys() <= {"toolSpec", "cachePoint"} for tool in listed) else UNKNOWN_TURNS


def _output_path(fields: Fields, model: str, nova: bool) -> Path:
    """Where a maximum goes that the request does not set; an ARN does not always say whose model it is."""
    if nova:
        return MAXIMUM
    if "textGenerationConfig" in fields or "inputText" in fields:
        return ("textGenerationConfig", "maxTokenCount")
    if "anthropic." in model and "messages" not in fields:
        return ("max_tokens_to_sample",)
    return next((path for vendor, path in OUTPUT_PATHS.items() if vendor in model), ("max_tokens",))
