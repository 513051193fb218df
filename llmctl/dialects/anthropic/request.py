"""Requests in the Anthropic dialect: messages, and the counting of their tokens.

Shapes: the types of the `anthropic` package 2.12 and https://platform.claude.com/docs/en/api.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Raw

from ...domain.call import Ask
from ...domain.demand import IMAGES, UNKNOWN_TURNS
from ...domain.errors import Refused
from ..content import FILES, URLS, Images, Names, Rules, cache_write_ttl, list_reason
from ..request import Request, advisor, end_user_id, read_model, read_outputs, read_tier, thinking_floor
from ..wire.fields import Fields, may_say, read_object, read_objects, read_one
from ..wire.lenient import is_present, name_of
from .usage import placed

COUNT_TOKENS = "messages.count_tokens"
OUTPUT_NAMES = frozenset({"max_tokens"})
MONEY_NAMES = OUTPUT_NAMES | {
    *("model", "messages", "system", "stream", "thinking", "tools", "service_tier", "speed", "metadata", "fallbacks"),
    *("inference_geo", "mcp_servers", "container", "context_management", "compaction", "cache_control", "thread"),
}
THINKING = frozenset({"type", "budget_tokens"})

TEXT = ""
CONTAINER = "a container"
BLOCKS: Rules = {
    b'"text"': TEXT,
    b'"thinking"': TEXT,
    b'"redacted_thinking"': TEXT,
    b'"tool_use"': TEXT,
    b'"tool_result"': ("content",),
    b'"tool_reference"': TEXT,
    b'"search_result"': ("content",),
    b'"server_tool_use"': TEXT,
    b'"web_search_tool_result"': TEXT,  # encrypted, and longer so than the text
    b'"web_fetch_tool_result"': ("content",),
    b'"web_fetch_result"': ("content",),
    b'"web_fetch_tool_result_error"': TEXT,
    b'"code_execution_tool_result"': TEXT,
    b'"bash_code_execution_tool_result"': TEXT,
    b'"text_editor_code_execution_tool_result"': TEXT,
    b'"tool_search_tool_result"': TEXT,
    b'"advisor_tool_result"': TEXT,
    b'"mcp_tool_use"': TEXT,
    b'"mcp_tool_result"': ("content",),
    b'"mcp_tool_listing"': TEXT,
    b'"compaction"': TEXT,
    b'"fallback"': TEXT,
    b'"image"': IMAGES,
    b'"document"': ("source",),
    b'"content"': ("content",),  # a document's source that is blocks
    b'"base64"': FILES,
    b'"url"': URLS,
    b'"file"': "a stored file",
    b'"container_upload"': CONTAINER,
}
MESSAGE_NAMES: Names = {"role": TEXT}
NO_BLOCKS = Raw(b"[]")

# What the client runs itself. Every other type is run by Anthropic, in turns that bill the input again.
_CLIENT_TOOLS = (b'"custom"', b'"bash_', b'"text_editor_', b'"computer_', b'"browser_', b'"memory_', b"null")
_ADVISOR = b"advisor_"


def read_request(endpoint: str, body: bytes, *, model: str = "", stream: bool | None = None) -> Request:
    """The request in `body`. Raises Refused("bad_request") and Refused("not_supported").

    `model`, `stream`: what the path says, where not the body does.
    """
    fields = read_object(body, MONEY_NAMES)
    if "fallbacks" in fields:
        raise Refused(
            "not_supported",
            "models to fall back on at the provider are not metered",
            hint="leave out fallbacks",
            param="fallbacks",
        )
    outputs = read_outputs(fields, OUTPUT_NAMES)
    output_tokens_max = outputs[0][1] if outputs else None
    images = Images()
    reason = _unbounded(fields, images)
    ask = Ask(
        endpoint=endpoint,
        model=model or read_model(fields),
        stream=bool(fields.boolean("stream")) if stream is None else stream,
        input_bytes=len(body),
        output_tokens_max=output_tokens_max,
        output_tokens_floor=_thinking_floor(fields, output_tokens_max),
        generates=endpoint != COUNT_TOKENS,
        free=endpoint == COUNT_TOKENS,
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        server_tool_turns=_tool_turns(fields),
        service_tier=placed(
            "fast" if fields.string("speed") == "fast" else read_tier(fields), fields.string("inference_geo")
        ),
        cache_write_ttl=cache_write_ttl(fields.text),
        end_user=_end_user(fields),
        refers_to=_container(fields),
    )
    return Request(ask, body, fields, outputs, model_in_body=not model)


def _thinking_floor(fields: Fields, output_tokens_max: int | None) -> int:
    """A thinking budget must fit below max_tokens. (With interleaved thinking it may be larger; then there is no cap
    below the client's own.)"""
    thinking = fields.object("thinking", THINKING)
    return thinking_floor(thinking.integer("budget_tokens") if thinking is not None else None, output_tokens_max)


def _container(fields: Fields) -> tuple[str, ...]:
    """The one of an earlier answer that code is to run in."""
    value = fields.raw("container")
    if value is None:
        return ()
    if memoryview(value)[0] == ord("{"):  # with skills; perhaps a new one
        value = fields.object("container", frozenset({"id"})).raw("id")  # type: ignore[union-attr]  # it is there
    return (name_of(value),) if is_present(value) else ()


def _unbounded(fields: Fields, images: Images) -> str:
    container = fields.raw("container")
    if container is not None:
        return CONTAINER
    thread = fields.object("thread")
    if thread is not None and thread.string("type") != "create":
        return "a stored conversation"
    messages = list_reason(fields.values.get("messages"), BLOCKS, "messages", images, MESSAGE_NAMES)
    return messages or list_reason(fields.values.get("system"), BLOCKS, "system", images)


def _tool_turns(fields: Fields) -> int:
    if "mcp_servers" in fields and bytes(fields.values["mcp_servers"]) != b"[]":
        return UNKNOWN_TURNS
    management = fields.raw("context_management")
    # Clearing old results costs nothing; `compact_*` has the conversation read and summed up first.
    if management is not None and may_say(management, b"compact"):
        return UNKNOWN_TURNS
    turns = [server_tool_turns(fields.raw("tools")), *map(server_tool_turns, _added_tools(fields))]
    if UNKNOWN_TURNS in turns:
        return UNKNOWN_TURNS
    return sum(turns) or (1 if "compaction" in fields else 0)


def _added_tools(fields: Fields) -> Iterator[Raw]:
    """Lists of tools that messages bring along, in `tool_addition` blocks."""
    messages = fields.raw("messages")
    if messages is None or not may_say(messages, b"tool_addition"):
        return
    for message in read_objects(messages, "messages") or ():
        for block in read_objects(message.get("content", NO_BLOCKS), "messages.content") or ():
            for tool in read_one(block.get("tool", NO_BLOCKS), "messages.content.tool") or ():
                if "definition" in tool:
                    yield Raw(b"[%b]" % bytes(tool["definition"]))


def server_tool_turns(value: Raw | None) -> int:
    """How often tools that Anthropic runs may be used in one request: the sum of `max_uses`."""
    if value is None:
        return 0
    tools = read_objects(value, "tools")
    if tools is None:
        return UNKNOWN_TURNS
    turns = 0
    for tool in tools:
        kind = bytes(tool.get("type", b"null"))
        if kind.startswith(_CLIENT_TOOLS):
            continue
        if may_say(kind, _ADVISOR):
            raise advisor()
        uses = bytes(tool.get("max_uses", b""))
        if not uses.isdigit() or len(uses) > 6:
            return UNKNOWN_TURNS
        turns += int(uses)
    return turns


def _end_user(fields: Fields) -> str:
    metadata = fields.object("metadata", frozenset({"user_id"}))
    return end_user_id(metadata.string("user_id")) if metadata is not None else ""
