"""Stopping, dying, starting again: whatever happens to the processes, every call that left is on the ledger, once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Fault, Faulty, Line, wait_until
from tests.support.wire import CHAT, MESSAGES, Wire, ask, post, request_bytes

from .processes import WORKERS, Load, Start, kill_all, refuses_to_start, workers_of

DEAR_NANO = 2_000 * 1_000 + 10 * 10_000  # a dear answer at USD 1 and 10 per million


async def dear(line: Line) -> None:
    """An answer that costs nearly what is held for it."""
    await line.request()
    usage = {"prompt_tokens": 2_000, "completion_tokens": 10, "total_tokens": 2_010}
    await line.send_whole(json.dumps({"id": "1", "model": "m", "choices": [], "usage": usage}).encode())


HERE: dict[str, Fault] = {
    **{name: FAULTS[name] for name in ("fine", "slow", "endless", "stall_before_headers", "stall_in_stream")},
    "dear": dear,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty(HERE) as faulty:
        yield faulty


def rows_of(daemon: Daemon) -> list[dict[str, Any]]:
    rows = daemon.json("calls", "--limit", "5000")
    assert len({row["id"] for row in rows}) == len(rows)
    return [row for row in rows if row["state"] != "refused"]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_free(url: str) -> bool:
    """Whether another gateway could listen there."""
    place = urlsplit(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.hostname, place.port))
            probe.listen()
        except OSError:
            return False
    return True


def assert_all_booked(daemon: Daemon, sent: int) -> list[dict[str, Any]]:
    """As many calls as the provider counted, none open, none for nothing."""
    rows = rows_of(daemon)
    assert [row for row in rows if row["state"] == "open"] == []
    settled = [row for row in rows if row["state"] == "settled"]
    assert len(settled) == sent
    assert all(row["usage_source"] in ("reported", "estimated") for row in settled)
    assert all(float(row["cost_usd"]) > 0 for row in settled)
    return settled


# ---- stopping ----


@WORKERS
def test_a_stop_lets_streams_end_and_turns_the_new_away(start: Start, faulty: Faulty, workers: int) -> None:
    daemon, key = start(workers)
    load = Load(daemon, key)
    with Wire(daemon.url) as kept:
        kept.send(request_bytes(CHAT, ask("fine/m"), key))
        assert kept.reply().status == 200
        load.add(20, "slow/m", stream=True)
        assert wait_until(lambda: len(faulty.seen("slow")) == 20)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with pytest.raises(ConnectionRefusedError):
            Wire(daemon.url)
        kept.send(request_bytes(CHAT, ask("fine/m"), key))
        reply = kept.reply()
        assert (reply.status, reply.error["code"]) == (503, "shutting_down")
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
    assert daemon.process.wait(10) == 0  # without a second signal
    daemon.stop()
    for reply in load.join():
        assert (reply.status, reply.cut) == (200, False)
        assert reply.body.rstrip().endswith(b"[DONE]")
    settled = assert_all_booked(daemon, 21)
    assert {row["usage_source"] for row in settled} == {"reported"}
    assert "Traceback" not in "".join(daemon.log)


@WORKERS
def test_readiness_ends_when_a_stop_begins_and_is_told_until_the_last_call_ended(
    start: Start, faulty: Faulty, workers: int
) -> None:
    daemon, key = start(workers, server="[server.timeouts]\nshutdown_s = 2")
    load = Load(daemon, key)
    load.add(10, "stall_in_stream/m", stream=True)  # calls in every worker
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 10)
    assert daemon.get("/readyz", admin=True)[0] == 200
    daemon.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: daemon.get("/readyz", admin=True) == (503, "shutting down\n"), 1)
    assert daemon.get("/healthz", admin=True)[0] == 200
    assert daemon.process.wait(10) == 0
    assert daemon.get("/readyz", admin=True)[0] == 0
    daemon.stop()
    load.join()
    assert "Traceback" not in "".join(daemon.log)


@WORKERS
def test_a_stop_does_not_wait_for_ever(start: Start, faulty: Faulty, workers: int) -> None:
    daemon, key = start(workers, server="[server.timeouts]\nshutdown_s = 0.5")
    load = Load(daemon, key)
    for fault in ("endless", "stall_in_stream", "stall_before_headers"):
        load.add(3, f"{fault}/m", stream=True)
    assert wait_until(lambda: sum(len(faulty.seen(fault)) for fault in HERE) == 9)
    time.sleep(0.2)
    began_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began_s < 20
    told = 0
    for reply in load.join():
        assert reply.cut or (reply.status, reply.error["code"]) == (503, "shutting_down"), reply
        told += not reply.cut
    assert told == 3  # whose answer had not begun
    settled = assert_all_booked(daemon, 9)
    assert {(row["usage_source"], row["error"]) for row in settled} == {("estimated", "shutting_down")}
    assert [row["status"] for row in settled].count(503) == 3
    assert "Traceback" not in "".join(daemon.log)


@WORKERS
def test_a_second_signal_ends_it_at_once_and_the_next_start_books(start: Start, faulty: Faulty, workers: int) -> None:
    daemon, key = start(workers)
    load = Load(daemon, key)
    load.add(6, "stall_in_stream/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 6)
    daemon.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert daemon.process.poll() is None
    began_s = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(5) == 1
    assert time.monotonic() - began_s < 1
    daemon.stop()
    assert all(reply.cut for reply in load.join())
    assert len([row for row in rows_of(daemon) if row["state"] == "open"]) == 6
    with daemon:
        assert wait_until(lambda: all(row["state"] == "settled" for row in rows_of(daemon)))
    settled = assert_all_booked(daemon, 6)
    assert {(row["usage_source"], row["error"]) for row in settled} == {("estimated", "interrupted")}


# ---- dying ----


@WORKERS
def test_after_a_kill_every_call_that_left_is_on_the_ledger_once(start: Start, faulty: Faulty, workers: int) -> None:
    daemon, key = start(workers)
    for _ in range(2):
        before = len(faulty.seen("fine"))
        load = Load(daemon, key)
        load.add(5, "slow/m", stream=True)
        load.add(5, "stall_before_headers/m")
        load.add(30, "fine/m")
        assert wait_until(lambda before=before: len(faulty.seen("fine")) >= before + 15)
        kill_all(daemon)
        load.join()
        daemon.start()
    sent = sum(len(faulty.seen(fault)) for fault in HERE)
    assert wait_until(lambda: all(row["state"] != "open" for row in rows_of(daemon)), 10)
    # What was held and had not left yet is booked too: nobody can know that it had not.
    rows = rows_of(daemon)
    assert sent <= len(rows) <= 80
    interrupted = [row for row in rows if row["error"] == "interrupted"]
    assert len(interrupted) >= 10
    assert {row["usage_source"] for row in interrupted} == {"estimated"}
    assert all(float(row["cost_usd"]) > 0 for row in rows)
    assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
    assert daemon.stop() == 0


def test_a_worker_that_dies_is_replaced_and_its_calls_are_booked(start: Start, faulty: Faulty) -> None:
    daemon, key = start(2, server="[server.timeouts]\nshutdown_s = 0.5")
    load = Load(daemon, key)
    load.add(40, "stall_in_stream/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 40)
    victim, survivor = workers_of(daemon)
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: any(row["error"] == "interrupted" for row in rows_of(daemon)), 12)
    rows = rows_of(daemon)
    states = {row["state"] for row in rows}
    assert states == {"open", "settled"}  # the other worker's calls go on
    assert wait_until(lambda: len(workers_of(daemon)) == 2)
    assert survivor in workers_of(daemon)
    replies = Load(daemon, key)
    replies.add(20, "fine/m")
    assert [reply.status for reply in replies.join()] == [200] * 20
    assert daemon.stop() == 0
    assert all(reply.cut for reply in load.join())
    settled = assert_all_booked(daemon, 60)
    errors = [row["error"] for row in settled if row["usage_source"] == "estimated"]
    assert set(errors) == {"interrupted", "shutting_down"}


def test_a_worker_that_dies_while_a_credential_is_away_comes_back_with_it_and_the_others_serve_meanwhile(
    start: Start, faulty: Faulty, tmp_path: Path
) -> None:
    daemon, key = start(2)
    before = Load(daemon, key)
    before.add(20, "fine/m")  # on both
    assert [reply.status for reply in before.join()] == [200] * 20
    credential = (tmp_path / "credential").rename(tmp_path / "away")
    victim, other = workers_of(daemon)
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: "ended with 78; starting it again" in "".join(daemon.log), 15)
    meanwhile = Load(daemon, key)
    meanwhile.add(20, "fine/m")
    assert [reply.status for reply in meanwhile.join()] == [200] * 20
    assert workers_of(daemon) == [other]
    credential.rename(tmp_path / "credential")
    daemon.here("reload")
    assert wait_until(lambda: daemon.get("/metrics", admin=True)[0] == 200 and len(workers_of(daemon)) == 2, 10)
    afterwards = Load(daemon, key)
    afterwards.add(20, "fine/m")
    assert [reply.status for reply in afterwards.join()] == [200] * 20
    assert daemon.stop() == 0


def test_workers_end_with_the_process_that_started_them(start: Start, faulty: Faulty) -> None:
    daemon, key = start(2)
    load = Load(daemon, key)
    load.add(10, "slow/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("slow")) == 10)
    workers = workers_of(daemon)
    daemon.process.kill()
    assert wait_until(lambda: is_free(daemon.url) and is_free(daemon.admin_url), 1)  # though its streams go on
    assert any(map(is_running, workers))
    assert wait_until(lambda: not any(map(is_running, workers)), 10)
    daemon.kill()
    assert all(reply.status == 200 and not reply.cut for reply in load.join())
    assert {row["usage_source"] for row in assert_all_booked(daemon, 10)} == {"reported"}


# ---- several workers, one limit ----


def test_two_workers_never_spend_more_than_a_limit_has(start: Start, faulty: Faulty) -> None:
    daemon, key = start(2)
    daemon.here("limit", "set", "--org", "--cost", "0.05", "--per", "total")
    load = Load(daemon, key)
    load.add(200, "dear/m", max_tokens=10)
    replies = load.join()
    assert {reply.status for reply in replies} == {200, 429}
    for reply in replies:
        if reply.status == 429:
            assert reply.error["code"] in ("insufficient_quota", "rate_limit_exceeded")
            # Only held: come back. Spent: do not.
            assert ("retry-after" in reply.headers) == (reply.error["code"] == "rate_limit_exceeded")
    served = sum(reply.status == 200 for reply in replies)
    assert served == len(faulty.seen("dear"))
    assert served * DEAR_NANO <= 50_000_000
    settled = assert_all_booked(daemon, served)
    assert {row["cost_usd"] for row in settled} == {f"{DEAR_NANO / 1e9:.9f}"}
    (limit,) = json.loads(daemon.get("/llmctl/me", key=key)[1])["limits"]
    assert (float(limit["spent"]), float(limit["held"])) == (pytest.approx(served * DEAR_NANO / 1e9), 0)
    # One after the other they use what is left, up to the last call that fits.
    statuses = [post(daemon.url, CHAT, ask("dear/m", max_tokens=10), key).status for _ in range(25)]
    assert statuses == sorted(statuses)
    spent = (served + statuses.count(200)) * DEAR_NANO
    assert 45_000_000 < spent <= 50_000_000
    assert daemon.stop() == 0


# ---- starting ----


def test_what_prevents_a_start_is_said_in_one_line(tmp_path: Path, faulty: Faulty) -> None:
    daemon = Daemon(tmp_path, faulty.providers(tmp_path), args=["--workers", "2"])
    good = daemon.config.read_text()

    daemon.config.write_text(good.replace('credential_file = "credential"', 'credential_env = "NOT_SET"'))
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (78, 1)
    assert "NOT_SET" in said
    status, said = refuses_to_start(daemon, NOT_SET="  ")
    assert (status, said.count("\n")) == (78, 1)

    daemon.config.write_text(good.replace("[server]", "[server]\nwrokers = 2"))
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (78, 1)
    assert "config.toml:3" in said and "workers" in said
    daemon.config.write_text("[server\n")
    assert refuses_to_start(daemon)[0] == 78
    daemon.config.write_text(good)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = refuses_to_start(daemon, "--listen", address)
    assert (status, said.count("\n")) == (78, 1)
    assert address in said

    daemon.database.rename(tmp_path / "elsewhere.db")
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (1, 1)
    assert "llmctl.db" in said and "init --if-not-exists" in said
    daemon.database.write_bytes(b"this is no database at all" * 1_000)
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (1, 1)
    daemon.database.unlink()
    daemon.database.mkdir()
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (1, 1)


def test_a_second_daemon_on_the_same_address_does_not_start(start: Start, tmp_path: Path) -> None:
    daemon, key = start(2)
    text = daemon.config.read_text().replace('"127.0.0.1:0"', f'"{daemon.url.removeprefix("http://")}"', 1)
    admin = daemon.admin_url.removeprefix("http://")
    (tmp_path / "second.toml").write_text(text.replace('"127.0.0.1:0"', f'"{admin}"'))
    status, said = refuses_to_start(daemon, "--config", str(tmp_path / "second.toml"))
    assert (status, said.count("\n")) == (78, 1)
    assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
    assert daemon.stop() == 0


# ---- a database that others hold ----


def test_a_locked_database_is_503_and_passes_by_itself(start: Start, faulty: Faulty) -> None:
    daemon, key = start()
    load = Load(daemon, key)
    load.add(3, "slow/m", stream=True)
    assert wait_until(lambda: len(faulty.seen("slow")) == 3)
    with Path(f"{daemon.database}.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reply = post(daemon.url, MESSAGES, ask("fine/m", path=MESSAGES), key)
        assert (reply.status, reply.error["type"]) == (503, "api_error")
        assert reply.headers["retry-after"] == "1"
        assert daemon.get("/readyz", admin=True)[0] == 503
        assert daemon.get("/healthz", admin=True)[0] == 200
        # Whose key is wrong is told so, and nobody else.
        assert post(daemon.url, CHAT, ask("fine/m"), "sk-llmctl-wrong").status == 401
        assert faulty.seen("fine") == []  # what cannot be booked is not sent
    assert sorted(reply.status for reply in load.join()) == [200, 200, 200]
    assert wait_until(lambda: post(daemon.url, CHAT, ask("fine/m"), key).status == 200, 10)
    assert wait_until(lambda: all(row["state"] == "settled" for row in rows_of(daemon)), 10)
    assert {row["usage_source"] for row in rows_of(daemon)} == {"reported"}
    assert daemon.get("/readyz", admin=True)[0] == 200
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


def test_a_lock_that_is_held_for_a_moment_delays_and_harms_nobody(start: Start, faulty: Faulty) -> None:
    daemon, key = start()
    load = Load(daemon, key)
    with Path(f"{daemon.database}.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load.add(20, "fine/m")
        time.sleep(0.5)
        assert faulty.seen("fine") == []
    assert [reply.status for reply in load.join()] == [200] * 20
    assert daemon.stop() == 0
    assert_all_booked(daemon, 20)
