"""What is called, and turn by turn how fast it goes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import load
from .load import Load, Result
from .machine import Cores, Process
from .probe import Seen, see
from .upstream import MODEL, PACED_MODEL

WARM_UP_S = 1
BREAK_S = 0.3  # after a turn: what the load left open is ended and booked


@dataclass(frozen=True, slots=True)
class Workload:
    """The same call on so many connections."""

    name: str
    connections: int
    body: str


def chat(model: str, content: object, *, stream: bool = False) -> str:
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": content}]
    request: dict[str, object] = {"model": model, "messages": messages, "max_tokens": 100}
    # Without blanks, as the SDKs of OpenAI and Anthropic write it.
    return json.dumps({**request, "stream": True} if stream else request, separators=(",", ":"))


def body(model: str, *, stream: bool = False) -> str:
    return chat(model, "Say hello to all of us.", stream=stream)


ONE = Workload("one call at once", 1, body(MODEL))
SOME = Workload("32 calls at once", 32, body(MODEL))
MANY = Workload("256 calls at once", 256, body(MODEL))
STREAMED = Workload("32 streams at once", 32, body(MODEL, stream=True))
PACED = Workload("32 paced streams at once", 32, body(PACED_MODEL, stream=True))
WORKLOADS = (SOME, MANY, STREAMED, PACED, ONE)


@dataclass(frozen=True, slots=True)
class Target:
    """A server to put load on."""

    name: str
    url: str
    key: str
    process: Process
    headers: Mapping[str, str] = field(default_factory=dict)  # more than all need
    other_keys: Sequence[str] = ()  # that take turns with `key`


@dataclass(frozen=True, slots=True)
class Turn:
    result: Result
    cpu_s: float  # that the server used

    @property
    def cpu_us_per_call(self) -> float:
        return 1e6 * self.cpu_s / self.result.calls


class Driver:
    """Runs turns, and keeps count of what it saw for the comparison with the books."""

    def __init__(self, cores: Cores, *, with_wrk: bool, scratch: Path) -> None:
        self._core = cores.others
        self._with_wrk = with_wrk
        self._scratch = scratch
        self.answered: Counter[str] = Counter()  # by target: answers with 200
        self.cut_max: Counter[str] = Counter()  # calls that may have been left in the middle

    def turn(self, target: Target, workload: Workload, seconds: int) -> Turn:
        """Raises LoadFailed unless every answer was a 200."""
        before_s = target.process.cpu_s()
        result = load.run(
            Load.chat(
                target.url,
                [target.key, *target.other_keys],
                workload.body,
                workload.connections,
                seconds,
                target.headers,
            ),
            core=self._core,
            with_wrk=self._with_wrk,
            scratch=self._scratch,
        )
        cpu_s = target.process.cpu_s() - before_s
        self.answered[target.name] += result.calls
        self.cut_max[target.name] += workload.connections if self._with_wrk else 0
        time.sleep(BREAK_S)
        return Turn(result, cpu_s)

    def firsts(self, target: Target, seconds: int) -> Seen:
        """One paced stream after another. Raises LoadFailed unless each had events."""
        seen = see("firsts", target.url, target.key, PACED.body, 1, core=self._core, seconds=seconds)
        if seen.failed:
            raise load.LoadFailed(f"{target.url}: {seen.failed} streams without an event")
        self.answered[target.name] += seen.count
        return seen

    def alternate(
        self, bare: Target, llmctl: Target, workload: Workload, turns: int, seconds: int
    ) -> list[tuple[Turn, Turn]]:
        """Turns of both after one another, so that whatever else the machine does hits both."""
        for target in (bare, llmctl):
            self.turn(target, workload, min(seconds, WARM_UP_S))
        return [(self.turn(bare, workload, seconds), self.turn(llmctl, workload, seconds)) for _ in range(turns)]
