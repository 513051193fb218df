"""What the parts of a Gemini request are: text, images, or something that their bytes do not bound.

Sources: the types of the `google-genai` package 3.6, https://ai.google.dev/api/caching#Part and
https://ai.google.dev/gemini-api/docs/tokens. Audio has a rate by the second (32 tokens), video and PDF one by the frame
and the page; but silence, still pictures and empty pages pack into almost no bytes, so the context window bounds them.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ..content import AUDIO, DEPTH_MAX, FILES, UNKNOWN, VIDEO, Images, is_nothing
from ..wire.fields import read_one
from .fields import flat, objects_in

TEXT = ""
INLINE, RESPONSE = "inline data", "a function's response"  # are looked into
STORED_FILE = "a file by its URI"

PARTS = {
    "text": TEXT,
    "thought": TEXT,
    "thoughtsignature": TEXT,  # encrypted, and longer so than the text
    "functioncall": TEXT,
    "executablecode": TEXT,
    "codeexecutionresult": TEXT,
    "toolcall": TEXT,
    "videometadata": TEXT,
    "mediaresolution": TEXT,
    "partmetadata": TEXT,
    "inlinedata": INLINE,
    "functionresponse": RESPONSE,
    "filedata": STORED_FILE,
}
# What is not here is a file: its tokens are by the page.
_MEDIA = {"image": "", "text": TEXT, "audio": AUDIO, "video": VIDEO}
_SCALARS = b'"-0123456789tfn'
TEXT_CONTENTS_BYTES_MAX = 64 << 10  # the texts of longer ones are not copied only to be looked at


class _TextPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _TextContent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A content that is text whichever of two equal names counts: most conversations consist of these alone."""

    parts: list[_TextPart]
    role: str = ""


_text_contents = msgspec.json.Decoder(list[_TextContent]).decode


def contents_reason(value: Raw | None, path: str, images: Images) -> str:
    """Why the bytes of a content, or of a list of them, do not bound their tokens; "" if they do. Images are counted
    apart."""
    if value is None or memoryview(value)[0] in _SCALARS:
        return TEXT
    if len(value) <= TEXT_CONTENTS_BYTES_MAX:
        try:
            _text_contents(value)
        except (ValueError, RecursionError):
            pass
        else:
            return TEXT
    contents = objects_in(value, path)
    if contents is None:
        return UNKNOWN
    for content in contents:
        for name, inner in content.items():
            if flat(name) == "parts":
                reason = _parts_reason(inner, f"{path}.parts", images, 0)
            else:
                reason = TEXT if memoryview(inner)[0] in _SCALARS else UNKNOWN
            if reason:
                return reason
    return TEXT


def _parts_reason(value: Raw, path: str, images: Images, depth: int) -> str:
    if memoryview(value)[0] in _SCALARS:
        return TEXT
    parts = objects_in(value, path) if depth < DEPTH_MAX else None
    if parts is None:
        return UNKNOWN
    for part in parts:
        for name, inner in part.items():
            if reason := _part_reason(flat(name), inner, path, images, depth):
                return reason
    return TEXT


def _part_reason(name: str, value: Raw, path: str, images: Images, depth: int) -> str:
    if is_nothing(value):
        return TEXT
    rule = PARTS.get(name, UNKNOWN)
    if rule == UNKNOWN and memoryview(value)[0] in _SCALARS:
        return TEXT
    if rule == INLINE:
        return _inline_reason(value, path, images)
    if rule == RESPONSE:
        for response in read_one(value, path) or ():
            for inner_name, inner in response.items():
                if flat(inner_name) == "parts" and (
                    reason := _parts_reason(inner, f"{path}.functionResponse.parts", images, depth + 1)
                ):
                    return reason
        return TEXT
    return rule


def _inline_reason(value: Raw, path: str, images: Images) -> str:
    """By the type that the data says it is of; two types are none."""
    found = read_one(value, path)
    if found is None:
        return UNKNOWN
    types = [bytes(inner) for name, inner in found[0].items() if flat(name) == "mimetype"]
    if len(types) != 1:
        return UNKNOWN
    kind = types[0].strip(b'"').partition(b"/")[0].decode("ascii", "replace").lower()
    if kind == "image":
        images.add(found[0])
        return TEXT
    return _MEDIA.get(kind, FILES)
