"""What counts in a balance, by the facts alone: roll-ups for what is settled, open calls for what is held, or the calls
themselves where that is finer."""

from __future__ import annotations

from llmctl.domain.access import covers, matches
from llmctl.domain.limit import Limit, Measure, Standing
from llmctl.domain.window import BUCKET_S

from . import deployments, rollups
from .balances import Place, standing
from .ids import at_or_after
from .sql import Reading, as_json

FAR_S = 1 << 40  # after every call
_MODELS = "SELECT id, provider, model FROM models"

SETTLED: dict[Measure, str] = {  # of a roll-up
    "cost": "cost_nano",
    "tokens": "input_tokens + output_tokens",
    "requests": "calls",
    "concurrency": "0",
}
SETTLED_OF_CALL: dict[Measure, str] = SETTLED | {"cost": "coalesce(cost_nano, 0)", "requests": "1"}
HELD: dict[Measure, str] = {  # of an open call
    "cost": "held_nano",
    "tokens": "held_input_tokens + held_output_tokens",
    "requests": "1",
    "concurrency": "1",
}


def booked(place: Place) -> Reading[Standing]:
    """A balance from the facts alone: roll-ups for what is settled, open calls for what is held."""
    if place.slides or place.limit.each == "end_user":  # finer than roll-ups are kept
        end_s = place.window_end_s if place.window_end_s is not None else FAR_S
        settled, held, _ = yield from called_between(place, place.window_start_s, end_s)
        return standing(place, settled, held)
    where, parameters = yield from counted(place)
    plan = yield from rollups.whole(*buckets(place))
    ((settled,),) = yield (
        f"""
        SELECT (SELECT coalesce(sum({SETTLED[place.limit.measure]}), 0) FROM {rollups.SUMMARIES} WHERE {where})
             + (SELECT coalesce(sum({SETTLED[place.limit.measure]}), 0) FROM {rollups.QUARTERS} WHERE {where})
        """,
        parameters | plan.parameters,
    )
    ((held,),) = yield (
        f"""
        SELECT coalesce(sum({HELD[place.limit.measure]}), 0) FROM calls
        WHERE state = 'open' AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000 AND {where}
        """,
        parameters,
    )
    return standing(place, settled, held)


def member_of(limit: Limit) -> str:
    """The column of calls and roll-ups that says which of a limit's members one belongs to."""
    return f"{limit.each}_id" if limit.each else "0"


def counted(place: Place, *, any_member: bool = False) -> Reading[tuple[str, dict[str, object]]]:
    """Which rows of roll-ups and calls count in this balance (`any_member`: in those of all members of its limit): a
    condition, and its parameters."""
    limit = place.limit
    conditions = ["true"]
    parameters: dict[str, object] = {
        "start": place.window_start_s,
        "end": place.window_end_s if place.window_end_s is not None else FAR_S,
        "principal": limit.scope.id,
        "member": place.member_id,
    }
    if limit.scope.principal == "group":
        conditions.append("lineage_id IN (SELECT lineage_id FROM lineage_groups WHERE group_id = :principal)")
    elif limit.scope.principal in ("user", "key"):
        conditions.append(f"{limit.scope.principal}_id = :principal")
    if limit.each and not any_member:
        conditions.append(f"{limit.each}_id = :member")
    if limit.each == "end_user":
        conditions.append("end_user_id <> 0")  # lets the index be used
    if limit.model_pattern:
        conditions.append("model_id IN (SELECT value FROM json_each(:models))")
        parameters["models"] = as_json((yield from covered_ids(limit.model_pattern)))
    return " AND ".join(conditions), parameters


def called_between(place: Place, from_s: int, end_s: int) -> Reading[tuple[int, int, int | None]]:
    """Settled and held by the calls themselves from `from_s` on, before `end_s`; and when the first of them started."""
    where, parameters = yield from counted(place)
    settled, held = called(place.limit.measure)
    ((spent, taken, first_s),) = yield (
        f"""
        SELECT {settled}, {held}, min(started_at_ms) / 1000 FROM calls
        WHERE id >= :first AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000
          AND state IN ('open', 'settled') AND {where}
        """,
        parameters | {"first": at_or_after(from_s), "start": from_s, "end": end_s},
    )
    return spent, taken, first_s


def called(measure: Measure) -> tuple[str, str]:
    """What calls that are settled, and those that are open, count: sums over rows of `calls`."""
    return (
        f"coalesce(sum(CASE state WHEN 'settled' THEN {SETTLED_OF_CALL[measure]} END), 0)",
        f"coalesce(sum(CASE state WHEN 'open' THEN {HELD[measure]} END), 0)",
    )


def buckets(place: Place) -> tuple[int, int]:
    """Of a window: its first bucket, and the one after its last."""
    return (
        place.window_start_s // BUCKET_S,
        rollups.FAR if place.window_end_s is None else place.window_end_s // BUCKET_S,
    )


def covered_ids(pattern: str) -> Reading[list[int]]:
    """Of the models whose calls count in a limit on this pattern."""
    known = yield from deployments.kept()
    rows = yield _MODELS, ()
    return [
        model_id
        for model_id, provider, model in rows
        if covers(pattern, provider, model, deployments.model_of(known, provider, model))
    ]


def model_ids(pattern: str) -> Reading[list[int]]:
    """Of the models that a report on this pattern shows: by their own names."""
    rows = yield _MODELS, ()
    return [model_id for model_id, provider, model in rows if matches(pattern, provider, model)]
