"""Responses that go on at their provider after the exchange: https://developers.openai.com/api/docs/guides/background

Such a call stays open, with its hold, until its usage is known: from the client's own retrieval, cancelling or stream,
or because we ask for it, seldom and ever more seldom. Whoever learns of it first settles it; the ledger takes one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import aiohttp
import msgspec

from llmctl.config import Config
from llmctl.dialects import table
from llmctl.dialects.endpoint import Match
from llmctl.domain.call import Reading
from llmctl.domain.errors import StoreError
from llmctl.store import ids
from llmctl.store.booking import Closing, Deferral
from llmctl.store.deferred import DeferredCall
from llmctl.store.files import try_lock
from llmctl.store.ledger import Ledger
from llmctl.store.objects import StoredObject

from . import settlement
from .call import Call
from .metrics import Metrics
from .objects import Objects
from .relay import ANSWER_BYTES_MAX
from .telemetry import Telemetry
from .turns import take_turns
from .upstream import Upstream, UpstreamFailure

logger = logging.getLogger(__name__)

EVERY_S = 1.0
AT_ONCE = 4  # questions under way
PAUSE_S_MIN = 5.0  # clients that wait for their answer ask by themselves, and sooner
PAUSE_S_MAX = 60.0
PAUSE_SHARE = 0.25  # of its age: each pause is a quarter longer than the last
ANSWER_S_MAX = 60.0
YOUNG_S = 15.0  # a provider may say for a moment that there is no such response yet
EXPIRES_S = 86_400  # none takes so long; what is held for it is not held for ever
GONE = (404, 410)


class Background:
    """One per worker; one of those that serve a database asks, which one a lock decides."""

    def __init__(
        self, database: Path, objects: Objects, ledger: Ledger, metrics: Metrics, telemetry: Telemetry | None
    ) -> None:
        self._database = database
        self._objects = objects
        self._ledger = ledger
        self._metrics = metrics
        self._telemetry = telemetry
        self._lock: int | None = None
        self._asked_at_s: dict[int, float] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}

    def configure(self, config: Config, upstream: Upstream) -> None:
        """What is asked from now on is asked so."""
        self._config, self._upstream = config, upstream

    def defer(self, deferral: Deferral) -> None:
        self._ledger.defer(deferral)

    def heard(self, call: Call, reading: Reading, status: int | None, broken: str) -> Closing:
        """Books a call about a stored response: it costs nothing itself, but may tell what another one has cost."""
        stored = call.plan.stored
        assert stored is not None
        deletes = call.endpoint.name == "responses.delete" and not broken
        if stored.deferred and deletes:
            self._lose(stored.call_id, "response_deleted")
        elif stored.deferred and call.endpoint.name != "responses.input_items":
            self._learn(stored.call_id, reading)
        own = Reading(response_model=reading.response_model)
        closing = settlement.answered(call, own, status=status, error=broken, estimate=None, now_s=time.perf_counter())
        return msgspec.structs.replace(closing, deleted=stored.call_id) if deletes else closing

    async def ask_before_delete(self, stored: StoredObject) -> None:
        """What is deleted tells nothing any more: of a response that ended, and nobody has asked for it, now is the
        last time to."""
        if stored.deferred:
            await self._ask(stored.call_id)

    async def run(self) -> None:
        try:
            await take_turns("background responses", self._turn, EVERY_S)
        finally:
            for task in self._asking.values():
                task.cancel()
            if self._lock is not None:
                os.close(self._lock)

    async def _turn(self) -> None:
        try:
            if self._is_mine():
                self._ask_some()
        except StoreError as error:
            logger.warning("%s", error)

    def _is_mine(self) -> bool:
        if self._lock is None:
            self._lock = try_lock(self._database, ".background")
        return self._lock is not None

    def _ask_some(self) -> None:
        waiting = self._objects.waiting()
        now_s, now_ms = time.monotonic(), time.time() * 1000
        self._asked_at_s = {call_id: self._asked_at_s.get(call_id, 0.0) for call_id, _ in waiting}
        due = []
        for call_id, started_at_ms in waiting:
            age_s = (now_ms - started_at_ms) / 1000
            late_s = now_s - self._asked_at_s[call_id] - pause_s(age_s)
            if call_id not in self._asking and age_s >= PAUSE_S_MIN and late_s >= 0:
                due.append((late_s, call_id))
        for _, call_id in sorted(due, reverse=True)[: AT_ONCE - len(self._asking)]:
            self._asked_at_s[call_id] = now_s
            self._asking[call_id] = asyncio.create_task(self._ask(call_id))

    async def _ask(self, call_id: int) -> None:
        """One question. Whatever comes of it, the next one is asked as if nothing had been."""
        try:
            await self._ask_about(call_id)
        except (StoreError, UpstreamFailure) as error:
            logger.warning("call %s goes on, and could not be asked for: %s", ids.shown(call_id), error)
        finally:
            self._asking.pop(call_id, None)

    async def _ask_about(self, call_id: int) -> None:
        """Raises StoreError, UpstreamFailure."""
        found = self._objects.deferred(call_id)
        if found is None:
            return
        call, _ = found
        age_s = time.time() - call.started_at_ms / 1000
        if age_s >= EXPIRES_S:
            self._lose(call_id, "response_expired")
            return
        status, reading = await self._retrieve(call) if call.object_id else (GONE[0], None)
        if reading is not None:
            self._learn(call_id, reading)
        elif status in GONE and age_s >= YOUNG_S:
            self._lose(call_id, "response_gone")

    async def _retrieve(self, call: DeferredCall) -> tuple[int, Reading | None]:
        """HTTP status, and what the provider says of the response. Raises UpstreamFailure."""
        provider = self._config.providers.get(call.provider)
        endpoint = table.named(call.dialect, "responses.retrieve")
        if provider is None or endpoint is None or call.dialect not in provider.dialects:
            return 0, None
        target = Match(endpoint, id=call.object_id).target(call.model)
        outgoing = await self._upstream.own(provider, target, endpoint.dialect, fingerprint=call.credential)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._upstream.send(provider, outgoing)
                try:
                    body = await answer.whole(ANSWER_BYTES_MAX)
                finally:
                    answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None
        if answer.status != 200 or body is None:
            return answer.status, None
        return answer.status, endpoint.dialect.read_answer(endpoint.name, body)

    def _learn(self, call_id: int, reading: Reading) -> None:
        """Books it, if that is how it ended."""
        if reading.goes_on or not (reading.finished and (reading.status or reading.usage)):
            return
        found = self._objects.deferred(call_id)
        if found is not None:
            call, price = found
            self._settle(call, settlement.learned(call, price, reading, now_ms=time.time_ns() // 1_000_000))

    def _lose(self, call_id: int, error: str) -> None:
        found = self._objects.deferred(call_id)
        if found is not None:
            call, _ = found
            logger.warning("call %s: %s; booked as estimated, at all that it held", ids.shown(call_id), error)
            self._settle(call, settlement.lost(call, error=error, now_ms=time.time_ns() // 1_000_000))

    def _settle(self, call: DeferredCall, closing: Closing) -> None:
        self._ledger.settle(closing)
        self._metrics.booked(call.provider, call.dialect, call.model, closing, known=call.price_id is not None)
        if self._telemetry is not None:
            self._telemetry.learned(call, closing)


def pause_s(age_s: float) -> float:
    """How long after one question the next is asked, of a response of this age."""
    return min(max(PAUSE_S_MIN, age_s * PAUSE_SHARE), PAUSE_S_MAX)
