"""Load that looks at each piece: streams that last, and calls at a steady rate.

    python -m tests.bench.probe streams URL KEY BODY 1000
    python -m tests.bench.probe firsts URL KEY BODY 1 --seconds 4
    python -m tests.bench.probe calls URL KEY BODY 500 --seconds 6

What it saw is printed as JSON. `streams` opens so many, spread over a second, and reads each to its end; their events
must say when they were sent (`bench-talk`). `firsts` reads one stream after another. `calls` begins so many a second,
whether or not earlier ones have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from .load import FINISH_TIMEOUT_S, Load, is_whole, request_bytes
from .machine import output
from .upstream import STAMP, TALK_EVENTS, TALK_INTERVAL_S

RAMP_S = 1.0
TICK_S = 0.002

_SENT = re.compile(rb'"content":"(\d{%d})"' % len(STAMP))


@dataclass(frozen=True, slots=True)
class Seen:
    """`count`: events of streams, or calls. Times in ms: of an event from its sending to its arrival, or of a call."""

    count: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    first_p50_ms: float = 0.0  # of streams: from the call to the first event
    first_p99_ms: float = 0.0


def see(kind: str, url: str, key: str, body: str, number: int, *, core: int | None, seconds: int = 0) -> Seen:
    """Runs the probe on `core`."""
    command = [sys.executable, "-m", "tests.bench.probe", kind, url, key, body, str(number), "--seconds", str(seconds)]
    return Seen(**json.loads(output(command, core)))


class Line(asyncio.Protocol):
    """A connection: one call at a time."""

    def __init__(self, received: Callable[[Line, bytes], None], lost: Callable[[Line], None]) -> None:
        self._received = received
        self._lost = lost
        self.answer = bytearray()
        self.began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost(self)

    def call(self, request: bytes, began_s: float) -> None:
        self.answer.clear()
        self.began_s = began_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received(self, data)


async def connected(url: str, received: Callable[[Line, bytes], None], lost: Callable[[Line], None]) -> Line:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(lambda: Line(received, lost), str(parts.hostname), parts.port or 80)
    return line


class Streams:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = request_bytes(load, load.keys[0])
        self._delays_s: list[float] = []
        self._firsts_s: list[float] = []
        self._ended = 0
        self._over = asyncio.Event()

    async def run(self) -> Seen:
        lines = [await connected(self._load.url, self._take, self._end) for _ in range(self._load.connections)]
        for line in lines:
            line.call(self._request, time.perf_counter())
            await asyncio.sleep(RAMP_S / len(lines))
        async with asyncio.timeout(RAMP_S + TALK_EVENTS * TALK_INTERVAL_S + FINISH_TIMEOUT_S):
            await self._over.wait()
        p50, p99, longest = _spread_ms(self._delays_s)
        first_p50, first_p99, _ = _spread_ms(self._firsts_s)
        missing = len(lines) * TALK_EVENTS - len(self._delays_s)
        return Seen(len(self._delays_s), missing, p50, p99, longest, first_p50, first_p99)

    def _take(self, line: Line, data: bytes) -> None:
        now_s = time.time()
        sent = _SENT.findall(data)
        if sent and not line.answer:
            self._firsts_s.append(time.perf_counter() - line.began_s)
            line.answer += b"begun"
        self._delays_s += [now_s - int(one) / 1e9 for one in sent]
        if data.endswith(b"0\r\n\r\n"):
            line.transport.close()

    def _end(self, _line: Line) -> None:
        self._ended += 1
        if self._ended == self._load.connections:
            self._over.set()


class Firsts:
    """Times are of each stream's first event, from the call on."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = request_bytes(load, load.keys[0])
        self._times_s: list[float] = []
        self._failed = 0
        self._seen = False

    async def run(self) -> Seen:
        line = await connected(self._load.url, self._take, self._end)
        until_s = time.perf_counter() + self._load.seconds
        while time.perf_counter() < until_s:
            self._whole, self._seen = asyncio.Event(), False
            line.call(self._request, time.perf_counter())
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self._whole.wait()
        return Seen(len(self._times_s), self._failed, *_spread_ms(self._times_s))

    def _take(self, line: Line, data: bytes) -> None:
        line.answer += data
        if not self._seen and b"data:" in line.answer:
            self._seen = True
            self._times_s.append(time.perf_counter() - line.began_s)
        if is_whole(line.answer):
            self._failed += not self._seen
            self._whole.set()

    def _end(self, _line: Line) -> None:
        """Nobody sets the event any more: it fails by its time."""


class Calls:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = request_bytes(load, load.keys[0])
        self._idle: deque[Line] = deque()
        self._times_s: list[float] = []
        self._failed = 0
        self._open = 0

    async def run(self) -> Seen:
        per_s, began_s, begun = self._load.connections, time.perf_counter(), 0
        while (passed_s := time.perf_counter() - began_s) < self._load.seconds:
            while begun < passed_s * per_s:
                if not self._idle:
                    self._idle.append(await connected(self._load.url, self._take, self._end))
                self._open += 1
                self._idle.popleft().call(self._request, time.perf_counter())
                begun += 1
            await asyncio.sleep(TICK_S)
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            while self._open:
                await asyncio.sleep(TICK_S)
        return Seen(len(self._times_s), self._failed, *_spread_ms(self._times_s))

    def _take(self, line: Line, data: bytes) -> None:
        line.answer += data
        if not is_whole(line.answer):
            return
        self._times_s.append(time.perf_counter() - line.began_s)
        self._failed += not line.answer.startswith(b"HTTP/1.1 200 ")
        self._open -= 1
        line.began_s = 0.0
        self._idle.append(line)

    def _end(self, line: Line) -> None:
        if line.began_s:  # in the middle of a call
            self._failed += 1
            self._open -= 1
        elif line in self._idle:
            self._idle.remove(line)


def _spread_ms(times_s: Sequence[float]) -> tuple[float, float, float]:
    ordered = sorted(times_s) or [0.0]
    middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return 1000 * middle, 1000 * late, 1000 * ordered[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("streams", "firsts", "calls"))
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("body")
    parser.add_argument("number", type=int)
    parser.add_argument("--seconds", type=int, default=0)
    args = parser.parse_args()
    load = Load.chat(args.url, [args.key], args.body, args.number, args.seconds)
    probes: dict[str, type[Streams | Firsts | Calls]] = {"streams": Streams, "firsts": Firsts, "calls": Calls}
    print(json.dumps(dataclasses.asdict(uvloop.run(probes[args.kind](load).run()))))


if __name__ == "__main__":
    main()
