"""Why a call passed or not: each limit as it was looked at, and what the call needed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .demand import Demand
from .limit import EACH, Limit, Standing, needed

Verdict = Literal["fits", "capped", "soft", "refused"]


@dataclass(frozen=True, slots=True)
class Looked:
    """One limit, as it stood for one call. Numbers are in the limit's own unit (nano-USD, tokens, calls). Refusals are
    kept with what was looked at, field by field."""

    limit_id: int
    on: str  # the limit's label
    measure: str
    window: str
    zone: str
    models: str  # "" = every model
    soft: bool
    amount: int  # with what was granted
    spent: int
    held: int  # by other open calls
    wanted: int  # the call's worst case as it was asked for
    least: int  # the smallest useful form of it
    resets_at_s: int | None

    @property
    def whom(self) -> tuple[str, str, str]:
        """Kind and name of what the limit is on ("org" has none), and of what it is on each: "" is of none."""
        scope, _, each = self.on.partition(EACH)
        principal, _, name = scope.partition(" ")
        return principal if name else "org", name, each.replace("-", "_")

    @property
    def left(self) -> int:
        return self.amount - self.spent - self.held

    @property
    def verdict(self) -> Verdict:
        """`capped`: only with a lower output maximum; `soft`: over, and told only."""
        if self.wanted <= 0 or self.wanted <= self.left:
            return "fits"
        if self.soft:
            return "soft"
        return "capped" if self.least <= self.left else "refused"


def looked_at(standings: Sequence[Standing], demand: Demand) -> tuple[Looked, ...]:
    """The limits of a call that waits for its decision."""
    return tuple(
        looked(
            standing,
            needed(standing.limit, demand, demand.output_tokens),
            needed(standing.limit, demand, demand.output_tokens_min),
        )
        for standing in standings
    )


def looked(standing: Standing, wanted: int, least: int) -> Looked:
    limit: Limit = standing.limit
    return Looked(
        limit.id,
        limit.on,
        limit.measure,
        limit.window,
        limit.zone,
        limit.model_pattern,
        limit.soft,
        standing.amount,
        standing.settled,
        standing.held,
        wanted,
        least,
        standing.window_end_s,
    )


def tightest(limits: Sequence[Looked]) -> Looked | None:
    """The hard limit that leaves the call the least room: the one that binds, or would be the next to."""
    hard = [one for one in limits if not one.soft]
    return min(hard, key=lambda one: (one.left - one.wanted) / max(1, one.amount), default=None)
