"""A load generator of our own, for machines without wrk: keep-alive connections, one call after another on each.

    python -m tests.bench.client load.json

The file holds a Load; its Result is printed as JSON. A call that was begun is always finished.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from .load import FINISH_TIMEOUT_S, Load, Result, is_whole, request_bytes

RECONNECT_S = 0.1


class Run:
    """What all connections share."""

    def __init__(self, load: Load) -> None:
        url = urlsplit(load.url)
        self.host, self.port = url.hostname or "", url.port or 80
        self.requests = cycle([request_bytes(load, key) for key in load.keys])
        self.loop = asyncio.get_running_loop()
        self.began_s = time.perf_counter()  # a uvloop's own clock counts in whole ms
        self.until_s = self.began_s + load.seconds
        self.latencies_s: list[float] = []
        self.refused = 0
        self.broken = 0

    def result(self) -> Result:
        latencies_s = sorted(self.latencies_s) or [0.0]
        return Result(
            calls=len(self.latencies_s),
            refused=self.refused,
            broken=self.broken,
            seconds=time.perf_counter() - self.began_s,
            p50_ms=1000 * latencies_s[len(latencies_s) // 2],
            p99_ms=1000 * latencies_s[len(latencies_s) * 99 // 100],
        )


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._calling = False
        self.lost: asyncio.Future[None] = run.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._call()

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.broken += self._calling
        self.lost.set_result(None)

    def _call(self) -> None:
        self._received = bytearray()
        self._calling = True
        self._began_s = time.perf_counter()
        self._transport.write(next(self._run.requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not is_whole(self._received):
            return
        self._calling = False
        run, now_s = self._run, time.perf_counter()
        if self._received.startswith(b"HTTP/1.1 200 "):
            run.latencies_s.append(now_s - self._began_s)
        else:
            run.refused += 1
        if now_s < run.until_s:
            self._call()
        else:
            self._transport.close()


async def call_again_and_again(run: Run) -> None:
    """On one connection; on another one if the server closes it."""
    while time.perf_counter() < run.until_s:
        try:
            _, connection = await run.loop.create_connection(lambda: Connection(run), run.host, run.port)
            await connection.lost
        except OSError:
            run.broken += 1
            await asyncio.sleep(RECONNECT_S)


async def drive(load: Load) -> Result:
    run = Run(load)
    tasks = [asyncio.create_task(call_again_and_again(run)) for _ in range(load.connections)]
    _, unfinished = await asyncio.wait(tasks, timeout=load.seconds + FINISH_TIMEOUT_S)
    run.broken += len(unfinished)
    return run.result()


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(uvloop.run(drive(Load(**json.loads(Path(sys.argv[1]).read_bytes())))))))
