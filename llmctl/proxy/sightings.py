"""Where secrets are used from: counted in memory, written every few seconds, off the way of the calls."""

from __future__ import annotations

import asyncio
import logging
import time

from llmctl.config import Config
from llmctl.domain.errors import LlmctlError
from llmctl.store import sightings
from llmctl.store.database import Store
from llmctl.store.sightings import Sighting

from .turns import take_turns

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 5.0
STEP_PLACES = 250  # in one transaction: some milliseconds, in which no call is let in
STEP_PAUSE_S = 0.02
PLACES_MAX = 10_000  # between two writes; a crowd beyond it goes unseen
CLIENT_CHARS_MAX = 64
ADDRESS_CHARS_MAX = 45  # the longest way to write an IPv6 address


class Sightings:
    """Belongs to the event loop; the file is written on a thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen: dict[tuple[bytes, str, str], int] = {}
        self._failing = False  # said once

    def note(self, digest: bytes, address: str, user_agent: str) -> None:
        """One call with a secret that was let in, from a client's address."""
        place = (digest, address, user_agent[: 2 * CLIENT_CHARS_MAX])
        number = self._seen.get(place)
        if number is not None or len(self._seen) < PLACES_MAX:
            self._seen[place] = (number or 0) + 1

    async def run(self) -> None:
        await take_turns("where keys are used from", self.flush, FLUSH_EVERY_S)

    async def flush(self) -> None:
        """What cannot be written now is dropped: it helps to find a leak, no call depends on it."""
        if not self._seen:
            return
        seen, self._seen = self._seen, {}
        try:
            await asyncio.to_thread(self._write, seen, int(time.time()))
        except LlmctlError as error:
            if not self._failing:
                logger.info("where keys are used from was not written: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _write(self, seen: dict[tuple[bytes, str, str], int], now_s: int) -> None:
        places = sorted(seen.items())  # neighbours in the file go into one transaction
        store = Store(self._config.database, synchronous=self._config.server.synchronous)
        try:
            for first in range(0, len(places), STEP_PLACES):
                if first:
                    time.sleep(STEP_PAUSE_S)
                found = [
                    Sighting(digest, _clean(address)[:ADDRESS_CHARS_MAX], _client(agent), now_s, now_s, calls)
                    for (digest, address, agent), calls in places[first : first + STEP_PLACES]
                ]
                with store.write() as tx:
                    sightings.add(tx, found)
        finally:
            store.close()


def _client(agent: str) -> str:
    """`OpenAI/Python 1.2` -> `OpenAI/Python 1.2`; of a browser's long line only its first word."""
    return _clean(agent.partition(" (")[0])[:CLIENT_CHARS_MAX]


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
