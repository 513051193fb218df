"""The figures as a table for people and for the README, or as JSON."""

from __future__ import annotations

import io
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .figures import Figure
from .machine import PROJECT, Cores

COLUMNS = 110
README = PROJECT / "README.md"
LOAD_QUIET = 0.5


def machine(cores: Cores, load: str, other_load: float) -> dict[str, str]:
    """`other_load`: how many processes wanted to run before the benchmark did."""
    noise = "" if other_load <= LOAD_QUIET else ": the machine was not idle, expect noise"
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, uvloop {version('uvloop')}, "
        f"SQLite {sqlite3.sqlite_version}",
        "placing": str(cores),
        "load": load,
        "other_load": f"load average before the run {other_load:.1f}{noise}",
    }


def text_of(about: dict[str, str], figures: Sequence[Figure]) -> str:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("bare", "llmctl", "compared", "lowest-highest", "goal"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for figure in figures:
        table.add_row(*_cells(figure))
    return plain(about, table)


def plain(about: dict[str, str], table: Table) -> str:
    """As it stands in the README, too: no colours, no blanks at the ends of lines."""
    written = io.StringIO()
    Console(width=COLUMNS, highlight=False, file=written).print(table)
    lines = [*about.values(), "", *written.getvalue().splitlines()]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def write_readme(command: str, text: str) -> None:
    """In the place of the table that this command wrote before."""
    mark = f"<!-- made by `{command}`; changes by hand are overwritten -->\n```\n"
    before, found, after = README.read_text().partition(mark)
    if not found:
        raise SystemExit(f"error: {README} has no place for it: {mark}")
    _, end, rest = after.partition("```\n")
    README.write_text(before + mark + text + end + rest)
    print(f"{README.name}: written", file=sys.stderr)


def print_json(about: dict[str, str], figures: Sequence[Figure]) -> None:
    rows = [
        {
            "name": figure.name,
            "unit": figure.unit,
            "bare": figure.bare,
            "llmctl": figure.llmctl,
            "by": figure.by,
            "compared": figure.median,
            "lowest": min(figure.compared, default=None),
            "highest": max(figure.compared, default=None),
            "goal": figure.goal and figure.goal.bound,
            "met": figure.met,
        }
        for figure in figures
    ]
    json.dump({"machine": about, "figures": rows}, sys.stdout, indent=2)
    print()


def _cells(figure: Figure) -> list[str]:
    bare = "" if figure.by == "value" else _number(figure.bare)
    spread = ""
    if len(figure.compared) > 1:
        spread = f"{_compared(figure, min(figure.compared))} - {_compared(figure, max(figure.compared))}"
    goal, verdict = "", ""
    if figure.goal is not None:
        goal = ("≥ " if figure.goal.at_least else "≤ ") + _compared(figure, figure.goal.bound)
        verdict = "" if figure.met is None else "met" if figure.met else "MISSED"
    compared = "" if figure.by == "value" else _compared(figure, figure.median)
    return [f"{figure.name}, {figure.unit}", bare, _number(figure.llmctl), compared, spread, goal, verdict]


def _compared(figure: Figure, value: float) -> str:
    return {"ratio": f"{value:.2f}x", "difference": f"{value:+.2f}", "value": _number(value)}[figure.by]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
