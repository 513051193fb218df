"""Which slots of minutes are whole. They rest on each one having been begun after the one before it, by every limit
that was there: a limit that is new has none of the last minute yet, and a clock that is set back breaks the order.
"""

from __future__ import annotations

import logging

from llmctl.domain.window import SLOT_S

from .balances import Place
from .ids import EPOCH_US, SLOT_BITS
from .sliding import slots_from_s

logger = logging.getLogger(__name__)

DAY_S = 86_400  # by more a clock was wrong, and not only late


class Slots:
    """Of one process. `last_id`: of the newest call, whose time is remembered over a restart."""

    def __init__(self, last_id: int = 0) -> None:
        self._latest_s = ((last_id >> SLOT_BITS) + EPOCH_US) // 1_000_000 if last_id else 0
        self._whole_from_s = 0
        self._filled: dict[int, int] = {}  # from when on, by limit

    def look_at_clock(self, now_s: int) -> None:
        """Every few seconds, and before each batch."""
        if now_s < self._latest_s - SLOT_S:
            back_s = self._latest_s - now_s
            logger.warning("the clock was set back by %d s", back_s)
            self._whole_from_s = max(self._whole_from_s, self._latest_s + SLOT_S) if back_s <= DAY_S else now_s + SLOT_S
            self._latest_s = now_s
            self._filled.clear()
        self._latest_s = max(self._latest_s, now_s)

    def may_be_missing(self, place: Place) -> bool:
        """Whether a slot that counts in this one may have no balance though there were calls."""
        from_s = place.counts_from_s
        if from_s >= self._whole_from_s and from_s >= slots_from_s(place.limit):
            return False
        filled_from_s = self._filled.get(place.limit.id)
        return filled_from_s is None or from_s < filled_from_s

    def filled(self, place: Place) -> None:
        """All members of its limit have theirs now, and every call from now on adds to them."""
        self._filled[place.limit.id] = place.counts_from_s

    def forget(self) -> None:
        """What was filled in a transaction that failed."""
        self._filled.clear()
