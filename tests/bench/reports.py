"""How long reports take in a large database, and how large it is: `make bench ARGS=--reports`, three minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from llmctl.store.database import file_bytes

from . import history
from .figures import Figure, Goal
from .gateway import LLMCTL
from .machine import pinned
from .startup import run_ms

FEW, MANY = 1_000_000, 10_000_000
RUNS = 7
REPORTS = ("usage", "usage --by user", "usage --by day", "usage --group group-1", "limit list")


def figures(core: int | None, directory: Path) -> list[Figure]:
    """Of each report: its time after ten million calls, and beside that after one million."""
    few, many = directory / "few.db", directory / "many.db"
    for database, calls in ((few, FEW), (many, MANY)):
        history.make(database, calls, now_s=int(time.time()))
    found = []
    for report in REPORTS:
        pairs = [(_ms(report, few, core), _ms(report, many, core)) for _ in range(RUNS + 1)][1:]
        found += [
            Figure(f"llmctl {report}, {MANY:,} calls", "ms", pairs, "value", Goal(500)),
            Figure(f"llmctl {report}, {FEW:,} -> {MANY:,} calls", "ms", pairs, goal=Goal(1.5)),
        ]
    sizes = (file_bytes(few) / FEW, file_bytes(many) / MANY)
    return [*found, Figure(f"file after {MANY:,} calls", "B/call", [sizes], "value", Goal(250))]


def _ms(report: str, database: Path, core: int | None) -> float:
    command: Sequence[str] = (LLMCTL, *report.split(), "--database", str(database))
    return run_ms(pinned(command, core))
