"""Watches over calls under way, so that no chunk needs a timer of its own: stalled clients, clients that left."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from llmctl.config import Server

from .relay import Client

EVERY_S = 1.0


@dataclass(eq=False, slots=True)
class Flight:
    """One answer on its way."""

    client: Client
    response: aiohttp.ClientResponse
    cut: bool = False  # we ended it: nobody waits for it any more


class Watch:
    """All flights of this process."""

    def __init__(self, server: Server) -> None:
        self._flights: set[Flight] = set()
        self._write_stall_s = server.timeouts.client_write_stall_s
        self._drain_s_max = 0.0 if server.on_disconnect == "cancel" else server.timeouts.drain_s_max

    def add(self, flight: Flight) -> None:
        self._flights.add(flight)

    def remove(self, flight: Flight) -> None:
        self._flights.discard(flight)

    def cut_all(self) -> None:
        """Ends every answer that is still on its way; each is booked with what was seen."""
        for flight in list(self._flights):
            flight.cut = True
            flight.response.close()

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            now_s = time.monotonic()
            for flight in list(self._flights):
                self._check(flight, now_s)

    def _check(self, flight: Flight, now_s: float) -> None:
        client = flight.client
        if client.writing_since_s is not None and now_s - client.writing_since_s > self._write_stall_s:
            client.abort()
        client.check_connection()
        if client.gone and not flight.cut and now_s - client.gone_since_s >= self._drain_s_max:
            flight.cut = True
            flight.response.close()
