"""Groups in a usage table: each below its parent, with a line that sums up where there is something to sum up.

A group's own line is what its own users did, so that lines add up; the sum is what a limit on the group counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add

from llmctl.domain.limit import Standing
from llmctl.store.usage import Sums

INDENT = "  "


@dataclass(slots=True)
class Line:
    """One line of the table. `name`: what notes call it; "" for lines that are not about somebody."""

    texts: list[str]
    sums: Sums
    name: str = ""
    standing: Standing | None = None
    trend: list[int] | None = None
    is_sum: bool = False  # of lines above it


def tree(
    line_of: Mapping[int | None, Line],
    parents: Mapping[int, int | None],
    names: Mapping[int, str],
    standing_of: Mapping[int | None, Standing],
) -> list[Line]:
    """`line_of`: by group; None for those in no group. The dearest branch comes first."""
    shown: set[int] = set()
    for group_id in line_of:
        while group_id is not None and group_id not in shown:
            shown.add(group_id)
            group_id = parents.get(group_id)

    def branches(parent_id: int | None, depth: int) -> list[Line]:
        found = [branch(group_id, depth) for group_id in shown if parents.get(group_id) == parent_id]
        found.sort(key=lambda lines: (-sum(line.sums.cost_nano_usd for line in _direct(lines)), lines[0].name))
        return [line for lines in found for line in lines]

    def branch(group_id: int, depth: int) -> list[Line]:
        own = line_of.get(group_id)
        below = branches(group_id, depth + 1)
        if own is None:
            return [*below, _sum(names[group_id], depth, _direct(below), standing_of.get(group_id))]
        own.texts[0] = INDENT * depth + own.texts[0]
        if not below:
            return [own]
        own.standing = None  # it is about the sum
        whole = _sum(own.name, depth, [own, *_direct(below)], standing_of.get(group_id))
        return [own, *below, whole]

    without_group = line_of.get(None)
    return [*branches(None, 0), *([without_group] if without_group is not None else [])]


def _direct(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if not line.is_sum]


def _sum(name: str, depth: int, parts: Sequence[Line], standing: Standing | None) -> Line:
    sums, trend = Sums(), None
    for line in parts:
        sums.add(line.sums.amounts)
        if line.trend is not None:
            trend = line.trend if trend is None else list(map(add, trend, line.trend))
    return Line([f"{INDENT * depth}= {name} in all"], sums, name, standing, trend, is_sum=True)
