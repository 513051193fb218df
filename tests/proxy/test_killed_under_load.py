"""The gateway's processes die at any moment, a crowd calling: each call that a provider saw is on the ledger, once."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.crowd import Crowd, counted, numbers_seen
from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post

from .processes import Load, kill_all, workers_of

KILLS = 100
USERS = ["alice", "bob", "carol"]


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty({"counted": counted, "fine": FAULTS["fine"], "stall_in_stream": FAULTS["stall_in_stream"]}) as faulty:
        yield faulty


@pytest.fixture
def daemon(tmp_path: Path, faulty: Faulty) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path,
        faulty.providers(tmp_path),
        server="[server.timeouts]\nshutdown_s = 5",
        args=["--workers", "2"],
    )
    daemon.here("price", "set", "*", "--input", "1", "--output", "10")
    faulty.clear()
    yield daemon
    if daemon.process.poll() is None:
        kill_all(daemon)


def under_limits(daemon: Daemon) -> list[str]:
    """Users with limits of every kind, none of which is reached: each has balances to keep."""
    keys = [daemon.add_user(name, "team") for name in USERS]
    daemon.here("limit", "set", "--org", "--cost", "100000", "--per", "month")
    daemon.here("limit", "set", "--group", "team", "--tokens", "500M", "--per", "day")
    daemon.here("limit", "set", "--group", "team", "--each", "user", "--cost", "10000", "--per", "hour")
    daemon.here("limit", "set", "--user", "alice", "--requests", "1M", "--per", "minute")
    daemon.here("limit", "set", "--user", "bob", "--concurrency", "1000")
    return keys


def calls_in(database: Path) -> dict[int, str]:
    """The state of each call on the ledger, by the client's number; asserts that none is there twice."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT n.name, c.state FROM calls c JOIN names n ON n.id = c.tags_id WHERE c.state <> 'refused'"
        ).fetchall()
    assert [name for name, times in Counter(name for name, _ in rows).items() if times > 1] == []
    return {int(name.removeprefix("n")): state for name, state in rows}


def assert_the_books_agree(daemon: Daemon) -> None:
    checks = {row["check"]: row for row in daemon.json("doctor", "--offline")}
    for name in ("roll-ups", "summaries", "balances"):
        assert checks[name]["state"] == "ok", checks[name]


def assert_every_call_is_booked_once(daemon: Daemon, faulty: Faulty) -> tuple[int, int]:
    """Returns how many calls the provider saw, and how many are on the ledger."""
    assert wait_until(lambda: "open" not in calls_in(daemon.database).values(), 20)
    booked, seen = calls_in(daemon.database), numbers_seen(faulty, "counted")
    assert len(seen) == len(set(seen))
    assert set(seen) <= {number for number, state in booked.items() if state == "settled"}
    assert_the_books_agree(daemon)
    return len(seen), len(booked)


def killed(daemon: Daemon, chance: random.Random) -> str:
    """One of what can happen to processes."""
    what = chance.choice(["all", "all", "worker", "supervisor"])
    if what == "all":
        kill_all(daemon)
    elif what == "worker":
        os.kill(chance.choice(workers_of(daemon)), signal.SIGKILL)
    else:
        workers = workers_of(daemon)
        daemon.process.kill()
        time.sleep(chance.uniform(0, 0.3))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        daemon.kill()
    return what


def kill_under_load(daemon: Daemon, faulty: Faulty, chance: random.Random, times: int) -> str:
    keys = under_limits(daemon)
    daemon.start()
    kinds: Counter[str] = Counter()
    answered: set[int] = set()
    seen = booked = 0
    for _ in range(times):
        with Crowd(daemon.url, keys, model="counted/m") as crowd:
            assert wait_until(lambda crowd=crowd: crowd.answered, 10)
            time.sleep(chance.uniform(0, 1))
            what = killed(daemon, chance)
            kinds[what] += 1
        answered |= crowd.answered
        if what != "worker":
            daemon.start()
        seen, booked = assert_every_call_is_booked_once(daemon, faulty)
    states = calls_in(daemon.database)
    assert answered <= {number for number, state in states.items() if state == "settled"}
    assert daemon.stop() == 0
    with closing(sqlite3.connect(daemon.database)) as connection:
        (interrupted,) = connection.execute(
            "SELECT count(*) FROM calls JOIN names ON names.id = error_id WHERE name = 'interrupted'"
        ).fetchone()
    assert "Traceback" not in "".join(daemon.log)
    return json.dumps(
        {**kinds, "calls seen by the provider": seen, "calls booked": booked, "booked as interrupted": interrupted}
    )


def test_calls_are_booked_once_when_processes_die_under_load(daemon: Daemon, faulty: Faulty) -> None:
    kill_under_load(daemon, faulty, random.Random(2), 2)


@pytest.mark.soak
def test_so_at_a_hundred_random_moments(daemon: Daemon, faulty: Faulty) -> None:
    print(kill_under_load(daemon, faulty, random.Random(), KILLS))


def test_calls_at_once_stay_counted_when_one_of_two_workers_dies(daemon: Daemon, faulty: Faulty) -> None:
    key = daemon.add_user("alice")
    daemon.here("limit", "set", "--user", "alice", "--concurrency", "40")
    daemon.start()
    load = Load(daemon, key)
    load.add(40, "stall_in_stream/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 40)
    assert post(daemon.url, CHAT, ask("fine/m"), key).status == 429
    os.kill(workers_of(daemon)[0], signal.SIGKILL)
    (limit,) = daemon.json("limit", "list")
    assert limit["held"] in (40, 40 - interrupted_in(daemon))  # the dead one's calls count until they are booked
    assert wait_until(lambda: interrupted_in(daemon) > 0, 12)
    (limit,) = daemon.json("limit", "list")
    assert limit["held"] == 40 - interrupted_in(daemon)  # the living one's calls go on
    for _ in range(interrupted_in(daemon)):
        load.add(1, "stall_in_stream/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 40 + interrupted_in(daemon))
    assert post(daemon.url, CHAT, ask("fine/m"), key).status == 429
    kill_all(daemon)
    load.join()


def interrupted_in(daemon: Daemon) -> int:
    return sum(row["error"] == "interrupted" for row in daemon.json("calls", "--limit", "1000"))


def test_a_stop_under_load_loses_nothing(daemon: Daemon, faulty: Faulty) -> None:
    keys = under_limits(daemon)
    daemon.start()
    with Crowd(daemon.url, keys, model="counted/m") as crowd:
        assert wait_until(lambda: len(crowd.answered) > 100, 20)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
    daemon.stop()
    booked, seen = calls_in(daemon.database), numbers_seen(faulty, "counted")
    assert sorted(seen) == sorted(booked)  # also: nothing was held that did not leave
    assert set(booked.values()) == {"settled"}
    assert crowd.answered == set(seen)  # nobody was cut
    assert crowd.statuses <= {200, 503}
    assert_the_books_agree(daemon)
    assert "Traceback" not in "".join(daemon.log)
