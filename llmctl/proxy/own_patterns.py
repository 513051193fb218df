r"""An admin's own patterns, on texts that anybody may send.

`re` holds the interpreter's lock to the end of a search, and a pattern as harmless as `\d+-\d+` takes the square of the
time on digits alone: a prompt would stop the worker. `regex` gives the lock away, and has an end to its time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import regex  # type: ignore[import-untyped]  # it ships no types

SECONDS_MAX = 2.0  # for all texts of one call; what is looked through once takes milliseconds
SHORT_CHARACTERS = 1_000  # done before the lock has changed hands; only one that doubles with each letter is not
SHORT_SECONDS_MAX = 0.1


class OwnPatterns:
    """Puts `[redacted]` in the place of what one of them finds."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """`patterns`: as the configuration has checked them."""
        self._patterns = [regex.compile(pattern) for pattern in patterns]

    def redacted(self, text: str, until_s: float) -> str:
        """`until_s`: monotonic. Raises TimeoutError: it takes longer."""
        long = len(text) > SHORT_CHARACTERS
        for pattern in self._patterns:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            timeout_s = left_s if long else min(left_s, SHORT_SECONDS_MAX)
            text = pattern.sub("[redacted]", text, timeout=timeout_s, concurrent=long)
        return text
