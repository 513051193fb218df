"""A limit that is not set: which of the calls that were made would it have refused?"""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heappop, heappush
from zoneinfo import ZoneInfo

from .limit import Limit
from .window import MINUTE_S, SLOT_S, window_end, window_start


class Trial:
    """Takes calls in the order in which they started. By what each really used: a gateway holds more while a call is
    open, so it may have refused some more of those that came together, and let them in when they asked again."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._zone = ZoneInfo(limit.zone)
        self._window_end_s: int | None = None if limit.window == "total" else 0  # None: it never ends
        self._used: defaultdict[int, int] = defaultdict(int)  # by member
        self._slots: defaultdict[int, deque[tuple[int, int]]] = defaultdict(deque)  # of the last minute
        self._ends_ms: defaultdict[int, list[int]] = defaultdict(list)  # of calls that go on

    def spent_before(self, member_id: int, amount: int) -> None:
        """What a member had used of a total before the first call."""
        self._used[member_id] += amount

    def refuses(self, member_id: int, started_at_ms: int, ended_at_ms: int, amount: int) -> bool:
        """Whether this call would not have fitted; one that is refused uses nothing."""
        if self._limit.measure == "concurrency":
            return self._too_many_at_once(member_id, started_at_ms, ended_at_ms)
        started_at_s = started_at_ms // 1000
        if self._limit.window == "minute":
            self._slide(member_id, started_at_s)
        elif self._window_end_s is not None and started_at_s >= self._window_end_s:
            self._used.clear()
            self._window_end_s = window_end(self._limit.window, self._zone, started_at_s)
        if amount > 0 and self._used[member_id] + amount > self._limit.amount:
            return True
        self._used[member_id] += amount
        if self._limit.window == "minute":
            self._slots[member_id].append((started_at_s - started_at_s % SLOT_S, amount))
        return False

    def _slide(self, member_id: int, now_s: int) -> None:
        slots, oldest_s = self._slots[member_id], now_s - now_s % SLOT_S - MINUTE_S
        while slots and slots[0][0] < oldest_s:
            self._used[member_id] -= slots.popleft()[1]

    def _too_many_at_once(self, member_id: int, started_at_ms: int, ended_at_ms: int) -> bool:
        ends = self._ends_ms[member_id]
        while ends and ends[0] <= started_at_ms:
            heappop(ends)
        if len(ends) >= self._limit.amount:
            return True
        heappush(ends, ended_at_ms)
        return False


def first_needed_s(limit: Limit, from_s: int) -> int:
    """From when on calls must be known, to judge those from a moment on; of a total, what was spent is enough."""
    if limit.window == "total":
        return from_s
    return window_start(limit.window, ZoneInfo(limit.zone), from_s) - (MINUTE_S if limit.window == "minute" else 0)
