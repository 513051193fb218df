"""What a daemon takes of the machine, and what its books say of themselves."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from llmctl.store import invariants
from llmctl.store.database import Store
from llmctl.store.refusal_log import REFUSED_ROWS_PER_MINUTE
from tests.support.daemon import Daemon
from tests.support.faulty import wait_until

KEPT_OPEN_S = 30  # how long idle connections to providers are kept at most, and a little


def resident_kb(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


def assert_descriptors_are_back(daemon: Daemon, before: int, more: int) -> None:
    assert wait_until(lambda: descriptors(daemon) <= before + more, KEPT_OPEN_S), (before, descriptors(daemon))


def open_calls(daemon: Daemon) -> float:
    """-1: the daemon does not answer."""
    metrics = daemon.get("/metrics", admin=True)[1]
    return float(metrics.partition("\nllmctl_open_holds ")[2].partition("\n")[0] or -1)


def assert_books_agree(daemon: Daemon, *, callers: int, minutes: float) -> dict[str, int]:
    """Nothing is open, what is derived from the calls says what they say, and floods of refusals left few rows.
    Returns how many calls there are in each state."""
    assert wait_until(lambda: open_calls(daemon) == 0, 20)
    with closing(Store(daemon.database).connection) as connection:
        wrong = invariants.check(connection, now_s=int(time.time()))
        assert not wrong, wrong
        states = dict(connection.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall())
        refused = connection.execute(
            "SELECT key_id, error_id, count(*) FROM calls WHERE state = 'refused' GROUP BY key_id, error_id"
        ).fetchall()
        ((sound,),) = connection.execute("PRAGMA integrity_check").fetchall()
    assert sound == "ok"
    assert "open" not in states
    assert len({key for key, _, _ in refused}) <= callers
    most = REFUSED_ROWS_PER_MINUTE * (minutes + 2)  # a minute may be begun at either end
    assert all(count <= most for _, _, count in refused), (refused, most)
    return states
