"""The file changes its nature while the gateway runs: a newer program migrates it, somebody reads it without end, it
may no longer be written."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post

from .processes import set_up

DISK_BYTES = 8 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty({name: FAULTS[name] for name in ("fine", "slow")}) as faulty:
        yield faulty


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_database_that_a_newer_program_migrated_is_503_and_then_the_end(
    tmp_path: Path, faulty: Faulty, workers: str
) -> None:
    daemon, key = set_up(tmp_path, faulty, "--workers", workers)
    with daemon:
        assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        with closing(sqlite3.connect(daemon.database)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {schema + 1}")
        reply = post(daemon.url, CHAT, ask("fine/m"), key)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert len(faulty.seen("fine")) == 1
        assert daemon.process.wait(timeout=15) == 1
        log = "".join(daemon.log)
        assert "use a newer llmctl" in log
        assert "Traceback" not in log
        assert len(daemon.log) < 12  # said, not repeated
        assert len(faulty.seen("fine")) == 1


def test_a_file_that_may_not_be_written_for_a_while_is_503_and_passes_by_itself(tmp_path: Path, faulty: Faulty) -> None:
    daemon, key = set_up(tmp_path, faulty)
    with daemon:
        assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        files = [str(daemon.database), f"{daemon.database}-wal"]
        with immutable(files):
            for _ in range(20):
                reply = post(daemon.url, CHAT, ask("fine/m"), key)
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert len(faulty.seen("fine")) == 1
            assert daemon.get("/readyz", admin=True)[0] == 503
            assert daemon.get("/healthz", admin=True)[0] == 200
        assert wait_until(lambda: post(daemon.url, CHAT, ask("fine/m"), key).status == 200, 10)
        assert daemon.get("/readyz", admin=True)[0] == 200
        daemon.calls(count=2)
        assert daemon.stop() == 0
        assert "Traceback" not in "".join(daemon.log)
        assert "may not be written" in "".join(daemon.log)
        assert len(daemon.log) < 12


@contextmanager
def immutable(files: list[str]) -> Iterator[None]:
    """Also for those who have them open, and for root: as on a disk that was found faulty and is read-only since."""
    if subprocess.run(["chattr", "+i", *files], capture_output=True).returncode != 0:
        subprocess.run(["chattr", "-i", *files], capture_output=True)
        pytest.skip("needs the right to make files immutable, and a file system that can")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


def test_a_reader_that_stays_until_the_disk_is_nearly_full_is_503_and_passes_when_it_goes(
    disk: Path, faulty: Faulty
) -> None:
    daemon, key = set_up(disk, faulty)
    log = Path(f"{daemon.database}-wal")
    with daemon:
        with closing(sqlite3.connect(daemon.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM calls").fetchone()
            went = 0
            while (reply := post(daemon.url, CHAT, ask("fine/m"), key)).status == 200:
                went += 1
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert len(faulty.seen("fine")) == went
            assert log.stat().st_size > DISK_BYTES // 2
            # There is room for what is open: all of it is booked.
            assert {row["state"] for row in daemon.calls("--limit", "2000", count=went)} <= {"settled", "refused"}
            assert daemon.get("/readyz", admin=True) == (503, "the disk is nearly full; make room\n")
        assert wait_until(lambda: post(daemon.url, CHAT, ask("fine/m"), key).status == 200, 10)
        assert log.stat().st_size < DISK_BYTES // 4
        assert daemon.stop() == 0
    assert len([line for line in daemon.log if "no new calls: the disk has" in line]) == 1
    assert len([line for line in daemon.log if "there is room on the disk again" in line]) == 1


def test_a_disk_that_fails_ends_it_and_the_next_start_books_what_was_open(tmp_path: Path, faulty: Faulty) -> None:
    daemon, key = set_up(tmp_path, faulty)
    with daemon:
        for _ in range(20):
            assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        # From now on each write of something new is an I/O error (EFBIG), as of a disk without good sectors.
        _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        statuses = set()
        with suppress(OSError):
            while not (reply := post(daemon.url, CHAT, ask("fine/m"), key)).cut:
                statuses.add(reply.status)
        assert statuses <= {200, 503}
        sent = len(faulty.seen("fine"))
        assert daemon.process.wait(timeout=15) == 1
        assert "Traceback" not in "".join(daemon.log)
        assert "broken" in "".join(daemon.log)
    with daemon:
        assert post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        rows = [row for row in daemon.calls("--limit", "1000", count=sent + 1) if row["state"] != "refused"]
        assert len(rows) == sent + 1
        assert {row["state"] for row in rows} == {"settled"}
        assert daemon.json("doctor", "--offline")
