"""Ids of what a provider keeps, in its answers and in requests that refer to it."""

from __future__ import annotations

import re

from msgspec import Raw

from .wire.lenient import items, members, name_of

ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
# The first event of a response's stream holds all of its request, and its id before that.
_FIRST = re.compile(rb'"response"\s*+:\s*+\{\s*+"id"\s*+:\s*+"([A-Za-z0-9_-]{1,200})"')


PARTS_MAX = 1_000
CONTAINERS = "cntr_"


def part_ids(output: Raw) -> tuple[str, ...]:
    """The ids of items and containers in the output of an answer. Only where the provider itself puts them: deeper may
    be what others wrote (the schemas of somebody's MCP server)."""
    found: dict[str, None] = {}
    for item in items(output)[:PARTS_MAX]:
        values = members(item)
        environment = members(values.get("environment", b""))
        for one in (values.get("id"), values.get("container_id"), environment.get("container_id")):
            if part_id := name_of(one):
                found[part_id] = None
    return tuple(found)


def first_id(beginning: bytes) -> str:
    """The id of the response that a stream begins with; "" if it is not there yet."""
    found = _FIRST.search(beginning)
    return found[1].decode() if found else ""
