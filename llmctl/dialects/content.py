"""Do the bytes of a request bound its input tokens? Text does: a token has at least one byte. What is fetched, stored
elsewhere or not text does not; and what we do not know is taken for unbounded, never for text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Raw, Struct

from ..domain.demand import IMAGES
from .wire.fields import is_obscure, read_objects, read_one
from .wire.shortened import full_size

UNKNOWN = "content of an unknown shape"
AUDIO = "audio"
VIDEO = "video"
FILES = "files"
URLS = "URLs"
DEPTH_MAX = 8  # a document in a fetched page in a tool's result in a message: real requests need five

# What a part's `type` (as written, with its quotes) says: "" = text, a reason, or the fields of it to look into.
Rules = Mapping[bytes, "str | tuple[str, ...]"]
# The same for the names in a message.
Names = Mapping[str, str]

_QUOTE, _BRACKET = b'"['
_SCALARS = frozenset(b"-0123456789tfn")
_NOTHING = (b"null", b"[]")  # SDKs echo an answer with all its names, also those of what is not there
_HOUR = re.compile(rb'"ttl"\s*+:\s*+"1h"')


class Images(Struct):
    """The images of a request: providers say what one can be billed with at most, whatever its bytes are."""

    count: int = 0
    bytes: int = 0

    def add(self, part: Mapping[str, Raw]) -> None:
        self.count += 1
        self.bytes += sum(map(full_size, part.values()))

    def reason(self, other: str) -> str:
        """The reason of the whole request, where `other` is that of what is not an image."""
        return other or (IMAGES if self.count else "")


def list_reason(
    value: Raw | None, rules: Rules, path: str, images: Images, names: Names | None = None, depth: int = 0
) -> str:
    """Why the bytes of `value` (a string, a part, or a list of parts or messages) do not bound its tokens; "" if they
    do, or it is for its images alone, which are counted. `names`: what parts without a type, which then are messages,
    may hold."""
    if value is None or (first := memoryview(value)[0]) == _QUOTE or first in _SCALARS:
        return ""
    objects = None
    if depth < DEPTH_MAX:
        objects = read_objects(value, path, counted=depth > 0) if first == _BRACKET else read_one(value, path)
    if objects is None:
        return UNKNOWN
    for part in objects:
        kind = part.get("type")
        if kind is not None and (names is None or "role" not in part):  # who says something is no part
            reason = part_reason(part, bytes(kind), rules, path, images, depth)
        else:
            reason = UNKNOWN if names is None else message_reason(part, names, rules, path, images, depth)
        if reason:
            return reason
    return ""


def part_reason(part: dict[str, Raw], kind: bytes, rules: Rules, path: str, images: Images, depth: int) -> str:
    """As above for one part, whose `type` is `kind`."""
    rule = rules.get(kind)
    if rule is None:
        return UNKNOWN
    # Some servers read names in any case: another "Type" could make an image of this text.
    if len(part) > 2 and any(name != "type" and name.casefold() == "type" for name in part):
        return UNKNOWN
    if rule == IMAGES:
        images.add(part)
        return ""
    if isinstance(rule, str):
        return rule
    for name in rule:
        if reason := list_reason(part.get(name), rules, f"{path}.{name}", images, None, depth + 1):
            return reason
    return ""


def message_reason(
    message: dict[str, Raw], names: Names, rules: Rules, path: str, images: Images, depth: int = 0
) -> str:
    """As above for a message: its `content` is looked into, other names must be known or plain numbers and the like."""
    for name, value in message.items():
        if name == "content":
            reason = list_reason(value, rules, path, images, None, depth + 1)
        elif (reason := names.get(name, UNKNOWN)) == UNKNOWN and memoryview(value)[0] in _SCALARS:
            reason = ""
        if reason and not is_nothing(value):
            return reason
    return ""


def is_nothing(value: Raw) -> bool:
    """null, or an empty list."""
    return len(value) <= 4 and bytes(value) in _NOTHING


def cache_write_ttl(text: bytes, mark: bytes = b'"cache_control"') -> str:
    """The dearest cache write that blocks named `mark` ask for: "", "5m" or "1h"."""
    if is_obscure(text):
        return "1h"
    if mark not in text or re.search(mark + rb"\s*+:\s*+(?!null)", text) is None:
        return ""
    return "1h" if _HOUR.search(text) else "5m"
