"""Ids of what a provider keeps, in its answers and in requests that refer to it."""

from __future__ import annotations

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
# The first event of a response's stream holds all of its request, and its id before that.
_FIRST = re.compile(rb'"response"\s*+:\s*+\{\s*+"id"\s*+:\s*+"([A-Za-z0-9_-]{1,200})"')


# In a text, which is a JSON string, the quotes would have backslashes.
_OF_PARTS = re.compile(rb'"(?:id|container_id)"\s*+:\s*+"([A-Za-z0-9_-]{1,200})"')
PARTS_MAX = 1_000
CONTAINERS = "cntr_"


def part_ids(output: bytes) -> tuple[str, ...]:
    """The ids of items and containers in the output of an answer."""
    found = dict.fromkeys(match[1].decode() for match in _OF_PARTS.finditer(output))
    return tuple(found)[:PARTS_MAX]


def first_id(beginning: bytes) -> str:
    """The id of the response that a stream begins with; "" if it is not there yet."""
    found = _FIRST.search(beginning)
    return found[1].decode() if found else ""
