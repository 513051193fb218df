"""Ids of what a provider keeps, in its answers."""

from __future__ import annotations

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
# The first event of a response's stream holds all of its request, and its id before that.
_FIRST = re.compile(rb'"response"\s*+:\s*+\{\s*+"id"\s*+:\s*+"([A-Za-z0-9_-]{1,200})"')


def first_id(beginning: bytes) -> str:
    """The id of the response that a stream begins with; "" if it is not there yet."""
    found = _FIRST.search(beginning)
    return found[1].decode() if found else ""
