"""What the parts of an OpenAI request are: text, or something that its bytes do not bound.

Sources: the types of the `openai` package 3.54; for names that other providers add, their API references.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ...domain.demand import IMAGES, UNKNOWN_TURNS
from ..content import (
    AUDIO,
    FILES,
    UNKNOWN,
    URLS,
    VIDEO,
    Images,
    Names,
    Rules,
    is_nothing,
    list_reason,
    message_reason,
    part_reason,
)
from ..wire.fields import read_objects
from .tools import tools_turns

TEXT = ""
STORED_ITEM = "a stored item"
TEXT_MESSAGES_BYTES_MAX = 64 << 10  # the texts of longer ones are not copied only to be looked at

REFERENCES: dict[str, str] = {
    "previous_response_id": "a stored response",
    "cached_content": "a cached content",
    "extra_body": "a cached content",  # if it names one
    "data_sources": "documents that the provider searches",  # Azure
    "chat_template": "a template of the request's own",  # vLLM: a loop in it makes much of little
}

CHAT_PARTS: Rules = {
    b'"text"': TEXT,
    b'"refusal"': TEXT,
    b'"thinking"': TEXT,  # Mistral, Anthropic's models elsewhere
    b'"redacted_thinking"': TEXT,
    b'"reasoning"': TEXT,  # Databricks
    b'"tool_result"': ("content",),
    b'"image_url"': IMAGES,
    b'"image"': IMAGES,
    b'"input_image"': IMAGES,
    b'"input_audio"': AUDIO,
    b'"audio_url"': AUDIO,
    b'"video_url"': VIDEO,
    b'"input_video"': VIDEO,
    b'"file"': FILES,
    b'"document"': FILES,
    b'"file_url"': URLS,
    b'"document_url"': URLS,
}
CHAT_NAMES: Names = {
    "role": TEXT,
    "name": TEXT,
    "refusal": TEXT,
    "tool_calls": TEXT,
    "tool_call_id": TEXT,
    "function_call": TEXT,
    "reasoning": TEXT,
    "reasoning_content": TEXT,
    "reasoning_details": TEXT,  # OpenRouter
    "thinking_blocks": TEXT,
    "annotations": TEXT,
    "citations": TEXT,
    "cache_control": TEXT,
    "id": TEXT,
    "status": TEXT,
    "audio": "a stored audio answer",
    "images": IMAGES,
}

_CONTENT_PARTS: Rules = {
    b'"input_text"': TEXT,
    b'"output_text"': TEXT,
    b'"text"': TEXT,
    b'"refusal"': TEXT,
    b'"summary_text"': TEXT,
    b'"reasoning_text"': TEXT,
    b'"input_image"': IMAGES,
    b'"computer_screenshot"': IMAGES,
    b'"input_audio"': AUDIO,
    b'"input_file"': FILES,
}
RESPONSE_ITEMS: Rules = {
    **_CONTENT_PARTS,
    b'"function_call"': TEXT,
    b'"function_call_output"': ("output",),
    b'"custom_tool_call"': TEXT,
    b'"custom_tool_call_output"': ("output",),
    b'"local_shell_call"': TEXT,
    b'"local_shell_call_output"': TEXT,
    b'"shell_call"': TEXT,
    b'"shell_call_output"': TEXT,
    b'"apply_patch_call"': TEXT,
    b'"apply_patch_call_output"': TEXT,
    b'"computer_call"': TEXT,
    b'"computer_call_output"': IMAGES,
    b'"image_generation_call"': IMAGES,
    b'"compaction"': TEXT,  # encrypted, and longer so than the text
    b'"configuration_update"': TEXT,
    b'"mcp_list_tools"': TEXT,
    b'"mcp_call"': TEXT,
    b'"mcp_approval_request"': TEXT,
    b'"mcp_approval_response"': TEXT,
    b'"tool_search_call"': TEXT,
    b'"program"': TEXT,
    b'"program_output"': TEXT,
    b'"item_reference"': STORED_ITEM,
    # What these found is kept by the provider, unless the client sends it along.
    b'"web_search_call"': "stored search results",
    b'"file_search_call"': "stored search results",
    b'"code_interpreter_call"': "a container",
}
RESPONSE_NAMES: Names = {"role": TEXT, "id": TEXT, "status": TEXT, "type": TEXT, "phase": TEXT, "name": TEXT}


class _TextMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that is text whichever of two equal names counts: most conversations consist of these alone."""

    role: str
    content: str | None = None
    name: str | None = None


_texts = msgspec.json.Decoder(list[str | int | list[int]]).decode
_text_messages = msgspec.json.Decoder(list[_TextMessage]).decode


def messages_reason(value: Raw | None, images: Images) -> str:
    """Why the bytes of a chat's `messages` do not bound its tokens; "" if they do. Images are counted apart."""
    if value is not None and len(value) <= TEXT_MESSAGES_BYTES_MAX:
        try:
            _text_messages(value)
        except (ValueError, RecursionError):
            pass
        else:
            return TEXT
    return list_reason(value, CHAT_PARTS, "messages", images, CHAT_NAMES)


def texts_reason(value: Raw | None) -> str:
    """As above for the `input` of what takes strings and token numbers: an object is an image or something else that we
    do not know."""
    if value is None or b"{" not in (text := bytes(value)) or text[:1] == b'"':
        return ""
    try:
        _texts(text)
    except ValueError:
        return UNKNOWN
    return ""


def items_reason(value: Raw | None, rules: Rules, names: Names, images: Images) -> tuple[str, int]:
    """Why the bytes of a response's `input` do not bound its tokens ("" if they do), and the turns of server tools
    that items in it bring along. Images are counted apart."""
    if value is None or memoryview(value)[0] == ord('"'):
        return "", 0
    items = read_objects(value, "input")
    if items is None:
        return UNKNOWN, 0
    reason, turns = "", 0
    for item in items:
        kind = bytes(item.get("type", b""))
        if kind in (b"", b"null", b'"message"'):
            reason = reason or _message(item, names, rules, images)
        elif kind == b'"reasoning"':
            reason = reason or _reasoning(item, rules, images)
        elif kind in (b'"additional_tools"', b'"tool_search_output"'):
            turns = tools_turns(item.get("tools"), "input.tools") or turns
        elif kind == b'"compaction_trigger"':
            turns = UNKNOWN_TURNS
        else:
            unlike = "content" in item and not is_nothing(item["content"])  # what a message says, in what is none
            reason = reason or (UNKNOWN if unlike else part_reason(item, kind, rules, "input", images, 0))
    return reason, turns


def _reasoning(item: dict[str, Raw], rules: Rules, images: Images) -> str:
    """Without its text, open (of open models; OpenAI's own take none) or encrypted, the provider reads it from its own
    store."""
    content, encrypted = item.get("content"), item.get("encrypted_content")
    if content is not None and b"{" in bytes(content):
        return list_reason(content, rules, "input.content", images, None, 1)
    return STORED_ITEM if "id" in item and (encrypted is None or len(encrypted) <= 4) else ""


def _message(item: dict[str, Raw], names: Names, rules: Rules, images: Images) -> str:
    if "role" not in item or "content" not in item:
        return STORED_ITEM if "id" in item else UNKNOWN
    return message_reason(item, names, rules, "input", images)
