"""What one user has used lately, for themselves: by the roll-ups, with as little as a limit per month reads."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from llmctl.domain.window import BUCKET_S, window_start

from . import rollups
from .rollups import Stretch
from .sql import Reading

_SUMS = ("calls", "unpriced_calls", "input_tokens", "output_tokens", "cost_nano")


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """`cost_nano_usd` holds the priced calls only; `unpriced_calls` counts the others."""

    calls: int
    unpriced_calls: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int


def lately(user_id: int, zone: str, now_s: int) -> Reading[tuple[OwnUsage, OwnUsage]]:
    """Today and this month, as the zone has them. Calls that are open are not in it yet."""
    info = ZoneInfo(zone)
    month, day = (window_start(window, info, now_s) // BUCKET_S for window in ("month", "day"))
    plan = yield from rollups.plan([Stretch(0, month, day), Stretch(1, day, now_s // BUCKET_S + 1)])
    sums = ", ".join(f"coalesce(sum(r.{name}), 0)" for name in _SUMS)
    found = {0: [0] * len(_SUMS), 1: [0] * len(_SUMS)}
    for source in (rollups.SUMMARIES, rollups.QUARTERS):
        rows = yield (
            f"SELECT s.value ->> 0, {sums} FROM {source} WHERE r.user_id = :user GROUP BY 1",
            {"user": user_id, **plan.parameters},
        )
        for number, *amounts in rows:
            found[number] = [one + more for one, more in zip(found[number], amounts, strict=True)]
    before, today = found[0], found[1]
    return OwnUsage(*today), OwnUsage(*(one + more for one, more in zip(before, today, strict=True)))
