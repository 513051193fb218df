"""Who tries keys. Their answers come late, or cost them the connection, so that trying is slow and a flood is cheap;
nobody who has a key waits, whatever others at the same address do, and one old key that a forgotten program shows for
ever is no trying."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

FREE = 20  # different wrong keys of an address in a minute that are answered at once
MINUTE_S = 60.0
DELAY_S = 0.1  # of the next one, then doubled
DELAY_S_MAX = 2.0
WAITING_MAX = 1_000  # answers that are held back at once; beyond it they would be the load, and end their connections
WAITING_PER_ADDRESS_MAX = 200
ADDRESSES_MAX = 10_000


class _Stranger:
    __slots__ = ("since_s", "tried", "tries", "waiting")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.tried: set[int] = set()
        self.tries = 0  # different keys
        self.waiting = 0


class Strangers:
    """Belongs to the event loop."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._known: dict[str, _Stranger] = {}
        self._waiting = 0

    async def delay(self, address: str, secret: str) -> bool:
        """Waits as long as this address has to for the answer to this wrong key. False: too many wait already; it is to
        be the last answer of its connection."""
        stranger = self._note(address, secret)
        delay_s = delay_of(stranger.tries)
        if not delay_s:
            return True
        if self._waiting >= WAITING_MAX or stranger.waiting >= WAITING_PER_ADDRESS_MAX:
            return False
        self._waiting += 1
        stranger.waiting += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._waiting -= 1
            stranger.waiting -= 1
        return True

    def _note(self, address: str, secret: str) -> _Stranger:
        now_s = self._clock_s()
        stranger = self._known.get(address)
        if stranger is None or now_s - stranger.since_s >= MINUTE_S:
            if len(self._known) >= ADDRESSES_MAX:
                self._known.pop(next(iter(self._known)))
            self._known.pop(address, None)  # the newest last
            stranger = self._known[address] = _Stranger(now_s)
        if (tried := hash(secret)) in stranger.tried:
            return stranger
        if len(stranger.tried) <= FREE:
            stranger.tried.add(tried)
        stranger.tries += 1
        if stranger.tries == FREE + 1:
            logger.warning("wrong keys from %s: its answers come late for a while", address or "an unknown address")
        return stranger


def delay_of(tries: int) -> float:
    """Seconds for the answer to this try of a minute."""
    return 0.0 if tries <= FREE else min(DELAY_S * 2 ** min(tries - FREE - 1, 16), DELAY_S_MAX)
