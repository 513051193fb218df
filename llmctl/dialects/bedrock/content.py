"""Content of Converse and Nova: blocks whose one name says what they are. Do the bytes bound their tokens?

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
"""

from __future__ import annotations

from msgspec import Raw

from ..content import AUDIO, DEPTH_MAX, FILES, UNKNOWN, VIDEO, Images
from ..wire.fields import may_say, read_objects, read_one
from ..wire.lenient import members

STORED = "a stored file"
_TEXT = ""
# Names of blocks: "" = text, a reason, or the name of what is in them to be looked into.
_BLOCKS: dict[str, str] = {
    "text": _TEXT,
    "json": _TEXT,
    "toolUse": _TEXT,
    "reasoningContent": _TEXT,
    "citationsContent": _TEXT,
    "searchResult": _TEXT,
    "cachePoint": _TEXT,
    "video": VIDEO,
    "audio": AUDIO,
}
_TEXT_SOURCES = frozenset({"text", "content"})


def messages_reason(value: Raw | None, images: Images) -> str:
    """Why the bytes of `messages` do not bound their tokens; "" if they do, or it is for images, which are counted."""
    if value is None:
        return ""
    messages = read_objects(value, "messages")
    if messages is None:
        return UNKNOWN
    for message in messages:
        if not message.keys() <= {"role", "content"}:
            return UNKNOWN
        if reason := blocks_reason(message.get("content"), "messages.content", images):
            return reason
    return ""


def blocks_reason(value: Raw | None, path: str, images: Images, depth: int = 0) -> str:
    """As above for a list of blocks, one block, or a text."""
    if value is None or memoryview(value)[0] == ord('"'):
        return ""
    blocks = None
    if depth < DEPTH_MAX:
        blocks = read_objects(value, path) if memoryview(value)[0] == ord("[") else read_one(value, path)
    if blocks is None:
        return UNKNOWN
    for block in blocks:
        for name, inner in block.items():
            if reason := _block_reason(name, inner, path, images, depth):
                return reason
    return ""


def _block_reason(name: str, value: Raw, path: str, images: Images, depth: int) -> str:
    if name == "image":
        if may_say(value, b'"s3Location"'):
            return STORED
        images.add({name: value})
        return ""
    if name == "document":
        source = members(value).get("source")
        return "" if source is not None and members(source).keys() <= _TEXT_SOURCES else FILES
    if name == "toolResult":
        return blocks_reason(members(value).get("content"), f"{path}.content", images, depth + 1)
    if name == "guardContent":
        return blocks_reason(value, f"{path}.{name}", images, depth + 1)
    return _BLOCKS.get(name, UNKNOWN)
