"""Balances: settled and held per (limit, member, window start). A cache, derivable from calls and roll-ups."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from llmctl.domain.access import covers, matches
from llmctl.domain.limit import Limit, Measure, Standing
from llmctl.domain.window import BUCKET_S, MINUTE_S, SLOT_S, Window, window_end, window_start

from . import deployments, rollups
from .ids import at_or_after
from .sql import BulkInsert, Reading, as_json, from_json, run

# After its start a window is surely over, in every zone, and what follows a clock that was set back is not lost.
PAST_S: dict[Window, int] = {
    "minute": 600,
    "hour": 3 * 3_600,
    "day": 2 * 86_400,
    "week": 9 * 86_400,
    "month": 33 * 86_400,
}
FAR_S = 1 << 40  # after every call
Row = tuple[int, int, int]  # limit id, member id, window start
_MODELS = "SELECT id, provider, model FROM models"
_WRITE = BulkInsert(
    "balances",
    ["limit_id", "member_id", "window_start", "settled", "held"],
    conflict="ON CONFLICT DO UPDATE SET settled = excluded.settled, held = excluded.held",
)


class Place(NamedTuple):
    """One balance: a limit, its member (the user or end user of an --each limit, else 0), and a window; of a
    minute, a slot of it."""

    limit: Limit
    row: Row
    window_end_s: int | None
    slides: bool = False

    @property
    def member_id(self) -> int:
        return self.row[1]

    @property
    def window_start_s(self) -> int:
        return self.row[2]

    def is_beside(self, other: Place) -> bool:
        """Whether this is another slot of the same balance that counts where the other one does (see `slide`)."""
        return are_beside(self.row, other.row)

    @property
    def counts_from_s(self) -> int:
        """The start of the oldest slot that counts in it, if it slides."""
        return self.row[2] - MINUTE_S


def are_beside(one: Row, other: Row) -> bool:
    return one[:2] == other[:2] and 0 < abs(one[2] - other[2]) <= MINUTE_S


def places(
    limits: Iterable[Limit],
    *,
    user_id: int,
    end_user_id: int,
    provider: str,
    model: str,
    sold_as: str,
    started_at_s: int,
) -> tuple[Place, ...]:
    """Every balance that a call counts in. `sold_as`: the model that a deployment is."""
    found = []
    for limit in limits:
        if limit.model_pattern and not covers(limit.model_pattern, provider, model, sold_as):
            continue
        if limit.each == "end_user" and end_user_id == 0:
            continue
        member_id = {"": 0, "user": user_id, "end_user": end_user_id}[limit.each]
        found.append(place_of(limit, member_id, started_at_s))
    return tuple(found)


def place_of(limit: Limit, member_id: int, at_s: int) -> Place:
    if limit.window == "minute":
        start_s = at_s - at_s % SLOT_S
        return Place(limit, (limit.id, member_id, start_s), start_s + SLOT_S, slides=True)
    start_s, end_s = _window(limit.window, limit.zone, at_s // BUCKET_S)
    return Place(limit, (limit.id, member_id, start_s), end_s)


@lru_cache(maxsize=1024)
def _window(window: Window, zone: str, bucket: int) -> tuple[int, int | None]:
    # Every window but the minute starts and ends on a quarter of an hour, in every zone.
    moment_s, info = bucket * BUCKET_S, ZoneInfo(zone)
    return window_start(window, info, moment_s), window_end(window, info, moment_s)


def standing(place: Place, settled: int, held: int) -> Standing:
    return Standing(place.limit, place.member_id, place.window_start_s, place.window_end_s, settled, held)


def existing(tx: sqlite3.Connection, wanted: Mapping[Row, Place]) -> dict[Row, Standing]:
    """The balances of these places that have a row."""
    found: dict[Row, Standing] = {}
    if not wanted:
        return found
    # As one row: each row is a step, and each step gives the interpreter's lock away.
    ((rows,),) = tx.execute(
        """
        SELECT json_group_array(json_array(b.limit_id, b.member_id, b.window_start, b.settled, b.held))
        FROM json_each(?) AS j
        JOIN balances AS b
          ON b.limit_id = j.value ->> 0 AND b.member_id = j.value ->> 1 AND b.window_start = j.value ->> 2
        """,
        (as_json(list(wanted)),),
    ).fetchall()
    for limit_id, member_id, start_s, settled, held in from_json(rows):
        row = (limit_id, member_id, start_s)
        found[row] = standing(wanted[row], settled, held)
    return found


def write(tx: sqlite3.Connection, standings: Mapping[Row, Standing]) -> None:
    if standings:
        _WRITE.execute(tx, [(*row, *one.own) for row, one in standings.items()])


def move(tx: sqlite3.Connection, settled: Mapping[Row, int]) -> None:
    """Adds to what is settled where there is a balance; one that is made later finds it in the facts."""
    tx.executemany(
        "UPDATE balances SET settled = settled + ? WHERE limit_id = ? AND member_id = ? AND window_start = ?",
        [(more, *row) for row, more in settled.items() if more],
    )


def slots_from_s(limit: Limit) -> int:
    """From then on a limit per minute was there for all calls: no slot is missing, if nobody has set the clock."""
    return limit.created_at_s + SLOT_S


def forget(tx: sqlite3.Connection) -> None:
    """Every balance that a change of zone or tree may have moved: the next hold computes it anew. Slots of a minute
    are the same in all zones, and only complete while all of them stay."""
    tx.execute("DELETE FROM balances WHERE limit_id NOT IN (SELECT id FROM limits WHERE window = 'minute')")


def forget_of_user(tx: sqlite3.Connection, user_id: int) -> None:
    """The same for one user, who moved: only limits on the user and on their keys go by the zone of the group."""
    tx.execute(
        """
        DELETE FROM balances WHERE limit_id IN (
            SELECT id FROM limits WHERE principal = 'user' AND principal_id = ?1 AND window <> 'minute'
            UNION ALL
            SELECT l.id FROM keys AS k JOIN limits AS l ON l.principal = 'key' AND l.principal_id = k.id
            WHERE k.user_id = ?1 AND l.window <> 'minute'
        )
        """,
        (user_id,),
    )


def forget_limit(tx: sqlite3.Connection, limit: Limit) -> None:
    """Every balance of a limit that counts other calls from now on. One of a minute needs its slots filled again."""
    tx.execute("DELETE FROM balances WHERE limit_id = ?", (limit.id,))


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


SLOT = f"started_at_ms / 1000 / {SLOT_S} * {SLOT_S}"  # of a call: when its slot began


def booked(place: Place) -> Reading[Standing]:
    """A balance from the facts alone: roll-ups for what is settled, open calls for what is held."""
    if place.slides or place.limit.each == "end_user":  # finer than roll-ups are kept
        end_s = place.window_end_s if place.window_end_s is not None else FAR_S
        settled, held, _ = yield from _called(place, place.window_start_s, end_s)
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


def slide(pairs: Sequence[tuple[Place, Standing]]) -> Reading[None]:
    """Adds what the slots of the minute before them count to standings of limits per minute, and those after them,
    which have begun if a call is judged a while after it came."""
    ((found,),) = yield _BESIDE, (as_json([(*place.row, place.counts_from_s) for place, _ in pairs]),)
    beside = {number: rest for number, *rest in from_json(found)}
    for number, (place, one) in enumerate(pairs):
        settled, held, oldest_s = beside.get(number, (0, 0, place.window_start_s))
        _slid(one, settled, held, min(oldest_s, place.window_start_s))


# As one row: each row is a step, and each step gives the interpreter's lock away.
_BESIDE = f"""
    SELECT json_group_array(json_array(number, settled, held, oldest_s)) FROM (
        SELECT p.key AS number, sum(b.settled) AS settled, sum(b.held) AS held, min(b.window_start) AS oldest_s
        FROM json_each(?) AS p
        CROSS JOIN balances AS b ON b.limit_id = p.value ->> 0 AND b.member_id = p.value ->> 1
         AND b.window_start >= p.value ->> 3 AND b.window_start < (p.value ->> 2) + {MINUTE_S}
        WHERE b.window_start <> p.value ->> 2 AND (b.settled <> 0 OR b.held <> 0) GROUP BY p.key
    )
"""


def slide_by_calls(place: Place, one: Standing) -> Reading[None]:
    """The same where a slot may have no balance though there were calls."""
    start_s = place.window_start_s
    before = yield from _called(place, place.counts_from_s, start_s)
    after = yield from _called(place, start_s + SLOT_S, start_s + MINUTE_S)
    oldest_s = before[2] // SLOT_S * SLOT_S if before[2] is not None else start_s
    _slid(one, before[0] + after[0], before[1] + after[1], oldest_s)


def _slid(one: Standing, settled: int, held: int, oldest_s: int) -> None:
    one.add_others(settled, held)
    one.window_end_s = oldest_s + SLOT_S + MINUTE_S


def fill_slots(tx: sqlite3.Connection, limit: Limit, from_s: int) -> None:
    """Makes the balances that are missing among a limit's slots from that one on, for all its members, by the calls."""
    where, parameters = run(tx, counted(place_of(limit, 0, from_s), any_member=True))
    settled, held = called(limit.measure)
    # By the calls since then, whichever other index there is.
    tx.execute(
        f"""
        INSERT INTO balances (limit_id, member_id, window_start, settled, held)
        SELECT :limit, {member_of(limit)}, {SLOT}, {settled}, {held} FROM calls NOT INDEXED
        WHERE id >= :first AND started_at_ms >= :start * 1000 AND state IN ('open', 'settled') AND {where} GROUP BY 2, 3
        ON CONFLICT DO NOTHING
        """,
        parameters | {"limit": limit.id, "first": at_or_after(from_s), "start": from_s},
    )


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


def _called(place: Place, from_s: int, end_s: int) -> Reading[tuple[int, int, int | None]]:
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


def now(limit: Limit, member_id: int, now_s: int) -> Reading[Standing]:
    """Where a limit stands in its current window, for one member. Nothing is created."""
    place = place_of(limit, member_id, now_s)
    rows = yield (
        "SELECT settled, held FROM balances WHERE limit_id = ? AND member_id = ? AND window_start = ?",
        place.row,
    )
    found = standing(place, *rows[0]) if rows else (yield from booked(place))
    if place.slides:
        if place.counts_from_s < slots_from_s(limit):
            yield from slide_by_calls(place, found)
        else:
            yield from slide([(place, found)])
    found.grant(now_s)
    return found


def some(reader: sqlite3.Connection, after: Row, rows_max: int) -> list[tuple[int, int, int, Window | None]]:
    """So many balances after one, each with the kind of its window; None: of a limit that is no more."""
    return reader.execute(
        """
        SELECT b.limit_id, b.member_id, b.window_start, l.window
        FROM balances AS b LEFT JOIN limits AS l ON l.id = b.limit_id
        WHERE (b.limit_id, b.member_id, b.window_start) > (?, ?, ?) ORDER BY 1, 2, 3 LIMIT ?
        """,
        (*after, rows_max),
    ).fetchall()


def past(rows: Iterable[tuple[int, int, int, Window | None]], now_s: int) -> list[Row]:
    """Those whose window is over: a call that still belongs there builds its balance anew."""
    return [
        (limit_id, member_id, start_s)
        for limit_id, member_id, start_s, window in rows
        if window is None or (window != "total" and start_s < now_s - PAST_S[window])
    ]


def drop(tx: sqlite3.Connection, rows: Sequence[Row]) -> None:
    tx.executemany("DELETE FROM balances WHERE (limit_id, member_id, window_start) = (?, ?, ?)", rows)
