"""Balances: settled and held per (limit, member, window start). A cache, derivable from calls and roll-ups."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from llmctl.domain.access import covers
from llmctl.domain.limit import Limit, Standing
from llmctl.domain.window import BUCKET_S, MINUTE_S, SLOT_S, Window, window_end, window_start

from .sql import BulkDelete, BulkInsert, as_json, from_json

# After its start a window is surely over, in every zone, and what follows a clock that was set back is not lost.
PAST_S: dict[Window, int] = {
    "minute": 600,
    "hour": 3 * 3_600,
    "day": 2 * 86_400,
    "week": 9 * 86_400,
    "month": 33 * 86_400,
}
Row = tuple[int, int, int]  # limit id, member id, window start
_WRITE = BulkInsert(
    "balances",
    ["limit_id", "member_id", "window_start", "settled", "held"],
    conflict="ON CONFLICT DO UPDATE SET settled = excluded.settled, held = excluded.held",
)
_DROP = BulkDelete("balances", ["limit_id", "member_id", "window_start"])


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
        """Whether this is another slot of the same balance that counts where the other one does (`sliding`)."""
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
    _DROP.execute(tx, rows)
