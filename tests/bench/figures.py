"""What the turns say: medians, how the two compare pair by pair, and the goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .measure import MANY, ONE, PACED, SOME, STREAMED, Turn, Workload

Pair = tuple[float, float]  # bare, llmctl
Pairs = Sequence[tuple[Turn, Turn]]


@dataclass(frozen=True, slots=True)
class Goal:
    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report."""

    name: str
    unit: str
    pairs: Sequence[Pair]
    by: Literal["ratio", "difference", "value"] = "ratio"  # llmctl / bare, llmctl - bare, or llmctl alone
    goal: Goal | None = None

    @property
    def bare(self) -> float:
        return statistics.median(bare for bare, _ in self.pairs)

    @property
    def llmctl(self) -> float:
        return statistics.median(llmctl for _, llmctl in self.pairs)

    @property
    def compared(self) -> list[float]:
        if self.by == "ratio":
            return [llmctl / bare for bare, llmctl in self.pairs if bare]
        return [llmctl - bare if self.by == "difference" else llmctl for bare, llmctl in self.pairs]

    @property
    def median(self) -> float:
        return statistics.median(self.compared or [0.0])

    @property
    def met(self) -> bool | None:
        return None if self.goal is None or not self.compared else self.goal.met(self.median)


@dataclass(frozen=True, slots=True)
class Aspect:
    """How a figure is made from turns."""

    workload: Workload
    name: str
    unit: str
    of: Callable[[Turn], float]
    by: Literal["ratio", "difference"] = "ratio"
    goal: Goal | None = None


THROUGHPUT = Goal(1.0, at_least=True)
ASPECTS = (
    Aspect(SOME, "throughput, 32 calls at once", "/s", lambda turn: turn.result.calls_per_s, goal=THROUGHPUT),
    Aspect(MANY, "throughput, 256 calls at once", "/s", lambda turn: turn.result.calls_per_s, goal=THROUGHPUT),
    Aspect(STREAMED, "throughput, 32 streams at once", "/s", lambda turn: turn.result.calls_per_s, goal=THROUGHPUT),
    Aspect(SOME, "CPU of a call", "us", lambda turn: turn.cpu_us_per_call),
    Aspect(PACED, "CPU of a stream, 20 events 1 ms apart", "us", lambda turn: turn.cpu_us_per_call, goal=Goal(1.2)),
    Aspect(ONE, "latency p50, 1 call at once", "ms", lambda turn: turn.result.p50_ms, "difference", Goal(0.5)),
    Aspect(ONE, "latency p99, 1 call at once", "ms", lambda turn: turn.result.p99_ms, "difference", Goal(2.0)),
)


def figures(turns: Mapping[Workload, Pairs]) -> list[Figure]:
    return [
        Figure(
            aspect.name,
            aspect.unit,
            [(aspect.of(bare), aspect.of(llmctl)) for bare, llmctl in turns[aspect.workload]],
            aspect.by,
            aspect.goal,
        )
        for aspect in ASPECTS
        if aspect.workload in turns
    ]
