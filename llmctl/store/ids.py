"""Call ids: 63-bit integers that rise with time and are unique over workers; `c_` + Crockford base 32 for people."""

from __future__ import annotations

from llmctl.domain.errors import BadInput

EPOCH_US = 1_704_067_200_000_000  # 2024-01-01
SLOT_BITS = 6  # 64 processes at once
ID_CHARS = 12

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(5 * ID_CHARS - 10, -1, -10)
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}


class CallIds:
    """Makes the ids of one process. `slot` is its owner number; no two living processes share one."""

    def __init__(self, slot: int, last_id: int) -> None:
        """`last_id` is the newest id in the database, so that a clock that went back repeats none."""
        assert 0 <= slot < 1 << SLOT_BITS
        self._slot = slot
        self._last_us = last_id >> SLOT_BITS

    def next(self, now_us: int) -> int:
        self._last_us = max(now_us - EPOCH_US, self._last_us + 1)
        return self._last_us << SLOT_BITS | self._slot


def at_or_after(time_s: int) -> int:
    """A lower bound for the ids of calls that started at this time or later (the reverse does not hold)."""
    return max(0, time_s * 1_000_000 - EPOCH_US) << SLOT_BITS


def shown(call_id: int) -> str:
    pairs = [_PAIRS[call_id >> shift & 1023] for shift in _SHIFTS]
    return "c_" + "".join(pairs)


def parsed(text: str) -> int:
    """The id behind `c_...`. Raises BadInput."""
    digits = text.removeprefix("c_").upper()
    if len(digits) != ID_CHARS or any(char not in _VALUES for char in digits):
        raise BadInput(f"{text!r} is not a call id", hint="it looks like c_01JD8W6ZK3QT: see llmctl calls")
    value = 0
    for char in digits:
        value = value << 5 | _VALUES[char]
    return value
