"""How long a command takes to start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from .figures import Figure, Goal
from .gateway import LLMCTL
from .machine import pinned

RUNS = 10
YARDSTICK = (sys.executable, "-c", "import typer, rich")


def figure(core: int | None) -> Figure:
    """`llmctl --help` beside the imports that it cannot do without."""
    commands = [pinned(command, core) for command in (YARDSTICK, (LLMCTL, "--help"))]
    for command in commands:
        _ms(command)  # compiles what is not compiled yet
    pairs = [(_ms(commands[0]), _ms(commands[1])) for _ in range(RUNS)]
    return Figure("llmctl --help / import typer, rich", "ms", pairs, goal=Goal(2.0))


def _ms(command: Sequence[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - began_s)
