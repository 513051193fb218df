"""Looks out for what admins should know, and tells them: beside the calls, never in their way.

One process of those that serve a database looks at the limits and delivers; whoever holds the lock file. One worker of
each gateway looks at the calls of all its workers for providers that fail. What was noticed is in the database before
anybody is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping

from llmctl.config import Config
from llmctl.config.alerts import Alerts as Settings
from llmctl.config.alerts import Receiver
from llmctl.domain.alert import Alert, failing
from llmctl.domain.errors import LlmctlError
from llmctl.domain.money import NANO_PER_USD
from llmctl.store import alerts as store
from llmctl.store.alerts import Delivery
from llmctl.store.database import Store
from llmctl.store.files import last_write_ns, try_lock

from .delivery import ERROR_CHARS_MAX, Undelivered, deliver
from .turns import take_turns

logger = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_EVERY_S = 8.0  # at limits and prices; only if something was written since
PROVIDERS_EVERY_S = 60.0
PACES_EVERY_S = 300.0  # a look at a week of roll-ups
NOTED_AT_ONCE = 50  # in one transaction, in which no call is let in: a thousand may cross a limit
DELIVERIES_MAX = 20  # to one receiver, after one look
RETRY_S = 5  # then doubled
RETRY_S_MAX = 3_600
GIVE_UP_S = 86_400
END_S_MAX = 10.0  # at the end, for what is under way: cut, it would be delivered again by the next start

Counts = Mapping[str, tuple[int, int]]  # provider -> calls and failed calls since the start


class Alerts:
    """`run` until cancelled. `counts`: calls by provider, of those whose failures are told here."""

    def __init__(self, config: Config, counts: Callable[[], Counts]) -> None:
        self._config = config
        self._settings = config.alerts
        self._counts = counts
        self._counted = counts()  # a worker that takes a dead one's place goes on with its numbers
        self._lock: int | None = None
        self._delivering: dict[str, asyncio.Task[None]] = {}  # by receiver: one that is dead holds up no other
        self._lookout = store.Lookout(config.timezone)
        self._looked_at_s = self._providers_at_s = self._paces_at_s = time.monotonic()
        self._written_ns = 0
        self._ending = False

    def configure(self, config: Config) -> None:
        """From the next look on."""
        self._config, self._settings = config, config.alerts

    async def run(self) -> None:
        try:
            await take_turns("alerts", self._turn, EVERY_S)
        finally:
            await self._end_deliveries()
            if self._lock is not None:
                os.close(self._lock)

    async def _end_deliveries(self) -> None:
        """Those under way end and are noted, within the time that calls have too; nothing more is begun."""
        self._ending = True
        if under_way := list(self._delivering.values()):
            _, late = await asyncio.wait(under_way, timeout=min(END_S_MAX, self._config.server.timeouts.shutdown_s))
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _turn(self) -> None:
        try:
            await self._look_and_tell(self._settings)
        except LlmctlError as error:
            logger.warning("alerts were not looked at: %s", error)

    async def _look_and_tell(self, settings: Settings) -> None:
        """By the same settings from looking to telling, whatever is reloaded meanwhile."""
        now_s, found = int(time.time()), await asyncio.to_thread(self._failing)
        leading = self._leads()
        if not (leading or found):
            return
        new, waiting = await asyncio.to_thread(self._look, settings, found, leading, now_s)
        for alert in new:
            logger.warning("alert: %s", alert.text)
        for name, deliveries in waiting.items():
            work = self._deliver_all(name, settings.receivers[name], deliveries)
            self._delivering[name] = asyncio.create_task(work)

    def _leads(self) -> bool:
        """Whether this process is the one that looks at what all share."""
        if self._lock is None:
            self._lock = try_lock(self._config.database, ".alerts")
        return self._lock is not None

    def _failing(self) -> list[Alert]:
        """On a thread. Providers of whose calls in the last minute too many failed."""
        if time.monotonic() - self._providers_at_s < PROVIDERS_EVERY_S:
            return []
        self._providers_at_s = time.monotonic()
        before, self._counted = self._counted, self._counts()
        found = []
        for provider, (calls, failed) in self._counted.items():
            calls_before, failed_before = before.get(provider, (0, 0))
            more, bad = calls - calls_before, failed - failed_before
            found.append(failing(provider, calls=more, failed=bad, now_s=int(time.time())))
        return [alert for alert in found if alert is not None]

    def _look(
        self, settings: Settings, found: list[Alert], leading: bool, now_s: int
    ) -> tuple[list[Alert], dict[str, list[Delivery]]]:
        """On a thread. Returns what is new, and what is to be delivered to receivers that nothing is on its way to."""
        receivers = list(settings.receivers)
        idle = [name for name in receivers if leading and name not in self._delivering]
        connection = Store(self._config.database, synchronous=self._config.server.synchronous)
        try:
            with connection.read() as tx:
                if leading and self._is_time_to_look():
                    found += self._lookout.limits_crossed(tx, settings.limit_percents, now_s)
                    found += self._lookout.unpriced(tx, now_s)
                    if self._wants_paces(settings):
                        least, factor = settings.runaway_usd_min * NANO_PER_USD, settings.runaway_factor
                        found += self._lookout.runaway(tx, factor=factor, nano_usd_min=least, now_s=now_s)
                new = store.unknown(tx, found) if found else []
            noted: list[Alert] = []
            for first in range(0, len(new), NOTED_AT_ONCE):
                with connection.write() as tx:
                    noted += store.add(tx, new[first : first + NOTED_AT_ONCE], receivers, now_s)
            if not idle:
                return noted, {}
            with connection.read() as tx:
                due = {name: store.due(tx, name, now_s, most=DELIVERIES_MAX) for name in idle}
            return noted, {name: deliveries for name, deliveries in due.items() if deliveries}
        finally:
            connection.close()

    def _is_time_to_look(self) -> bool:
        if time.monotonic() - self._looked_at_s < LOOK_EVERY_S:
            return False
        before, self._written_ns = self._written_ns, last_write_ns(self._config.database)
        self._looked_at_s = time.monotonic()
        return self._written_ns != before

    def _wants_paces(self, settings: Settings) -> bool:
        if not settings.runaway_factor or time.monotonic() - self._paces_at_s < PACES_EVERY_S:
            return False
        self._paces_at_s = time.monotonic()
        return True

    async def _deliver_all(self, name: str, receiver: Receiver, deliveries: list[Delivery]) -> None:
        """Up to the first that fails: the next look begins with those after it."""
        try:
            for delivery in deliveries:
                if self._ending or not await self._deliver(receiver, delivery):
                    return
        finally:
            del self._delivering[name]

    async def _deliver(self, receiver: Receiver, delivery: Delivery) -> bool:
        error = ""
        try:
            await deliver(receiver, delivery)
        except Undelivered as failure:
            error = str(failure)[:ERROR_CHARS_MAX]
            logger.warning("alert %d did not reach %s: %s", delivery.alert_id, delivery.receiver, error)
        await self._note_at_last(delivery, error)
        return not error

    async def _note_at_last(self, delivery: Delivery, error: str) -> None:
        """Until it is in the database nothing more is delivered there: the same would be, again and again."""
        while True:
            try:
                return await asyncio.to_thread(self._note, delivery, error, int(time.time()))
            except LlmctlError as failure:
                logger.warning("what became of alert %d was not noted: %s", delivery.alert_id, failure)
                await asyncio.sleep(RETRY_S)

    def _note(self, delivery: Delivery, error: str, now_s: int) -> None:
        connection = Store(self._config.database, synchronous=self._config.server.synchronous)
        try:
            with connection.write() as tx:
                if not error:
                    store.delivered(tx, delivery, now_s)
                else:
                    store.failed(tx, delivery, error, next_attempt_s(delivery, now_s))
        finally:
            connection.close()


def next_attempt_s(delivery: Delivery, now_s: int) -> int | None:
    """When to try again, ever more seldom; None: a day has passed, it is given up."""
    if now_s - delivery.at_s >= GIVE_UP_S:
        return None
    wait_s: int = min(RETRY_S << min(delivery.attempts, 20), RETRY_S_MAX)
    return now_s + wait_s
