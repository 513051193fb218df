"""Moments as machines read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

LAST_S = 253_402_300_799  # the end of the year 9999: this form says no later one


@overload
def rfc3339(at_s: float) -> str: ...
@overload
def rfc3339(at_s: None) -> None: ...
def rfc3339(at_s: float | None) -> str | None:
    """Unix seconds in UTC, to the second: `2026-11-20T08:00:00Z`."""
    if at_s is None:
        return None
    return datetime.fromtimestamp(min(at_s, LAST_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
