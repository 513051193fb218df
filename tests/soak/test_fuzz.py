"""Clients that say anything at all: no failure of ours, no answer too many, no secret told, nothing left behind.

FUZZ_REQUESTS and FUZZ_SEED say how many requests and which; the soak prints both. What a seed finds it finds again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import CREDENTIAL, Faulty

from .client import WAIT_S, Heard, say_all
from .footprint import assert_books_agree, assert_descriptors_are_back, descriptors, resident_kb
from .hostile import PROMPT, SMUGGLED, Keys, Talk
from .upstream import providers, upstream

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1000000"))
FEW, FEW_SEED = 2_000, 20_26
BATCH = 20_000  # what the provider was sent is looked at, and forgotten, after so many
AT_ONCE = 48
FEW_LEFT = 16  # descriptors that are opened when they are first needed
GROWTH_KB_MAX = 16 << 10  # of a process that has warmed up
SERVER = "[server.timeouts]\nclient_header_s = 10\nclient_body_stall_s = 1.5\nclient_idle_s = 10\n"


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with Faulty({"upstream": upstream}) as faulty:
        yield faulty


@pytest.fixture
def gateway(tmp_path: Path, faulty: Faulty) -> Iterator[Daemon]:
    with Daemon(tmp_path, providers(tmp_path, faulty.base_url("upstream")), server=SERVER) as daemon:
        yield daemon


def keys_of(daemon: Daemon) -> Keys:
    daemon.here("price", "set", "*", "--input", "1", "--output", "10")
    good, spent, narrow = daemon.add_user("good"), daemon.add_user("spent"), daemon.add_user("narrow")
    daemon.here("limit", "set", "--user", "spent", "--cost", "0.000001", "--per", "total")
    daemon.here("limit", "set", "--user", "good", "--cost", "1000000000", "--per", "total")
    daemon.here("model", "deny", "*", "--user", "narrow")
    wrong = tuple(good[:-6] + f"wrong{number}" for number in range(5))
    return Keys(good, spent, narrow, (*wrong, CREDENTIAL, "' OR 1=1 --", "x" * 9_000))


class Watcher:
    """Looks at each conversation."""

    def __init__(self, seed: int, keys: Keys, *, is_patient: bool) -> None:
        self._seed = seed
        self.is_patient = is_patient  # every connection is listened to until the gateway closes it
        self._secrets = [secret.encode() for secret in (*keys.secrets, CREDENTIAL, PROMPT)]
        self.statuses: Counter[int] = Counter()
        self.requests = 0
        self.slowest_s = 0.0  # of conversations in which nothing is wrong

    def __call__(self, number: int, said: Talk, heard: Heard) -> None:
        self.requests += len(said.units)
        self.statuses.update(heard.statuses)
        if wrong := self._wrong(said, heard):
            pytest.fail(f"seed {self._seed}, conversation {number}: {wrong}: {said}\n{heard.raw[-2_000:]!r}")

    def _wrong(self, said: Talk, heard: Heard) -> str:
        """What must not be, in words; "" if nothing is."""
        if not heard.closed and (self.is_patient or said.is_good):
            return "the connection stays open"
        if 500 in heard.statuses or b"internal_error" in heard.raw or b"database_unavailable" in heard.raw:
            return "a failure of our own"
        if any(secret in heard.raw for secret in self._secrets):
            return "a secret is told"
        if said.ends != "asks":
            return ""
        if not heard.whole and heard.closed:
            return "an answer breaks off"
        if len(heard.statuses) > sum(unit.answers_max for unit in said.units) + 1:
            return "an answer too many"
        # One that cannot be read takes those before it along, if they came in one piece: all are checked, or none.
        if not said.is_good:
            return ""
        if said.pieces == 1:
            self.slowest_s = max(self.slowest_s, heard.took_s)
        known = [unit.status for unit in said.units]
        if heard.statuses != [*known, 200]:
            return f"answers {heard.statuses} instead of {known} and 200"
        return ""


def fuzz(daemon: Daemon, faulty: Faulty, *, seed: int, requests: int, patience_s: float) -> str:
    began_s = time.monotonic()
    keys = keys_of(daemon)
    watcher = Watcher(seed, keys, is_patient=patience_s >= WAIT_S)
    next_number, open_before = 0, descriptors(daemon)
    sizes: list[int] = []  # of the process, after each batch
    left, warm_up = requests, min(BATCH, requests // 2)
    while left > 0:
        count = min(left, BATCH if sizes else warm_up)
        left -= count
        saying = say_all(
            daemon.url,
            keys,
            watcher,
            seed=seed,
            first=next_number,
            count=count,
            at_once=AT_ONCE,
            patience_s=patience_s,
        )
        next_number = asyncio.run(saying)
        for seen in faulty.seen("upstream"):
            assert SMUGGLED.encode() not in seen.body, f"seed {seed}: {seen}"
            assert not any(key in str(seen.headers) for key in keys.secrets), f"seed {seed}: {seen.headers}"
        faulty.clear()
        sizes.append(resident_kb(daemon))
        print(f"{watcher.requests} requests, {sizes[-1]} KB", flush=True)
    body = {"model": "upstream/m", "messages": [{"role": "user", "content": "are you well?"}]}
    assert daemon.send("/v1/chat/completions", body, key=keys.good).status == 200
    # Connections to the provider are kept for a while: as many as were used at once, which is no leak.
    assert_descriptors_are_back(daemon, open_before, FEW_LEFT if watcher.is_patient else 2 * AT_ONCE)
    # Not from the start: the first answer that has to be estimated loads a vocabulary of 80 MB.
    grown = resident_kb(daemon) - sizes[len(sizes) // 2]
    assert grown <= GROWTH_KB_MAX, f"seed {seed}: {grown} KB more than at half of the requests"
    minutes = (time.monotonic() - began_s) / 60
    states = assert_books_agree(daemon, callers=3, minutes=minutes)
    for told in ("Traceback", CREDENTIAL, PROMPT, *keys.secrets):
        lines = [line for line in daemon.log if told in line]
        assert not lines, f"seed {seed}: {lines[0]}"
    report = {"seed": seed, "requests": watcher.requests, "minutes": round(minutes, 1), "KB after each batch": sizes}
    report |= {"answers": dict(sorted(watcher.statuses.items())), "calls": states}
    return json.dumps({**report, "slowest of the good ones, s": round(watcher.slowest_s, 2)})


def test_whatever_clients_send_is_answered_or_refused(gateway: Daemon, faulty: Faulty) -> None:
    fuzz(gateway, faulty, seed=FEW_SEED, requests=FEW, patience_s=0.5)


@pytest.mark.soak
def test_so_a_million_times(gateway: Daemon, faulty: Faulty) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or random.randrange(1 << 32))
    print(f"FUZZ_SEED={seed}")
    print(fuzz(gateway, faulty, seed=seed, requests=REQUESTS, patience_s=WAIT_S))
