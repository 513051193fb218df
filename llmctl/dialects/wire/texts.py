"""The text in a message of any shape: strings, lists of parts, objects around them. For estimates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEPTH_MAX = 12

Walk = Callable[[Any], str]


def text_of(value: Any, of_object: Callable[[dict[str, Any], Walk], str], depth: int = 0) -> str:
    """The strings in the order in which they stand. `of_object` says what of an object is text; its second argument
    walks on into a member."""
    if isinstance(value, str):
        return value
    if depth > DEPTH_MAX:
        return ""

    def walk(inside: Any) -> str:
        return text_of(inside, of_object, depth + 1)

    if isinstance(value, list):
        return "".join(map(walk, value))
    return of_object(value, walk) if isinstance(value, dict) else ""
