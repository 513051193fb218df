"""Gateways as processes: those that a test starts, loads and kills itself."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import LLMCTL, Daemon
from tests.support.faulty import CREDENTIAL, Faulty
from tests.support.wire import CHAT, Reply, ask, post

WORKERS = pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])
Start = Callable[..., tuple[Daemon, str]]  # starts a gateway, returns it and the key of a user


def set_up(place: Path, faulty: Faulty, *args: str, server: str = "", extra: str = "") -> tuple[Daemon, str]:
    """A gateway that is not started yet, with prices, and the key of a user."""
    daemon = Daemon(place, faulty.providers(place), server=server, extra=extra, args=list(args))
    daemon.here("price", "set", "*", "--input", "1", "--output", "10")
    return daemon, daemon.add_user("alice")


def kill_all(daemon: Daemon) -> None:
    """The power fails."""
    for pid in (daemon.process.pid, *workers_of(daemon)):
        os.kill(pid, signal.SIGKILL)
    daemon.kill()


def workers_of(daemon: Daemon) -> list[int]:
    pid = daemon.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Load:
    """Calls in threads of their own, and what became of them."""

    def __init__(self, daemon: Daemon, key: str) -> None:
        self._daemon = daemon
        self._key = key
        self._threads: list[threading.Thread] = []
        self.replies: list[Reply] = []

    def add(self, count: int, model: str, **more: Any) -> None:
        def call() -> None:
            try:
                self.replies.append(post(self._daemon.url, CHAT, ask(model, **more), self._key, timeout_s=30))
            except OSError:
                self.replies.append(Reply(0, {}, b"", cut=True))

        threads = [threading.Thread(target=call) for _ in range(count)]
        for thread in threads:
            thread.start()
        self._threads += threads

    def join(self) -> list[Reply]:
        for thread in self._threads:
            thread.join()
        return self.replies


def refuses_to_start(daemon: Daemon, *args: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(LLMCTL), "serve", *daemon.args, *args],
        env={**daemon.environ, **environ},
        cwd=daemon.directory,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert CREDENTIAL not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr
