r"""An admin's own patterns, on texts that anybody may send.

`re` holds the interpreter's lock to the end of a search, and a pattern as harmless as `\d+-\d+` takes the square of the
time on digits alone: a prompt would stop the worker. `regex` gives the lock away, and has an end to its time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import regex  # type: ignore[import-untyped]  # it ships no types

SECONDS_MAX = 2.0  # for all texts of one call; what is looked through once takes milliseconds
SHORT_CHARACTERS = 1_000  # done before the lock has changed hands; only one that doubles with each letter is not
SHORT_SECONDS_MAX = 0.1


def compiled(patterns: Sequence[str]) -> list[Any]:
    """`patterns`: as the configuration has checked them."""
    return [regex.compile(pattern) for pattern in patterns]


class OwnPatterns:
    """Puts `[redacted]` in the place of what one of them finds in the texts of one call."""

    def __init__(self, patterns: Sequence[Any]) -> None:
        """`patterns`: compiled."""
        self._patterns = patterns
        self._left_s = SECONDS_MAX

    def redacted(self, text: str) -> str:
        """Raises TimeoutError: it takes too long, or all of them do."""
        long = len(text) > SHORT_CHARACTERS
        for pattern in self._patterns:
            if self._left_s <= 0:
                raise TimeoutError
            began_s = time.thread_time()  # that of others, who have the lock, is not ours
            most_s = self._left_s if long else min(self._left_s, SHORT_SECONDS_MAX)
            text = pattern.sub("[redacted]", text, timeout=most_s, concurrent=long)
            self._left_s -= time.thread_time() - began_s
        return text
