"""This machine: which cores, processes on them, and what they use."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PROJECT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Where what is measured runs, and where load and upstream run. None: not pinned."""

    measured: int | None
    others: int | None

    def __str__(self) -> str:
        if self.measured is None:
            return "not pinned (needs taskset and two cores): expect noise"
        return f"gateway on core {self.measured}, load and upstream on core {self.others}"


def cores() -> Cores:
    if shutil.which("taskset") is None or not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    return [*command] if core is None else ["taskset", "-c", str(core), *command]


def output(command: Sequence[str], core: int | None) -> str:
    return subprocess.run(pinned(command, core), check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT).stdout


class Process:
    """A server of the benchmark. Without `log`, what it says on stderr is shown."""

    def __init__(
        self,
        command: Sequence[str],
        core: int | None,
        *,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        with log.open("w") if log is not None else nullcontext() as errors:
            self._process = subprocess.Popen(
                pinned(command, core), stdout=subprocess.PIPE, stderr=errors, text=True, cwd=PROJECT, env=environ
            )

    def first_line(self) -> str:
        """What it prints first; waits for it."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        """Asks it to end, and waits. Returns its exit status."""
        if self.running:
            self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def cpu_s(self) -> float:
        """CPU time until now, of all its threads and of the processes that it started; 0 where the system does not
        tell."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return sum(map(_cpu_s, [str(self.pid), *children]))
        except OSError:
            return 0.0

    def memory_mb(self) -> float:
        """Resident memory; 0 where the system does not tell."""
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        except OSError:
            return 0.0
        return int(found[1]) / 1024 if found else 0.0


def _cpu_s(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
