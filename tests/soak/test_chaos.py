"""Providers that fail in every way at once, clients that leave: a clear end for each call, and nothing that grows.

CHAOS_MINUTES says how long the soak goes on; it prints by how much the memory grew with each 1,000 calls.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import ANSWER, CREDENTIAL, FAULTS, Faulty, wait_until
from tests.support.faulty_more import MORE, RETRY_AFTER, untrusted
from tests.support.wire import CHAT, MESSAGES, PROMPT, Reply, Wire, ask, post, request_bytes

from .footprint import assert_books_agree, assert_descriptors_are_back, descriptors, open_calls, resident_kb

MINUTES = float(os.environ.get("CHAOS_MINUTES", "30"))
CLIENTS = 16
SAMPLE_S = 5.0
SLOPE_KB_MAX = 256.0  # per 1,000 calls, of the second half: less than what any call could leave behind
LEFT = 8  # descriptors that a call may leave for a while: connections that are kept
SERVER = (
    'on_disconnect = "cancel"\n[server.timeouts]\nconnect_s = 0.5\nread_s = 0.3\ndrain_s_max = 1\n'
    "client_write_stall_s = 1\nclient_body_stall_s = 0.5\n"
)
NEVER_ENDING = ("endless", "flood")  # a client of these has to leave

# Of a whole answer: status, how the call is booked, with which error.
ENDS: dict[str, tuple[int, str, str | None]] = {
    "reset_before_body": (502, "settled", "provider_failed"),
    "reset_after_answer": (200, "settled", None),
    "half_close_in_stream": (200, "settled", "provider_failed"),
    "garbage_in_stream": (200, "settled", "provider_failed"),
    "until_closed": (200, "settled", None),
    "stall_unread": (504, "settled", "provider_timeout"),
    "tls_reset": (502, "released", "provider_unreachable"),
    "tls_stall": (504, "released", "provider_timeout"),
    "tls_untrusted": (502, "released", "provider_unreachable"),
    **dict.fromkeys((f"storm_{name}" for name in (*RETRY_AFTER, "twice")), (429, "settled", "provider_429")),
}
BROKEN = ("half_close_in_stream", "garbage_in_stream")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with Faulty({**FAULTS, **MORE}, tls=untrusted(tmp_path_factory.mktemp("tls"))) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, faulty: Faulty) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("chaos")
    with Daemon(directory, faulty.providers(directory), server=SERVER) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon
    log = "".join(daemon.log)
    for told in ("Traceback", CREDENTIAL, "sk-llmctl-", PROMPT, ANSWER):
        assert told not in log


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    key = gateway.add_user("alice")
    gateway.here("limit", "set", "--user", "alice", "--cost", "100000000", "--per", "total")
    return key


def call(daemon: Daemon, key: str, fault: str, path: str = CHAT, *, stream: bool = False) -> Reply:
    return post(daemon.url, path, ask(f"{fault}/m", path=path, stream=stream), key)


@pytest.mark.parametrize("fault", ENDS)
def test_each_failure_is_told_and_booked_as_what_it_is(gateway: Daemon, faulty: Faulty, key: str, fault: str) -> None:
    status, state, error = ENDS[fault]
    for path in (CHAT, MESSAGES):
        reply = call(gateway, key, fault, path, stream=fault in BROKEN)
        assert (reply.status, reply.cut) == (status, fault in BROKEN), reply
        if status != 200:
            assert reply.error["message"]
        row = gateway.call(reply.headers["x-llmctl-call-id"])
        assert (row["state"], row["error"]) == (state, error)
        assert (float(row["cost_usd"]) > 0) == (state == "settled" and status != 429)


def leave(daemon: Daemon, key: str, fault: str, rng: random.Random, path: str) -> None:
    """Asks and goes, before or after the first bytes."""
    with Wire(daemon.url) as wire:
        wire.send(request_bytes(path, ask(f"{fault}/m", path=path, stream=True), key))
        if rng.random() < 0.5:
            wire.socket.settimeout(0.3)
            with suppress(OSError):
                wire.socket.recv(1 << 16)
        wire.reset()


@pytest.mark.soak
def test_memory_and_descriptors_are_back_after_each_failure(gateway: Daemon, key: str) -> None:
    rng = random.Random(1)
    for path in (CHAT, MESSAGES):
        for stream in (False, True):
            call(gateway, key, "no_usage", path, stream=stream)  # loads the vocabulary that estimates take
    for fault in (*FAULTS, *MORE, "refused", "unreachable"):
        before, resident = descriptors(gateway), resident_kb(gateway)
        for path in (CHAT, MESSAGES):
            for stream in (False, True):
                if fault not in NEVER_ENDING:
                    reply = call(gateway, key, fault, path, stream=stream)
                    assert 200 <= reply.status < 1_000, fault
                    assert b"internal_error" not in reply.body, fault
                leave(gateway, key, fault, rng, path)
        assert wait_until(lambda: open_calls(gateway) == 0, 10), fault
        assert_descriptors_are_back(gateway, before, LEFT)
        assert resident_kb(gateway) - resident < 96 << 10, fault  # one passes an event of 20 MB, four times
    assert_books_agree(gateway, callers=1, minutes=10)


class Load:
    """Clients that call one fault after another; some leave. `calls`: how many there were, by their status."""

    def __init__(self, daemon: Daemon, key: str, seed: int) -> None:
        self._daemon, self._key, self._seed = daemon, key, seed
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.wrong: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed}:{number}")
        heavy = ("huge_event", *NEVER_ENDING)
        faults = [one for one in (*FAULTS, *MORE, "refused", "unreachable") if one not in heavy]
        while not self._over.is_set():
            path, stream = rng.choice((CHAT, MESSAGES)), rng.random() < 0.5
            fault = rng.choice(("fine", "no_usage", *NEVER_ENDING)) if rng.random() < 0.5 else rng.choice(faults)
            if fault in NEVER_ENDING or rng.random() < 0.1:
                leave(self._daemon, self._key, fault, rng, path)
                self._note("left")
                continue
            reply = call(self._daemon, self._key, fault, path, stream=stream)
            if not reply.status or b"internal_error" in reply.body or CREDENTIAL.encode() in reply.body:
                self.wrong.append(f"{fault} {path} {stream}: {reply}")
            self._note(str(reply.status))

    def _note(self, what: str) -> None:
        with self._lock:
            self.calls[what] += 1


def slope(points: list[tuple[int, int]]) -> float:
    """KB per 1,000 calls: the line with the least squares."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 1_000 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


@pytest.mark.soak
def test_memory_stays_flat_under_mixed_load_and_chaos(gateway: Daemon, faulty: Faulty, key: str) -> None:
    seed, before = random.randrange(1 << 32), descriptors(gateway)
    points: list[tuple[int, int]] = []
    began_s = time.monotonic()
    with Load(gateway, key, seed) as load:
        while time.monotonic() - began_s < 60 * MINUTES:
            time.sleep(SAMPLE_S)
            points.append((sum(load.calls.values()), resident_kb(gateway)))
            faulty.clear()
    assert load.wrong == []
    assert_descriptors_are_back(gateway, before, LEFT)
    states = assert_books_agree(gateway, callers=1, minutes=MINUTES)
    assert call(gateway, key, "fine").status == 200
    half = points[len(points) // 2 :]
    report = {
        "seed": seed,
        "calls": dict(load.calls),
        "states": states,
        "KB": [kb for _, kb in points][:: len(points) // 10],
    }
    report["KB per 1,000 calls, second half"] = round(slope(half), 1)
    print(json.dumps(report))
    assert slope(half) < SLOPE_KB_MAX, report
