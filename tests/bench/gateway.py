"""The gateway under test: an organisation with limits on every level, the daemon, and its books afterwards."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from . import history
from .machine import Process, free_port
from .measure import Target

LLMCTL = str(Path(sys.executable).with_name("llmctl"))
READY_TIMEOUT_S = 20.0
PROVIDER_SECRET = "sk-of-the-static-provider"

# Far more than a run spends: limits are checked and never reached.
ORGANISATION = (
    "price set static/bench-* --input 1 --output 2",
    "group add bench-group",
    "limit set --org --cost 1000000 --per month",
    "limit set --group bench-group --cost 1000000 --per month",
)
USER = "user add bench-user --group bench-group"
LIMIT_OF_USER = "limit set --user bench-user --cost 1000000 --per month"


class GatewayFailed(Exception):
    """It does not start, or its books do not agree with what was called."""


class Gateway:
    """`url` and `key` are what a client needs."""

    def __init__(
        self,
        directory: Path,
        upstream_url: str,
        core: int | None,
        *,
        calls: int = 0,
        users: int = 0,
        workers: int = 1,
    ) -> None:
        """`calls`, `users`: what its database has already."""
        self.database = directory / "llmctl.db"
        self._log = directory / "serve.log"
        self._core = core
        port, admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._admin_url = f"http://127.0.0.1:{admin_port}"
        config = directory / "config.toml"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMCTL_")}
        self._environ = {**kept, "LLMCTL_CONFIG": str(config), "BENCH_PROVIDER_SECRET": PROVIDER_SECRET}
        self.llmctl("init")
        if calls:
            self.database.unlink()
            history.make(self.database, calls, now_s=int(time.time()), users_count=users)
        config.write_text(_config(port, admin_port, upstream_url, workers))
        for command in ORGANISATION:
            self.llmctl(command)
        self.key = _secret_in(self.llmctl(USER))
        self.llmctl(LIMIT_OF_USER)

    def start(self, profile: Path | None = None) -> Process:
        """The daemon, ready. `profile`: where cProfile writes what it saw when the daemon has stopped."""
        began_s = time.monotonic()
        profiled = [sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "llmctl"]
        command = [*(profiled if profile else [LLMCTL]), "serve"]
        daemon = Process(command, self._core, environ=self._environ, log=self._log)
        while not self._ready():
            if not daemon.running or time.monotonic() - began_s > READY_TIMEOUT_S:
                daemon.stop()
                raise GatewayFailed(f"the daemon did not become ready:\n{self._log.read_text()}")
            time.sleep(0.02)
        return daemon

    def target(self, name: str, daemon: Process) -> Target:
        return Target(name, self.url, self.key, daemon)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self._admin_url}/metrics", timeout=5) as answer:
            return bytes(answer.read()).decode()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._admin_url}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def llmctl(self, command: str) -> str:
        done = subprocess.run(
            [LLMCTL, *command.split()], capture_output=True, text=True, env=self._environ, cwd=self.database.parent
        )
        if done.returncode:
            raise GatewayFailed(f"llmctl {command}: {done.stderr.strip()}")
        return done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Books:
    """What the file says after the daemon has stopped."""

    states: Mapping[str, int]
    calls_in_rollups: int
    cost_of_calls_nano_usd: int
    cost_in_rollups_nano_usd: int
    balances_nano_usd: tuple[int, ...]  # settled, one of each limit
    held_nano_usd: int

    def mistakes(self, answered: int, cut_max: int) -> list[str]:
        """Where they do not add up. `answered`: 200s that the load saw; `cut_max`: calls that it may have cut."""
        settled = self.states.get("settled", 0)
        cost, in_rollups = self.cost_of_calls_nano_usd, self.cost_in_rollups_nano_usd
        checks = [
            (set(self.states) == {"settled"}, f"calls that are not settled: {dict(self.states)}"),
            (
                0 <= settled - answered <= cut_max,
                f"{settled:,} settled, {answered:,} answered, at most {cut_max:,} cut",
            ),
            (self.calls_in_rollups == settled, f"{self.calls_in_rollups:,} in the roll-ups, {settled:,} settled"),
            (in_rollups == cost, f"nano-USD: {in_rollups:,} in the roll-ups, {cost:,} in the calls"),
            (set(self.balances_nano_usd) == {cost}, f"nano-USD: {self.balances_nano_usd} in the balances, {cost:,}"),
            (self.held_nano_usd == 0, f"nano-USD: {self.held_nano_usd:,} still held"),
        ]
        return [mistake for right, mistake in checks if not right]


def read_books(database: Path) -> Books:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as db:
        states = dict(db.execute("SELECT state, count(*) FROM calls GROUP BY state"))
        (cost,) = db.execute("SELECT coalesce(sum(cost_nano), 0) FROM calls").fetchone()
        calls_in_rollups, cost_in_rollups = db.execute(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(cost_nano), 0) FROM rollups"
        ).fetchone()
        balances = db.execute("SELECT sum(settled), sum(held) FROM balances GROUP BY limit_id").fetchall()
    return Books(
        states=states,
        calls_in_rollups=calls_in_rollups,
        cost_of_calls_nano_usd=cost,
        cost_in_rollups_nano_usd=cost_in_rollups,
        balances_nano_usd=tuple(settled for settled, _ in balances),
        held_nano_usd=sum(held for _, held in balances),
    )


def _secret_in(output: str) -> str:
    found = re.search(r"sk-llmctl-\w+", output)
    if found is None:
        raise GatewayFailed("`llmctl user add` printed no key")
    return found[0]


def _config(port: int, admin_port: int, upstream_url: str, workers: int) -> str:
    return f"""
database = "llmctl.db"
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
workers = {workers}
[providers.static]
dialect = "openai"
base_url = "{upstream_url}/v1"
credential_env = "BENCH_PROVIDER_SECRET"
models = ["bench-*"]
"""
