"""Redaction of what is JSON: in its strings, as they read. Written down, the line break before a secret is a letter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import msgspec

Redact = Callable[[str], str]

# A string, or the beginning of one that is cut; else what stands between strings and brackets, with its commas.
_PARTS = re.compile(
    r'"(?P<string>(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])*+)(?P<end>"?)|[^"\s{}\[\],:][^"{}\[\]]*+'
)
_VALUES = re.compile(r"[^\s,:]++")


def redacted(text: str, redact: Redact) -> str:
    """The text with each of its strings redacted, also those in JSON that a string holds (the arguments of tools), and
    JSON still where it was. Where nothing is found, it stays as it was written. What is no JSON, or is cut, is redacted
    as a whole too."""
    if text.lstrip()[:1] in ("{", "["):
        text = _PARTS.sub(lambda part: _part(part, redact), text)
        if _is_json(text):
            return text
    return redact(text)


def _part(part: re.Match[str], redact: Redact) -> str:
    if part["string"] is None:
        # Looked at one by one only where there is something: an embedding is a hundred thousand numbers.
        return part[0] if redact(part[0]) == part[0] else _VALUES.sub(lambda value: _value(value[0], redact), part[0])
    string = json.loads(f'"{part["string"]}"', strict=False)
    # A string is shorter, by the escapes of its quotation marks, than what it stands in: this ends after a few levels.
    found = redacted(string, redact)
    if found == string:
        return part[0]
    written = json.dumps(found, ensure_ascii=False)
    return written if part["end"] else written[:-1]


def _value(value: str, redact: Redact) -> str:
    """A number becomes a string where it is redacted."""
    found = redact(value)
    return value if found == value else json.dumps(found, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
