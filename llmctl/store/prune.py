"""Forgetting old calls: in small steps, so that whoever serves meanwhile waits for none. Sums by time stay."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from . import audit, balances, objects, repricing
from .audit import Author
from .database import Store
from .ids import at_or_after
from .sql import BulkDelete

STEP_CALLS = 200  # one or two milliseconds
STEP_CALLS_SEEN = 5_000  # with those that stay
PAUSE_S = 0.01  # in which others get the lock
CHECKPOINT_STEPS = 20

_FORGET_CALLS = BulkDelete("calls", ["id"])
_FORGET_REFUSALS = BulkDelete("refusals", ["call_id"])
_OLD = """
    FROM calls
    WHERE id > :after AND id < :end AND state <> 'open' AND (end_user_id = 0 OR state = 'refused' OR id < :end_users)
"""


def count(path: Path, before_s: int, now_s: int) -> int:
    """How many calls `prune` would forget."""
    with closing(Store(path, readonly=True)) as store, store.read() as tx:
        (calls,) = tx.execute(f"SELECT count(*) {_OLD}", {"after": -1, **_ends(tx, before_s, now_s)}).fetchone()
    assert isinstance(calls, int)
    return calls


def prune(path: Path, author: Author, before_s: int, *, pause_s: float = PAUSE_S) -> int:
    """Forgets the calls that started before that moment, and returns how many. What is still open stays. Interrupted,
    it has done a part, and the next one goes on."""
    forgotten, entry, step = 0, 0, 0
    last: int | None = -1
    with closing(Store(path)) as store:
        _in_steps(store, pause_s, lambda tx: objects.forget_old(tx, author.at_s))
        while last is not None:
            with store.read() as tx:  # looked for in a snapshot: the lock is only needed to forget them
                ends = _ends(tx, before_s, author.at_s)
                ids, following = _next(tx, last, ends)
            if ids:
                with store.write() as tx:
                    if _ends(tx, before_s, author.at_s) != ends:
                        continue  # a limit was set meanwhile that counts some of them
                    forgotten += _forget(tx, ids)
                    # With the first ones already: doctor must never take what is forgotten for what is missing.
                    entry = audit.keep(tx, author, "prune", "calls", {"calls": forgotten, "before": before_s}, entry)
            last = following
            step += 1
            if step % CHECKPOINT_STEPS == 0:
                store.checkpoint()
            time.sleep(pause_s)
        _in_steps(store, pause_s, lambda tx: _forget_refusal_counts(tx, before_s))
    return forgotten


def _forget(tx: sqlite3.Connection, ids: Sequence[int]) -> int:
    rows = [(call_id,) for call_id in ids]
    _FORGET_REFUSALS.execute(tx, rows)
    repricing.forget(tx, ids)
    return _FORGET_CALLS.execute(tx, rows)


def _next(tx: sqlite3.Connection, after: int, ends: dict[str, int]) -> tuple[list[int], int | None]:
    """The next ids to forget, and which one the step after this one goes on from; None: there is no more to look at."""
    (seen,) = tx.execute(
        "SELECT max(id) FROM (SELECT id FROM calls WHERE id > ? AND id < ? ORDER BY id LIMIT ?)",
        (after, ends["end"], STEP_CALLS_SEEN),
    ).fetchone()
    if seen is None:
        return [], None
    rows = tx.execute(
        f"SELECT id {_OLD} ORDER BY id LIMIT :most", {"after": after, **ends, "end": seen + 1, "most": STEP_CALLS}
    )
    ids = [call_id for (call_id,) in rows]
    return ids, ids[-1] if len(ids) == STEP_CALLS else seen


def _ends(tx: sqlite3.Connection, before_s: int, now_s: int) -> dict[str, int]:
    """The ids that calls are forgotten up to. Limits on each end user are counted by the calls themselves: those stay
    as long as such a limit's window may hold them."""
    windows = {window for (window,) in tx.execute("SELECT window FROM limits WHERE each = 'end_user'")}
    if "total" in windows:
        end_users_s = 0
    else:
        end_users_s = min(before_s, now_s - max((balances.PAST_S[window] for window in windows), default=0))
    return {"end": at_or_after(before_s), "end_users": at_or_after(end_users_s)}


def _forget_refusal_counts(tx: sqlite3.Connection, before_s: int) -> bool:
    """Some of them; whether there is more."""
    first = "SELECT minute, key_id, error_id FROM refusal_counts WHERE minute < ? LIMIT ?"
    done = tx.execute(
        f"DELETE FROM refusal_counts WHERE (minute, key_id, error_id) IN ({first})", (before_s // 60, STEP_CALLS_SEEN)
    )
    return done.rowcount == STEP_CALLS_SEEN


def _in_steps(store: Store, pause_s: float, step: Callable[[sqlite3.Connection], bool]) -> None:
    """One transaction after another, while there is more."""
    more = True
    while more:
        with store.write() as tx:
            more = step(tx)
        if more:
            time.sleep(pause_s)
