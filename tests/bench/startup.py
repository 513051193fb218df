"""How long a command takes to start, beside the imports that it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import history
from .figures import Figure, Goal
from .gateway import LLMCTL
from .machine import pinned

RUNS = 15
CALLS, USERS = 2_000, 20  # enough for a report to have something to say
YARDSTICK = (sys.executable, "-c", "import typer, rich")
# Compiled files are kept as they are where llmctl is installed: what a machine that forbids it would measure is the
# compiler, and that for llmctl alone.
ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def figures(core: int | None, directory: Path) -> list[Figure]:
    database = directory / "startup.db"
    history.make(database, CALLS, now_s=int(time.time()), users_count=USERS)
    return [
        _figure("llmctl --help", (LLMCTL, "--help"), Goal(1.5), core),
        _figure("llmctl usage", (LLMCTL, "usage", "--database", str(database)), Goal(2.0), core),
    ]


def _figure(name: str, command: Sequence[str], goal: Goal, core: int | None) -> Figure:
    commands = [pinned(one, core) for one in (YARDSTICK, command)]
    for one in commands:
        run_ms(one)  # compiles what is not compiled yet
    pairs = [(run_ms(commands[0]), run_ms(commands[1])) for _ in range(RUNS)]
    return Figure(f"{name} / import typer, rich", "ms", pairs, goal=goal)


def run_ms(command: Sequence[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRON)
    return 1000 * (time.perf_counter() - began_s)
