"""Watches over calls under way, so that no chunk needs a timer of its own: silent providers, stalled clients, clients
that left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from msgspec import Struct

from llmctl.config.server import Server
from llmctl.domain.errors import StoreError

from .call import Call
from .client import Client
from .connections import Outgoing, ProviderAnswer

EVERY_S = 1.0
REVOKED = "key_revoked"  # why a flight was cut: an admin said so
UPLOAD_BYTES_PER_S = 32 << 10  # what a provider is slow to take is not what it is slow to answer


class Flight(Struct, eq=False):
    """One call from its sending to its end, also while the provider has not begun to answer."""

    others: set[Flight]
    call: Call
    client: Client
    outgoing: Outgoing
    task: asyncio.Task[Any]  # that waits for the answer
    since_s: float
    response: ProviderAnswer | None = None
    waiting_since_s: float = 0.0  # for the provider's next bytes, once it has begun to answer
    cut: str = ""  # why we ended it, nobody waiting for it any more
    deferred: bool = False  # it goes on without us: no reason to read on for a client that left

    def __enter__(self) -> Self:
        self.others.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.others.discard(self)

    @property
    def is_unwanted(self) -> bool:
        """Nobody waits for its answer."""
        self.client.check_connection()
        return self.client.gone or self.cut not in ("", "provider_timeout")

    def end(self, why: str) -> None:
        self.cut = why
        if self.response is not None:
            self.response.close()
        else:
            self.task.cancel()


class Watch:
    """All flights of this process."""

    def __init__(self, server: Server, cuts: Callable[[], Mapping[int, int]]) -> None:
        """`cuts`: which keys' open calls are to end (Directory.cuts)."""
        self._cuts = cuts
        self._flights: set[Flight] = set()
        self._write_stall_s = server.timeouts.client_write_stall_s
        self._drain_s_max = 0.0 if server.on_disconnect == "cancel" else server.timeouts.drain_s_max

    def over(self, call: Call, client: Client, outgoing: Outgoing) -> Flight:
        """The flight of the call that the current task sends: `with watch.over(call, client, outgoing) as flight:`."""
        task = asyncio.current_task()
        assert task is not None
        return Flight(self._flights, call, client, outgoing, task, time.monotonic())

    def is_pointless(self, client: Client) -> bool:
        """True if the call would be cancelled as soon as it was sent: its client left while it was judged."""
        client.check_connection()
        return client.gone and self._drain_s_max == 0

    def cut_all(self) -> None:
        """Ends every call that is still on its way; each is booked with what was seen."""
        for flight in list(self._flights):
            flight.end("shutting_down")

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._flights:
                self._look()

    def _look(self) -> None:
        now_s = time.monotonic()
        try:
            cuts = self._cuts()
        except StoreError:  # the ledger says so too, and louder
            cuts = {}
        for flight in list(self._flights):
            self._check(flight, now_s, cuts)

    def _check(self, flight: Flight, now_s: float, cuts: Mapping[int, int]) -> None:
        client, call = flight.client, flight.call
        if cuts and not flight.cut and call.started_at_ms < cuts.get(call.caller.key_id, 0):
            flight.end(REVOKED)
        if client.writing_since_s is not None and now_s - client.writing_since_s > self._write_stall_s:
            client.abort()
        if _is_too_late(flight, now_s) and not flight.cut:
            flight.end("provider_timeout")
        client.check_connection()
        drain_s = 0.0 if flight.deferred else self._drain_s_max
        if client.gone and not flight.cut and now_s - client.gone_since_s >= drain_s:
            flight.end("client_gone")


def _is_too_late(flight: Flight, now_s: float) -> bool:
    """The provider says nothing for too long, or takes too long over all."""
    timeouts, sent_at_s = flight.call.plan.provider.timeouts, flight.outgoing.sent_at_s
    if sent_at_s is None:
        return False
    if now_s - flight.since_s > timeouts.total_s:
        return True
    if flight.client.writing_since_s is not None:
        return False
    if flight.waiting_since_s:
        return now_s - flight.waiting_since_s > timeouts.read_s
    return now_s - sent_at_s - len(flight.outgoing.body) / UPLOAD_BYTES_PER_S > timeouts.first_byte_s
