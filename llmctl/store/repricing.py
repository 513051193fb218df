"""Costs worked out anew, from the usage that is kept with each call and the price that was in force when it started.

In small steps, so that whoever serves meanwhile waits for none. What a step did is committed with the place it came to:
a run that was interrupted goes on there. The old figure of each call stays beside the new one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import add
from pathlib import Path

from llmctl.domain.limit import Limit
from llmctl.domain.money import usd_exact
from llmctl.domain.window import BUCKET_S

from . import audit, balances, callers, deployments, fold, limits
from .audit import Author
from .database import Store
from .deployments import Deployments
from .revision import Booked, Change, Looked, PriceBook, Seller, Wanted, look
from .sql import BulkDelete

ACTION = "usage reprice"
STEP_CALLS = 100  # some milliseconds
PAUSE_S = 0.01  # in which others get the lock
CHECKPOINT_STEPS = 20
PRINCIPALS_MAX = 10_000
NO_SUMS = (0,) * len(fold.SUMS)
_FORGET = BulkDelete("repriced_calls", ["call_id"])


@dataclass(frozen=True, slots=True)
class Repriced:
    """One change in the life of a call."""

    at_s: int
    old_cost_nano_usd: int | None
    old_source: str | None  # of the price; None: unpriced
    new_cost_nano_usd: int | None
    new_source: str | None
    stated: bool


def reprice(
    path: Path,
    author: Author,
    wanted: Wanted,
    sellers: Mapping[str, Seller],
    *,
    pause_s: float = PAUSE_S,
    tell: Callable[[Sequence[Looked]], None] = lambda _: None,
) -> int:
    """Works out the costs anew, and returns how many changed. Calls that others change meanwhile are left to them.

    A run of the same calls that was interrupted is continued; `tell` then hears of the rest only.
    """
    book, cost_limits = PriceBook(sellers), _CostLimits()
    with closing(Store(path)) as store:
        with store.write() as tx:
            run_id, after = _begin(tx, author, wanted)
        steps = 0
        for looked in look(store, wanted, book, after=after):
            changes = [one.change for one in looked if one.change is not None]
            for first in range(0, len(changes), STEP_CALLS):
                step = changes[first : first + STEP_CALLS]
                with store.write() as tx:
                    _apply(tx, run_id, step, cost_limits)
                    tx.execute("UPDATE repricings SET last_call_id = ? WHERE id = ?", (step[-1].call.call_id, run_id))
                steps += 1
                if steps % CHECKPOINT_STEPS == 0:
                    store.checkpoint()
                time.sleep(pause_s)
            tell(looked)
        with store.write() as tx:
            return _end(tx, author, run_id)


def unfinished(tx: sqlite3.Connection, wanted: Wanted) -> bool:
    """Whether a run of these calls was interrupted."""
    return _interrupted(tx, wanted) is not None


def history(tx: sqlite3.Connection, call_id: int) -> tuple[Repriced, ...]:
    """What became of a call's cost, the oldest change first."""
    rows = tx.execute(
        """
        SELECT r.began_at, c.old_cost_nano, old.source, c.old_price_id, c.new_cost_nano, new.source, c.stated
        FROM repriced_calls c JOIN repricings r ON r.id = c.repricing_id
        LEFT JOIN prices old ON old.id = c.old_price_id LEFT JOIN prices new ON new.id = c.new_price_id
        WHERE c.call_id = ? ORDER BY c.repricing_id
        """,
        (call_id,),
    )
    return tuple(
        Repriced(at_s, old, source if old_id is not None else None, new, new_source, bool(stated))
        for at_s, old, source, old_id, new, new_source, stated in rows
    )


def forget(tx: sqlite3.Connection, call_ids: Sequence[int]) -> None:
    """The history of calls that are forgotten themselves."""
    _FORGET.execute(tx, [(call_id,) for call_id in call_ids])


def _begin(tx: sqlite3.Connection, author: Author, wanted: Wanted) -> tuple[int, int]:
    """The run, and after which call it goes on."""
    found = _interrupted(tx, wanted)
    if found is not None:
        return found
    (run_id,) = tx.execute(
        """
        INSERT INTO repricings (since_at, until_at, model_pattern, last_call_id, began_at) VALUES (?, ?, ?, -1, ?)
        RETURNING id
        """,
        (wanted.since_s, wanted.until_s, wanted.model, author.at_s),
    ).fetchone()
    facts: dict[str, object] = {"run": run_id, "since": wanted.since_s, "until": wanted.until_s}
    audit.keep(tx, author, ACTION, wanted.model or "all models", facts)
    return run_id, -1


def _interrupted(tx: sqlite3.Connection, wanted: Wanted) -> tuple[int, int] | None:
    """The last run, if it was of the same calls, did not come to its end, and no price has changed since it began:
    what was done by other prices is looked at again."""
    row = tx.execute(
        """
        SELECT id, last_call_id FROM repricings
        WHERE id = (SELECT max(id) FROM repricings) AND ended_at IS NULL
          AND since_at = ? AND until_at IS ? AND model_pattern = ?
          AND NOT EXISTS (SELECT 1 FROM prices WHERE created_at >= began_at OR superseded_at >= began_at)
        """,
        (wanted.since_s, wanted.until_s, wanted.model),
    ).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def _end(tx: sqlite3.Connection, author: Author, run_id: int) -> int:
    """Completes the run, and its entry in the audit with the figures of all its parts."""
    tx.execute("UPDATE repricings SET ended_at = ? WHERE id = ?", (author.at_s, run_id))
    changed, old, new, own = tx.execute(
        """
        SELECT coalesce(sum(NOT stated), 0), coalesce(sum(iif(stated, 0, coalesce(old_cost_nano, 0))), 0),
               coalesce(sum(iif(stated, 0, coalesce(new_cost_nano, 0))), 0), coalesce(sum(stated), 0)
        FROM repriced_calls WHERE repricing_id = ?
        """,
        (run_id,),
    ).fetchone()
    entry, subject, after = tx.execute(
        "SELECT id, subject, after FROM audit WHERE action = ? AND after ->> 'run' = ?", (ACTION, run_id)
    ).fetchone()
    facts: dict[str, object] = {"calls": changed, "old_cost_usd": usd_exact(old), "new_cost_usd": usd_exact(new)}
    audit.keep(tx, author, ACTION, subject, json.loads(after) | facts | {"calls_stated_by_providers": own}, entry)
    return int(changed + own)


@dataclass(slots=True)
class _CostLimits:
    """The limits on cost that apply to a call, by its lineage, user and key: looked up once, unless settings change."""

    default_zone: str = ""
    deployments: Deployments = field(default_factory=dict)
    _version: int = -1
    _found: dict[tuple[str, int, int], list[Limit]] = field(default_factory=dict)

    def refresh(self, tx: sqlite3.Connection) -> None:
        version = callers.settings_version(tx)
        if version != self._version or len(self._found) > PRINCIPALS_MAX:
            self._version = version
            self.default_zone = limits.default_zone(tx)
            self.deployments = deployments.load(tx)
            self._found.clear()

    def of(self, tx: sqlite3.Connection, call: Booked) -> list[Limit]:
        principals = (call.path, call.user_id, call.key_id)
        found = self._found.get(principals)
        if found is None:
            lineage = [int(part) for part in call.path.split("/") if part]
            applying = limits.applying(
                tx, lineage=lineage, user_id=call.user_id, key_id=call.key_id, default_zone=self.default_zone
            )
            found = self._found[principals] = [limit for limit in applying if limit.measure == "cost"]
        return found


def _apply(tx: sqlite3.Connection, run_id: int, changes: Sequence[Change], cost_limits: _CostLimits) -> None:
    """Calls, roll-ups, summaries and balances, all of them or none."""
    cost_limits.refresh(tx)
    rollups: dict[tuple[int, ...], tuple[int, ...]] = {}
    moved: Counter[balances.Row] = Counter()
    kept = []
    for change in changes:
        call = change.call
        if not _rewrite(tx, change):
            continue  # it was corrected meanwhile, or repriced
        facts = (change.old_cost_nano, change.old_price_id, change.new_cost_nano, change.new_price_id, call.stated)
        kept.append((call.call_id, run_id, *facts))
        if call.stated:
            continue
        more = change.new_cost_nano - (call.cost_nano or 0)
        key, sums = _rollup_key(tx, call), _rollup_sums(-int(call.cost_nano is None), more)
        rollups[key] = tuple(map(add, rollups.get(key, NO_SUMS), sums))
        places = balances.places(
            cost_limits.of(tx, call),
            user_id=call.user_id,
            end_user_id=call.end_user_id,
            provider=call.provider,
            model=call.model,
            sold_as=deployments.model_of(cost_limits.deployments, call.provider, call.model),
            started_at_s=call.started_at_s,
        )
        for place in places:
            moved[place.row] += more
    tx.executemany("INSERT INTO repriced_calls VALUES (?, ?, ?, ?, ?, ?, ?)", kept)
    if rollups:
        fold.amend(tx, [(*key, *sums) for key, sums in rollups.items()], cost_limits.default_zone)
    balances.move(tx, moved)


def _rewrite(tx: sqlite3.Connection, change: Change) -> bool:
    """Only a row that still is as it was read."""
    cost, price = ("own_cost_nano", "own_price_id") if change.call.stated else ("cost_nano", "price_id")
    done = tx.execute(
        f"""
        UPDATE calls SET {cost} = ?, {price} = ?
        WHERE id = ? AND state = 'settled' AND {cost} IS ? AND {price} IS ?
        """,
        (
            change.new_cost_nano,
            change.new_price_id,
            change.call.call_id,
            change.old_cost_nano,
            change.old_price_id,
        ),
    )
    return done.rowcount == 1


def _rollup_key(tx: sqlite3.Connection, call: Booked) -> tuple[int, ...]:
    """Its row of the roll-ups: that of its end user, if there was a limit on each when it was settled."""
    key = (call.started_at_s // BUCKET_S, call.lineage_id, call.user_id, call.key_id, call.model_id)
    if not call.end_user_id:
        return (*key, 0)
    row = tx.execute(
        f"SELECT 1 FROM rollups WHERE ({', '.join(fold.KEY)}) = (?, ?, ?, ?, ?, ?)", (*key, call.end_user_id)
    ).fetchone()
    return (*key, call.end_user_id if row is not None else 0)


def _rollup_sums(unpriced_calls: int, cost_nano: int) -> tuple[int, ...]:
    known = {"unpriced_calls": unpriced_calls, "cost_nano": cost_nano}
    return tuple(known.get(name, 0) for name in fold.SUMS)
