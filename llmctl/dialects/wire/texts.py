"""The text in a message of any shape: strings, lists of parts, objects around them. For estimates, and for what is kept
of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def put_together(pieces: Iterable[tuple[tuple[Any, ...], str]]) -> list[str]:
    """The texts of which a stream brings pieces, each after what says where it belongs: a choice, a block, a kind.
    Those of several choices come in turns."""
    texts: dict[tuple[Any, ...], list[str]] = {}
    for place, piece in pieces:
        if piece:
            known = tuple(part if isinstance(part, int | str) else None for part in place)
            texts.setdefault(known, []).append(piece)
    return ["".join(text) for text in texts.values()]
