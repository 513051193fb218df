"""What grows: streams at once, bodies, users, the file. `make bench ARGS=--scale`, about twenty-five minutes."""

from __future__ import annotations

import csv
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .figures import Figure, Goal, Pair
from .gateway import Gateway
from .load import LoadFailed
from .machine import Cores, Process
from .measure import MANY, SOME, Driver, Target, Workload, body, chat
from .probe import Seen, see
from .upstream import MODEL, TALK_MODEL

T = TypeVar("T")

STREAMS = 1_000
IMAGE_BYTES, TEXT_BYTES = 1 << 20, 400_000  # a photo as base64; a hundred thousand tokens
IMAGE = chat(MODEL, [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * IMAGE_BYTES}}])
TEXT = chat(MODEL, "lorem ipsum dolor " * (TEXT_BYTES // 18))
IMAGES, TEXTS = Workload("8 images of 1 MB at once", 8, IMAGE), Workload("8 texts of 400 KB at once", 8, TEXT)
BESIDE_PER_S = 200  # small calls beside large ones: how long these keep the event loop
CALLERS = 5_000  # who call in turns, each with limits of their own
USERS = 100_000
CHANGES, CHANGES_PER_S = 5, 500  # calls a second while settings change
FEW_CALLS, MANY_CALLS, STEADY_PER_S = 2_000, 10_000_000, 1_000
MILLION, MILLION_TURN_S = 1_000_000, 30


def figures(where: Cores, driver: Driver, directory: Path, upstream_url: str, turns: int, seconds: int) -> list[Figure]:
    bare_command = [sys.executable, "-m", "tests.bench.passthrough", upstream_url]
    small = _gateway(directory / "small", upstream_url, where)
    found: list[Figure] = []
    with Process(bare_command, where.measured) as passthrough, small.start() as daemon:
        bare = Target("bare", passthrough.first_line(), small.key, passthrough)
        llmctl = Target("llmctl", small.url, small.key, daemon)
        _say("streams")
        found += _streams(where, bare, llmctl, turns)
        _say("large bodies")
        found += _bodies(where, driver, bare, llmctl, turns, seconds)
    _say("two workers")
    found += _workers(driver, directory, upstream_url, turns, seconds)
    _say(f"{CALLERS:,} callers")
    found.append(_callers(driver, _gateway(directory / "callers", upstream_url, where), turns, seconds))
    _say(f"{USERS:,} users")
    found += _users(where, driver, _gateway(directory / "users", upstream_url, where, FEW_CALLS, USERS))
    _say(f"{MANY_CALLS:,} calls")
    large = _gateway(directory / "calls", upstream_url, where, MANY_CALLS, 2_000)
    with small.start() as few, large.start() as many:
        found.append(_write_rate(driver, small.target("few", few), large.target("many", many), turns, seconds))
    return [*found, *_under_care(where, large)]


def _gateway(directory: Path, upstream_url: str, where: Cores, calls: int = 0, users: int = 0) -> Gateway:
    directory.mkdir()
    return Gateway(directory, upstream_url, where.measured, calls=calls, users=users)


def _streams(where: Cores, bare: Target, llmctl: Target, turns: int) -> list[Figure]:
    """Each pair: bare, llmctl."""
    cpu_us, memory_kb, late_ms, first_ms = list[Pair](), list[Pair](), list[Pair](), list[Pair]()
    request = body(TALK_MODEL, stream=True)

    def turn(target: Target) -> tuple[Seen, float, float]:
        memory_mb, cpu_s = target.process.memory_mb(), target.process.cpu_s()
        with _peak(target.process.memory_mb) as peak:
            seen = see("streams", target.url, target.key, request, STREAMS, core=where.others)
        _must_not_fail(seen)
        cpu = 1e6 * (target.process.cpu_s() - cpu_s) / seen.count
        return seen, cpu, 1024 * (peak[0] - memory_mb) / STREAMS

    for _ in range(turns):
        (seen_bare, cpu_bare, memory_bare), (seen, cpu, memory) = turn(bare), turn(llmctl)
        cpu_us.append((cpu_bare, cpu))
        memory_kb.append((memory_bare, memory))
        late_ms.append((seen_bare.p99_ms, seen.p99_ms))
        first_ms.append((seen_bare.first_p50_ms, seen.first_p50_ms))
    many = f"{STREAMS:,} streams at once"
    return [
        Figure(f"CPU of an event, {many}", "us", cpu_us, goal=Goal(1.2)),
        Figure(f"delay of an event p99, {many}", "ms", late_ms, "difference", Goal(5)),
        Figure(f"first event p50, {STREAMS:,} streams begun in a second", "ms", first_ms, "difference"),
        Figure(f"memory of a stream, {many}", "KB", memory_kb[:1], "value", Goal(40)),  # later ones find it there
    ]


def _bodies(where: Cores, driver: Driver, bare: Target, llmctl: Target, turns: int, seconds: int) -> list[Figure]:
    found = []
    for workload in (IMAGES, TEXTS):
        pairs = driver.alternate(bare, llmctl, workload, turns, seconds)
        per_s = [(of_bare.result.calls_per_s, of_llmctl.result.calls_per_s) for of_bare, of_llmctl in pairs]
        found.append(Figure(f"throughput, {workload.name}", "/s", per_s, goal=Goal(0.8, at_least=True)))
    one = Workload("one image after another", 1, IMAGE)

    def longest_ms(target: Target) -> float:
        small = _beside(
            lambda: driver.turn(target, one, seconds),
            lambda: see("calls", target.url, target.key, SOME.body, BESIDE_PER_S, core=where.others, seconds=seconds),
        )
        _must_not_fail(small)
        return small.p99_ms

    beside = [(longest_ms(bare), longest_ms(llmctl)) for _ in range(turns)]
    return [*found, Figure("small call p99 beside images of 1 MB", "ms", beside, "difference", Goal(10))]


def _workers(driver: Driver, directory: Path, upstream_url: str, turns: int, seconds: int) -> list[Figure]:
    """Each pair: one worker, two. Of two cores the load and the upstream take their share too: how far two workers are
    from twice as many calls, the CPU of a call tells better."""
    gateways = []
    for workers in (1, 2):
        there = directory / f"workers-{workers}"
        there.mkdir()
        gateways.append(Gateway(there, upstream_url, None, workers=workers))
    one, two = gateways
    with one.start() as first, two.start() as second:
        pairs = driver.alternate(one.target("one", first), two.target("two", second), MANY, turns, seconds)
    per_s = [(of_one.result.calls_per_s, of_two.result.calls_per_s) for of_one, of_two in pairs]
    cpu_us = [(of_one.cpu_us_per_call, of_two.cpu_us_per_call) for of_one, of_two in pairs]
    return [
        Figure("throughput, one worker / two, beside the load", "/s", per_s, goal=Goal(1.8, at_least=True)),
        Figure("CPU of a call, one worker / two", "us", cpu_us),
    ]


def _callers(driver: Driver, gateway: Gateway, turns: int, seconds: int) -> Figure:
    """Each pair: one of them, all."""
    listed, keys = (gateway.database.with_name(name) for name in ("users.csv", "keys.csv"))
    listed.write_text("\n".join(["name", *(f"caller-{number}" for number in range(CALLERS))]))
    gateway.llmctl(f"user import {listed} --key-file {keys}")
    for limit in ("--requests 10000000 --per minute", "--cost 1000000 --per day"):
        gateway.llmctl(f"limit set --org --each user {limit}")
    with gateway.start() as daemon, keys.open() as file:
        secrets = [row["secret"] for row in csv.DictReader(file)]
        one = Target("callers", gateway.url, secrets[0], daemon)
        everyone = Target("callers", gateway.url, secrets[0], daemon, other_keys=secrets[1:])
        driver.turn(everyone, SOME, CALLERS // 1_000)  # whoever calls first has balances made
        pairs = driver.alternate(one, everyone, SOME, turns, seconds)
    per_s = [(of_one.result.calls_per_s, of_all.result.calls_per_s) for of_one, of_all in pairs]
    return Figure(f"throughput, one caller / {CALLERS:,}, two limits on each", "/s", per_s)


def _users(where: Cores, driver: Driver, gateway: Gateway) -> list[Figure]:
    began_s = time.perf_counter()
    with gateway.start() as daemon:
        ready_s = time.perf_counter() - began_s
        memory_mb = daemon.memory_mb()
        target = gateway.target("llmctl", daemon)
        driver.turn(target, SOME, 1)

        def calls() -> Seen:
            return see("calls", target.url, target.key, SOME.body, CHANGES_PER_S, core=where.others, seconds=6)

        def changes() -> None:
            for number in range(CHANGES):
                time.sleep(0.5)
                gateway.llmctl(f"key revoke user-{1_000 + number}")

        quiet = calls()
        changing = _beside(changes, calls)
        _must_not_fail(quiet)
        _must_not_fail(changing)
        _say("a million calls")
        calls_made = 0
        while calls_made < MILLION:
            calls_made += driver.turn(target, SOME, MILLION_TURN_S).result.calls
        after_mb = daemon.memory_mb()
    many = f"{USERS:,} users"
    return [
        Figure(f"start to ready, {many}", "s", [(0, ready_s)], "value", Goal(1)),
        Figure(f"memory after start, {many}", "MB", [(0, memory_mb)], "value", Goal(70)),
        Figure(f"longest call while keys are revoked, {many}", "ms", [(quiet.max_ms, changing.max_ms)], "value"),
        Figure(
            f"its p99 without and with that, {CHANGES_PER_S}/s",
            "ms",
            [(quiet.p99_ms, changing.p99_ms)],
            "difference",
            Goal(20),
        ),
        Figure(f"memory after {calls_made:,} calls, {many}", "MB", [(0, after_mb)], "value", Goal(120)),
    ]


def _write_rate(driver: Driver, few: Target, many: Target, turns: int, seconds: int) -> Figure:
    pairs = driver.alternate(few, many, SOME, turns, seconds)
    per_s = [(first.result.calls_per_s, second.result.calls_per_s) for first, second in pairs]
    return Figure(f"throughput, empty file / {MANY_CALLS:,} calls", "/s", per_s, goal=Goal(0.9, at_least=True))


def _under_care(where: Cores, gateway: Gateway) -> list[Figure]:
    """Holds, by the gateway's own histogram: by themselves, and while the file is copied and pruned."""

    def hold_p99_ms(care: str) -> float:
        before = _buckets(gateway.metrics())
        _beside(
            lambda: see("calls", gateway.url, gateway.key, SOME.body, STEADY_PER_S, core=where.others, seconds=15),
            lambda: gateway.llmctl(care) if care else "",
        )
        after = _buckets(gateway.metrics())
        return 1000 * _quantile([(le, after[le] - before[le]) for le in after], 0.99)

    found = []
    with gateway.start():
        quiet_ms = hold_p99_ms("")
        for care in (f"backup {gateway.database.parent}/copy.db", "prune --keep 25d --yes"):
            name = f"hold p99 is below, {STEADY_PER_S:,}/s, beside {care.split()[0]}"
            found.append(Figure(name, "ms", [(quiet_ms, hold_p99_ms(care))], "value", Goal(10)))
    return found


def _buckets(metrics: str) -> dict[float, float]:
    lines = re.findall(r'^llmctl_overhead_duration_seconds_bucket{le="([^"]+)"} (\S+)', metrics, re.MULTILINE)
    return {float(le): float(count) for le, count in lines}


def _quantile(cumulative: Sequence[tuple[float, float]], share: float) -> float:
    ordered = sorted(cumulative)
    return next(bound for bound, count in ordered if count >= share * ordered[-1][1])


def _beside(background: Callable[[], object], act: Callable[[], T]) -> T:
    thread = threading.Thread(target=background)
    thread.start()
    try:
        return act()
    finally:
        thread.join()


@contextmanager
def _peak(measure: Callable[[], float]) -> Iterator[list[float]]:
    highest, over = [measure()], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            highest[0] = max(highest[0], measure())

    thread = threading.Thread(target=watch)
    thread.start()
    yield highest
    over.set()
    thread.join()


def _must_not_fail(seen: Seen) -> None:
    if seen.failed or not seen.count:
        raise LoadFailed(f"{seen.count} arrived, {seen.failed} failed")


def _say(what: str) -> None:
    print(f"scale: {what}", file=sys.stderr)
