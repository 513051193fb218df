"""Tools in OpenAI requests: run by the client (then they are text in the body), or by the provider, where each of
their turns bills the input again.

Sources: https://developers.openai.com/api/docs/guides/tools, the tool types of the `openai` package 3.54, OpenRouter's
and xAI's API references.
"""

from __future__ import annotations

from msgspec import Raw

from ...domain.demand import UNKNOWN_TURNS
from ...domain.errors import Refused
from ...domain.usage import count_of
from ..media_bounds import FRAMES_MAX, PARTIAL_IMAGE_TOKENS, PARTIAL_IMAGES_MAX, SVG, image_tokens
from ..request import advisor
from ..wire.fields import Fields, may_say, read_object, read_objects
from ..wire.lenient import plain_value

_CLIENT_TOOLS = frozenset(
    {
        b'"function"',
        b'"custom"',
        b'"namespace"',  # groups function and custom tools
        b'"local_shell"',
        b'"apply_patch"',
        b'"computer"',
        b'"computer_use_preview"',
    }
)
# Either side can run these: the field and the value that say the client does. Without it we take the provider for it.
_EITHER_SIDE = {b'"shell"': ("environment", b'"local"'), b'"tool_search"': ("execution", b'"client"')}
# OpenRouter's and xAI's fields that have the provider search once before the model answers.
_SEARCH_FIELDS = frozenset({"web_search_options", "plugins", "search_parameters"})
_IMAGE_TOOL = b"image_generation"
_IMAGE_FIELDS = ("size", "quality", "output_format", "partial_images")
_RESEARCH = "deep-research"  # Perplexity's model searches dozens of times by itself, and bills what it read
_ADVISOR = b"openrouter:advisor"


def chat_tool_turns(fields: Fields, model: str) -> int:
    turns = tools_turns(fields.raw("tools"), "tools")
    if turns:
        return turns
    return UNKNOWN_TURNS if _RESEARCH in model else search_turns(fields, model)


def search_turns(fields: Fields, model: str) -> int:
    """1 if OpenRouter or xAI is to search before the model answers, else 0."""
    searches = not _SEARCH_FIELDS.isdisjoint(fields.values) and any(name in fields for name in _SEARCH_FIELDS)
    return 1 if searches or model.endswith(":online") else 0


def response_tool_turns(fields: Fields) -> int:
    turns = tools_turns(fields.raw("tools"), "tools")
    if not turns:
        return 0
    calls_max = fields.integer("max_tool_calls")  # bounds all tools together
    return turns if calls_max is None else calls_max


def image_tool_tokens(fields: Fields) -> int:
    """What one image of the provider's tool is billed with at most; 0 if no such tool may be among those of the
    request. One that is brought in another way than by `tools` makes images as if nothing were said of them."""
    if not may_say(fields.text, _IMAGE_TOOL):
        return 0
    value = fields.raw("tools")
    tools = (read_objects(value, "tools") or ()) if value is not None else ()
    wanted = [tool for tool in tools if may_say(tool.get("type", Raw(b"")), _IMAGE_TOOL)]
    return max(map(_image_tokens, wanted or [{}]))


def _image_tokens(tool: dict[str, Raw]) -> int:
    said = {name: plain_value(tool[name]) for name in _IMAGE_FIELDS if name in tool}
    size, quality, output_format = (str(said.get(name)).lower() for name in ("size", "quality", "output_format"))
    if output_format == "svg":
        raise Refused("not_supported", SVG, param="tools")
    frames = FRAMES_MAX if output_format == "gif" else 1
    partial_tokens = PARTIAL_IMAGE_TOKENS * min(count_of(said.get("partial_images")), PARTIAL_IMAGES_MAX)
    return image_tokens(size, quality, dearest=True) * frames + partial_tokens


def tools_turns(value: Raw | None, path: str) -> int:
    """UNKNOWN_TURNS if the provider runs one of these tools, else 0."""
    if value is None:
        return 0
    tools = read_objects(value, path)
    if tools is None:
        return UNKNOWN_TURNS
    return 0 if all(map(_runs_at_client, tools)) else UNKNOWN_TURNS


def _runs_at_client(tool: dict[str, Raw]) -> bool:
    kind = bytes(tool.get("type", b""))
    if kind in _CLIENT_TOOLS:
        return True
    if may_say(kind, _ADVISOR):
        raise advisor()
    name, wanted = _EITHER_SIDE.get(kind, ("", b""))
    value = bytes(tool.get(name, b""))
    if value.startswith(b"{"):
        value = bytes(read_object(value).values.get("type", b""))
    return bool(name) and value == wanted
