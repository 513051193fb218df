"""From when on the slots of minutes are whole. A clock that is set back breaks what they rest on: that each slot was
begun after the one before it, by every limit that was there."""

from __future__ import annotations

import logging

from llmctl.domain.window import SLOT_S

from .ids import EPOCH_US, SLOT_BITS

logger = logging.getLogger(__name__)

DAY_S = 86_400  # by more a clock was wrong, and not only late


class Slots:
    """Of one process. `last_id`: of the newest call, whose time is remembered over a restart."""

    def __init__(self, last_id: int = 0) -> None:
        self._latest_s = ((last_id >> SLOT_BITS) + EPOCH_US) // 1_000_000 if last_id else 0
        self._complete_from_s = 0

    def complete_from_s(self, now_s: int) -> int:
        """Before this moment a slot may have no balance though there were calls: they are counted themselves."""
        if now_s < self._latest_s - SLOT_S:
            back_s = self._latest_s - now_s
            logger.warning("the clock was set back by %d s", back_s)
            self._complete_from_s = max(self._complete_from_s, self._latest_s) if back_s <= DAY_S else now_s
            self._latest_s = now_s
        self._latest_s = max(self._latest_s, now_s)
        return self._complete_from_s
