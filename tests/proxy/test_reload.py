"""Another configuration while it serves: for calls from then on, and no call is dropped."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, Reply, Wire, ask, post, request_bytes

from .processes import WORKERS, Start, workers_of


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty({name: FAULTS[name] for name in ("fine", "slow", "stall_in_stream")}) as faulty:
        yield faulty


def change(daemon: Daemon, old: str, new: str) -> None:
    text = daemon.config.read_text()
    assert old in text
    daemon.config.write_text(text.replace(old, new))


def reload(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return daemon.llmctl("reload", check=False)


def open_files(daemon: Daemon) -> list[str]:
    found = []
    for one in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            found.append(str(one.readlink()))
    return found


def try_all(daemon: Daemon, key: str, model: str, times: int = 12) -> set[int]:
    """Each on a connection of its own, so that every worker is asked."""
    return {post(daemon.url, CHAT, ask(model), key).status for _ in range(times)}


def is_answered(daemon: Daemon, key: str, model: str) -> bool:
    """By a worker that runs, where another one is stopped."""
    try:
        return post(daemon.url, CHAT, ask(model), key, timeout_s=0.5).status == 200
    except TimeoutError:
        return False


@WORKERS
def test_a_new_alias_holds_when_the_command_returns(start: Start, workers: int) -> None:
    daemon, key = start(workers, extra="[aliases]\nquick = 'fine/m'")
    assert try_all(daemon, key, "swift") == {404}
    change(daemon, "quick =", "swift =")
    done = reload(daemon)
    assert (done.returncode, done.stdout) == (0, "Reloaded: the configuration holds for calls from now on.\n")
    assert try_all(daemon, key, "swift") == {200}
    assert try_all(daemon, key, "quick") == {404}
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


@WORKERS
def test_calls_under_way_go_on_with_what_they_began_with(start: Start, faulty: Faulty, workers: int) -> None:
    daemon, key = start(workers)
    replies: list[Reply] = []

    def call() -> None:
        replies.append(post(daemon.url, CHAT, ask("slow/m", stream=True), key))

    threads = [threading.Thread(target=call) for _ in range(10)]
    with Wire(daemon.url) as kept:
        kept.send(request_bytes(CHAT, ask("fine/m"), key))
        assert kept.reply().status == 200
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(faulty.seen("slow")) == 10)
        change(daemon, "[providers.slow]", "[providers.sluggish]")
        assert reload(daemon).returncode == 0
        assert try_all(daemon, key, "slow/m", 6) == {404}
        kept.send(request_bytes(CHAT, ask("sluggish/m"), key))  # a connection of before, a call of after
        assert kept.reply().status == 200
    for thread in threads:
        thread.join()
    assert {(reply.status, reply.cut) for reply in replies} == {(200, False)}
    assert all(reply.body.rstrip().endswith(b"[DONE]") for reply in replies)
    daemon.here("limit", "set", "--org", "--cost", "1", "--per", "total")
    rows = daemon.calls("--limit", "100", count=12)
    assert {row["usage_source"] for row in rows if row["state"] == "settled"} == {"reported"}
    assert daemon.stop() == 0


@WORKERS
def test_what_a_deployment_is_holds_from_then_on_for_past_calls_too(start: Start, workers: int) -> None:
    daemon, key = start(workers)
    daemon.here("limit", "set", "--org", "--requests", "13", "--per", "day", "--model", "gpt-5")
    assert try_all(daemon, key, "fine/mine") == {200}
    change(daemon, "[providers.fine]", "[providers.fine.deployments]\nmine = 'gpt-5'\n[providers.fine]")
    assert reload(daemon).returncode == 0
    assert post(daemon.url, CHAT, ask("fine/mine"), key).status == 200
    assert try_all(daemon, key, "fine/mine") == {429}
    daemon.here("limit", "set", "--org", "--requests", "99", "--per", "day", "--model", "gpt-5")
    daemon.here("model", "deny", "gpt-5", "--org")
    assert try_all(daemon, key, "fine/mine") == {403}
    change(daemon, "mine = 'gpt-5'", "")
    assert reload(daemon).returncode == 0
    assert try_all(daemon, key, "fine/mine") == {200}
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


@WORKERS
def test_a_wrong_configuration_changes_nothing_and_is_told(start: Start, tmp_path: Path, workers: int) -> None:
    daemon, key = start(workers)
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace('credential_file = "credential"', 'credential_file = "gone"'))
    done = reload(daemon)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the configuration of before stays" in done.stderr and "gone" in done.stderr
    assert wait_until(lambda: "the configuration of before stays" in "".join(daemon.log))
    assert try_all(daemon, key, "fine/m") == {200}
    daemon.config.write_text(good.replace("[server]", "[server]\nwrokers = 2"))
    os.kill(daemon.process.pid, signal.SIGHUP)
    assert wait_until(lambda: "wrokers" in "".join(daemon.log))
    assert try_all(daemon, key, "fine/m") == {200}
    assert daemon.get("/readyz", admin=True)[0] == 200
    daemon.config.write_text(good)
    assert reload(daemon).returncode == 0
    assert daemon.stop() == 0


@WORKERS
def test_what_cannot_change_is_said(start: Start, workers: int) -> None:
    daemon, key = start(workers)
    change(daemon, '\nlisten = "127.0.0.1:0"', '\nlisten = "127.0.0.1:9"')
    change(daemon, 'database = "llmctl.db"', 'database = "llmctl.db"\ntimezone = "Europe/Berlin"')
    done = reload(daemon)
    assert done.returncode == 0
    assert "! [server] listen stays as it is until a restart" in done.stderr
    assert "! timezone stays as it is until a restart" in done.stderr
    assert try_all(daemon, key, "fine/m", 4) == {200}
    assert daemon.stop() == 0


def test_limits_of_bodies_timeouts_and_bounds_change(start: Start, faulty: Faulty) -> None:
    daemon, key = start(server="body_bytes_max = 2000")
    large = {**ask("fine/m"), "user": "x" * 5000}
    assert post(daemon.url, CHAT, large, key).status == 413
    more = "[server.timeouts]\nread_s = 1\n[retries]\nattempts_max = 1"
    change(daemon, "body_bytes_max = 2000", f"body_bytes_max = 20000\n{more}")
    assert reload(daemon).returncode == 0
    assert post(daemon.url, CHAT, large, key).status == 200
    reply = post(daemon.url, CHAT, ask("stall_in_stream/m", stream=True), key)
    assert reply.cut
    row = daemon.calls(count=3)[0]
    assert row["error"] == "provider_timeout"
    change(daemon, "read_s = 1", "read_s = 1\n[demand]\nunbounded = 'refuse'")
    assert reload(daemon).returncode == 0
    daemon.here("limit", "set", "--org", "--cost", "5", "--per", "total")
    unbounded = {"model": "fine/m", "input": "Hi", "tools": [{"type": "web_search"}]}
    assert daemon.send("/v1/responses", unbounded, key=key).status == 400
    assert daemon.stop() == 0


def test_a_credential_file_is_read_anew(start: Start, faulty: Faulty, tmp_path: Path) -> None:
    daemon, key = start(2)
    assert try_all(daemon, key, "fine/m", 4) == {200}
    (tmp_path / "credential").write_text("sk-provider-RENEWED")
    assert reload(daemon).returncode == 0
    faulty.clear()
    assert try_all(daemon, key, "fine/m", 8) == {200}
    assert {seen.headers["authorization"] for seen in faulty.seen("fine")} == {"Bearer sk-provider-RENEWED"}
    assert daemon.stop() == 0


def test_a_provider_that_is_added_is_there(start: Start) -> None:
    daemon, key = start(2)
    daemon.here("limit", "set", "--org", "--cost", "5", "--per", "total")
    assert try_all(daemon, key, "sandbox-small", 4) == {404}
    daemon.config.write_text(daemon.config.read_text() + "[providers.sandbox]\n")
    assert reload(daemon).returncode == 0
    assert try_all(daemon, key, "sandbox-small") == {200}
    assert float(daemon.calls("--limit", "1", count=1)[0]["cost_usd"]) > 0
    assert daemon.stop() == 0


def test_a_worker_that_is_started_again_has_the_configuration_of_now(start: Start) -> None:
    daemon, key = start(2, extra="[aliases]\nquick = 'fine/m'")
    change(daemon, "quick =", "swift =")
    assert reload(daemon).returncode == 0
    daemon.config.write_text("broken")
    for victim in workers_of(daemon):
        os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: len(workers_of(daemon)) == 2 and daemon.get("/readyz", admin=True)[0] == 200, 15)
    assert wait_until(lambda: try_all(daemon, key, "swift", 4) == {200}, 10)
    assert daemon.stop() == 0


def test_what_one_worker_cannot_take_over_the_others_give_back(start: Start) -> None:
    """Also those that are started later have the configuration of before."""
    daemon, key = start(2, extra="[aliases]\nquick = 'fine/m'")
    late, early = workers_of(daemon)
    assert try_all(daemon, key, "quick") == {200}  # both are there
    with Path(f"{daemon.database}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # else it may be stopped while it has the lock that the other one needs
        os.kill(late, signal.SIGSTOP)
        time.sleep(0.1)  # until each of its threads has stopped
    change(daemon, "quick =", "swift =")
    os.kill(daemon.process.pid, signal.SIGHUP)
    assert wait_until(lambda: is_answered(daemon, key, "swift"))
    daemon.config.write_text("broken")
    os.kill(late, signal.SIGCONT)
    assert wait_until(lambda: "the configuration of before stays" in "".join(daemon.log))
    assert (try_all(daemon, key, "swift"), try_all(daemon, key, "quick")) == ({404}, {200})
    os.kill(early, signal.SIGKILL)
    assert wait_until(lambda: len(workers_of(daemon)) == 2 and early not in workers_of(daemon), 15)
    assert (try_all(daemon, key, "swift"), try_all(daemon, key, "quick")) == ({404}, {200})
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


def test_many_reloads_under_load_drop_no_call_and_leave_nothing_behind(start: Start, faulty: Faulty) -> None:
    daemon, key = start(1)
    assert try_all(daemon, key, "fine/m", 3) == {200}
    statuses: list[int] = []
    done = threading.Event()

    def call() -> None:
        with Wire(daemon.url) as wire:
            while not done.is_set():
                wire.send(request_bytes(CHAT, ask("fine/m"), key))
                statuses.append(wire.reply().status)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        os.kill(daemon.process.pid, signal.SIGHUP)
        time.sleep(0.08)
    done.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200} and len(statuses) > 20
    # SQLite keeps descriptors of its file for later: closing one would end locks of the process. As many as were open
    # at once while reloads overlapped, and the next ones use them again.
    peak = len(open_files(daemon))
    for _ in range(6):
        assert reload(daemon).returncode == 0
    assert wait_until(lambda: len(open_files(daemon)) <= peak + 2, 10), Counter(open_files(daemon))
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


def test_without_a_gateway_it_says_so(start: Start) -> None:
    daemon, _ = start()
    daemon.stop()
    done = reload(daemon)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert re.search(r"no gateway serves \S*llmctl\.db; llmctl serve starts one", done.stderr)
    failed = json.loads(daemon.llmctl("reload", "-o", "json", check=False).stderr)
    assert failed["error"]["code"] == "not_running"
