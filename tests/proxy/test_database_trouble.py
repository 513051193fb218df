"""A disk that is full, a file that is damaged or may not be written: nothing is sent that could not be booked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LLMCTL, Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post

from .processes import set_up

DISK_BYTES = 2 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty({name: FAULTS[name] for name in ("fine", "slow")}) as faulty:
        yield faulty


def test_a_full_disk_is_503_and_passes_by_itself(disk: Path, faulty: Faulty) -> None:
    daemon, key = set_up(disk, faulty)
    with daemon:
        assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        replies = [post(daemon.url, CHAT, ask("fine/m"), key) for _ in range(400)]
        refused = [reply for reply in replies if reply.status == 503]
        assert {reply.status for reply in replies} <= {200, 503} and refused
        assert all(reply.headers["retry-after"] == "1" for reply in refused)
        went = 1 + len(replies) - len(refused)
        assert len(faulty.seen("fine")) == went  # what could not be booked was not sent
        assert daemon.get("/readyz", admin=True)[0] == 503
        assert daemon.get("/healthz", admin=True)[0] == 200
        ballast.unlink()
        assert wait_until(lambda: post(daemon.url, CHAT, ask("fine/m"), key).status == 200, 10)
        assert wait_until(lambda: daemon.get("/readyz", admin=True)[0] == 200, 10)
        rows = daemon.calls("--limit", "1000", count=went + 1)
        assert [row["usage_source"] for row in rows if row["state"] == "settled"] == ["reported"] * (went + 1)
        assert daemon.stop() == 0
        assert "Traceback" not in "".join(daemon.log)
        assert len([line for line in daemon.log if "not available" in line]) <= 3  # said, not repeated


def test_a_damaged_file_ends_the_daemon_with_one_line_and_nothing_more_is_sent(tmp_path: Path, faulty: Faulty) -> None:
    daemon, key = set_up(tmp_path, faulty)
    with daemon:
        for _ in range(20):
            assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        daemon.here("user", "list")
        daemon.calls(count=20)
        # Through the log into the file, then all pages but the first are noise, as a failing disk would leave them.
        connection = sqlite3.connect(daemon.database)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        with daemon.database.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        sent = len(faulty.seen("fine"))
        statuses = set()
        for _ in range(50):
            try:
                reply = post(daemon.url, CHAT, ask("fine/m"), key, timeout_s=5)
            except OSError:
                break  # it has ended
            if reply.cut:
                break  # it ended while it was asked
            statuses.add(reply.status)
            time.sleep(0.02)
        assert 200 not in statuses or len(faulty.seen("fine")) > sent
        assert statuses <= {200, 503, 500}
        assert daemon.process.wait(timeout=15) == 1
        log = "".join(daemon.log)
        assert "broken" in log and "restore a backup" in log
        assert "Traceback" not in log
        again = daemon.llmctl("serve", check=False)
        assert again.returncode == 1
        assert again.stderr.count("\n") == 1 and "Traceback" not in again.stderr


def test_a_file_that_may_not_be_written_is_said_at_the_start(disk: Path, faulty: Faulty) -> None:
    daemon, _ = set_up(disk, faulty)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = subprocess.run(
        [str(LLMCTL), "serve"], env=daemon.environ, cwd=disk, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "llmctl.db may not be written; check its owner and mode" in done.stderr
    # Looking is still possible.
    assert "alice" in daemon.here("user", "list")


def test_files_copied_at_the_moment_of_a_power_cut_have_all_that_was_acknowledged(
    tmp_path: Path, faulty: Faulty
) -> None:
    daemon, key = set_up(tmp_path, faulty)
    done: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            reply = post(daemon.url, CHAT, ask("fine/m"), key)
            if reply.status == 200:
                done.append(reply.headers["x-llmctl-call-id"])

    with daemon:
        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for moment in range(5):
                time.sleep(0.11 + 0.037 * moment)
                daemon.process.send_signal(signal.SIGSTOP)
                answered = set(done)
                place = tmp_path / f"cut{moment}"
                place.mkdir()
                for file in tmp_path.glob("llmctl.db*"):
                    if not file.name.endswith("-shm"):  # does not outlive the power
                        shutil.copy(file, place / file.name)
                daemon.process.send_signal(signal.SIGCONT)
                with Daemon(place, faulty.providers(place)) as other:
                    rows = {row["id"]: row for row in other.calls("--limit", "100000", count=len(answered))}
                    assert answered <= set(rows)
                    assert all(row["state"] == "settled" for row in rows.values())
                    assert other.llmctl("doctor", "--offline", "-o", "json", check=False).returncode in (0, 1)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert len(done) > 100
