"""Costs worked out anew, from the usage that is kept with each call and the price that was in force when it started.

In small steps, so that whoever serves meanwhile waits for none. What a step did is committed with the place it came to:
a run that was interrupted goes on there. The old figure of each call stays beside the new one.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from llmctl.domain.limit import Limit
from llmctl.domain.money import usd_exact
from llmctl.domain.price import Price, pick
from llmctl.domain.usage import USAGE_CLASSES, Usage
from llmctl.domain.window import BUCKET_S

from . import audit, balances, fold, ids, limits, prices
from .audit import Author
from .database import Store
from .sql import as_json
from .usage import model_ids

PAGE_CALLS = 2_000  # read outside the lock
STEP_CALLS = 200  # some milliseconds
PAUSE_S = 0.01  # in which others get the lock
CHECKPOINT_STEPS = 20
PRICES_MAX = 1_000
EVERY_MODEL = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls: those that started from `since_s` on, before `until_s` (None: until now), of models that the pattern
    names."""

    since_s: int
    until_s: int | None = None
    model: str = EVERY_MODEL


class Booked(NamedTuple):
    """What a call is booked with. `cost_nano is None`: unpriced."""

    call_id: int
    started_at_ms: int
    provider: str
    model: str
    usage_source: str | None
    cost_nano: int | None
    price_id: int | None
    own_cost_nano: int | None
    own_price_id: int | None
    service_tier: str | None
    lineage_id: int
    path: str
    user_id: int
    key_id: int
    end_user_id: int
    model_id: int
    usage: Usage

    @property
    def stated(self) -> bool:
        """The provider said itself what it cost."""
        return self.price_id is None and bool(self.cost_nano or self.own_price_id)

    @property
    def started_at_s(self) -> int:
        return self.started_at_ms // 1000


class Change(NamedTuple):
    """A call whose figure becomes another one; where the provider stated the money, our own figure beside it."""

    call: Booked
    new_cost_nano: int
    new_price_id: int

    @property
    def old_cost_nano(self) -> int | None:
        return self.call.own_cost_nano if self.call.stated else self.call.cost_nano

    @property
    def old_price_id(self) -> int | None:
        return self.call.own_price_id if self.call.stated else self.call.price_id


class Looked(NamedTuple):
    """A call that was looked at, and what changes. `change is None`: it stays as it is."""

    call: Booked
    change: Change | None

    @property
    def new_cost_nano(self) -> int | None:
        if self.change is None or self.call.stated:
            return self.call.cost_nano
        return self.change.new_cost_nano


@dataclass(frozen=True, slots=True)
class Repriced:
    """One change in the life of a call."""

    at_s: int
    old_cost_nano_usd: int | None
    old_source: str | None  # of the price; None: unpriced
    new_cost_nano_usd: int | None
    new_source: str | None
    stated: bool


class Seller(NamedTuple):
    """Where the prices of a provider's models are found: its catalogue, and what a deployment is billed as."""

    catalogue: str
    deployments: Mapping[str, str] = {}


@dataclass(slots=True)
class PriceBook:
    """The prices in force, by provider and model: looked up once a run."""

    sellers: Mapping[str, Seller]  # by provider
    _found: dict[tuple[str, str], tuple[Price, ...]] = field(default_factory=dict)

    def price(self, tx: sqlite3.Connection, provider: str, model: str, at_s: int) -> Price | None:
        known = self._found.get((provider, model))
        if known is None:
            if len(self._found) >= PRICES_MAX:
                self._found.clear()
            # A provider that is no longer configured may still be known by its name.
            seller = self.sellers.get(provider, Seller(provider))
            sold_as = seller.deployments.get(model, model)
            known = self._found[provider, model] = prices.find(tx, provider, seller.catalogue, model, sold_as)
        return pick(known, at_s)


def revised(call: Booked, price: Price | None) -> Change | None:
    """What a call's figure becomes by this price; None: it stays. Nothing that has a price becomes unpriced, and what
    nobody bills (a refused request, a count of tokens) stays free."""
    if price is None or (call.cost_nano == 0 and call.price_id is None and call.own_price_id is None):
        return None
    if call.usage_source == "estimated" and call.price_id == price.id:
        return None  # all that was held may be booked: more than its usage alone
    change = Change(call, price.cost_nano_usd(call.usage, call.service_tier or "", call.started_at_s), price.id)
    return None if change.new_cost_nano == change.old_cost_nano else change


def look(store: Store, wanted: Wanted, book: PriceBook, *, after: int = -1) -> Iterator[list[Looked]]:
    """The calls in question, some at a time, the oldest first."""
    last = max(after, ids.at_or_after(wanted.since_s) - 1)
    while True:
        with store.read() as tx:
            page = _page(tx, wanted, last)
            looked = [Looked(one, revised(one, book.price(tx, *one[2:4], one.started_at_s))) for one in page]
        if looked:
            yield looked
        if len(page) < PAGE_CALLS:
            return
        last = page[-1].call_id


def reprice(
    path: Path,
    author: Author,
    wanted: Wanted,
    sellers: Mapping[str, Seller],
    *,
    default_zone: str,
    pause_s: float = PAUSE_S,
    tell: Callable[[Sequence[Looked]], None] = lambda _: None,
) -> int:
    """Works out the costs anew, and returns how many changed. Calls that others change meanwhile are left to them.

    A run of the same calls that was interrupted is continued; `tell` then hears of the rest only.
    """
    book = PriceBook(sellers)
    with closing(Store(path)) as store:
        with store.write() as tx:
            run_id, after = _begin(tx, author, wanted)
        steps = 0
        for looked in look(store, wanted, book, after=after):
            changes = [one.change for one in looked if one.change is not None]
            for first in range(0, len(changes), STEP_CALLS):
                step = changes[first : first + STEP_CALLS]
                with store.write() as tx:
                    _apply(tx, run_id, step, default_zone)
                    tx.execute("UPDATE repricings SET last_call_id = ? WHERE id = ?", (step[-1].call.call_id, run_id))
                steps += 1
                if steps % CHECKPOINT_STEPS == 0:
                    store.checkpoint()
                time.sleep(pause_s)
            tell(looked)
        with store.write() as tx:
            return _end(tx, author, run_id, wanted)


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
    tx.executemany("DELETE FROM repriced_calls WHERE call_id = ?", ((call_id,) for call_id in call_ids))


def _page(tx: sqlite3.Connection, wanted: Wanted, after: int) -> list[Booked]:
    of_model = ""
    parameters: dict[str, object] = {
        "after": after,
        "since_ms": wanted.since_s * 1000,
        "until_ms": (balances.FAR_S if wanted.until_s is None else wanted.until_s) * 1000,
        "most": PAGE_CALLS,
    }
    if wanted.model != EVERY_MODEL:
        of_model = "AND c.model_id IN (SELECT value FROM json_each(:models))"
        parameters["models"] = as_json(model_ids(tx, wanted.model))
    rows = tx.execute(
        f"""
        SELECT c.id, c.started_at_ms, m.provider, m.model, c.usage_source, c.cost_nano, c.price_id,
               c.own_cost_nano, c.own_price_id, tier.name, c.lineage_id, l.path, c.user_id, c.key_id, c.end_user_id,
               c.model_id, {", ".join(f"c.{name}" for name in USAGE_CLASSES)}
        FROM calls c
        JOIN models m ON m.id = c.model_id
        JOIN lineages l ON l.id = c.lineage_id
        LEFT JOIN names tier ON tier.id = c.service_tier_id
        WHERE c.id > :after AND c.started_at_ms >= :since_ms AND c.started_at_ms < :until_ms AND c.state = 'settled'
          AND (c.usage_source IS NOT NULL OR c.cost_nano IS NULL) {of_model}
        ORDER BY c.id LIMIT :most
        """,
        parameters,
    )
    facts = len(Booked._fields) - 1
    return [Booked._make((*row[:facts], Usage(*row[facts:]))) for row in rows]


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
    return run_id, -1


def _interrupted(tx: sqlite3.Connection, wanted: Wanted) -> tuple[int, int] | None:
    """The last run, if it was of the same calls and did not come to its end. Prices may have changed since another
    one: what it did is looked at again."""
    row = tx.execute(
        """
        SELECT id, last_call_id FROM repricings
        WHERE id = (SELECT max(id) FROM repricings) AND ended_at IS NULL
          AND since_at = ? AND until_at IS ? AND model_pattern = ?
        """,
        (wanted.since_s, wanted.until_s, wanted.model),
    ).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def _end(tx: sqlite3.Connection, author: Author, run_id: int, wanted: Wanted) -> int:
    tx.execute("UPDATE repricings SET ended_at = ? WHERE id = ?", (author.at_s, run_id))
    changed, old, new, own = tx.execute(
        """
        SELECT coalesce(sum(NOT stated), 0), coalesce(sum(iif(stated, 0, coalesce(old_cost_nano, 0))), 0),
               coalesce(sum(iif(stated, 0, coalesce(new_cost_nano, 0))), 0), coalesce(sum(stated), 0)
        FROM repriced_calls WHERE repricing_id = ?
        """,
        (run_id,),
    ).fetchone()
    before: dict[str, object] = {"cost_usd": usd_exact(old)}
    after: dict[str, object] = {"cost_usd": usd_exact(new), "calls": changed, "calls_stated_by_providers": own}
    after |= {"since": wanted.since_s, "until": wanted.until_s}
    audit.record(tx, author, "usage reprice", wanted.model or "all models", before=before, after=after)
    return int(changed + own)


def _apply(tx: sqlite3.Connection, run_id: int, changes: Sequence[Change], default_zone: str) -> None:
    """Calls, roll-ups, summaries and balances, all of them or none."""
    rollups: list[tuple[int, ...]] = []
    moved: Counter[balances.Row] = Counter()
    applying: dict[tuple[str, int, int], tuple[Limit, ...]] = {}
    for change in changes:
        call = change.call
        if not _rewrite(tx, change):
            continue  # it was corrected meanwhile, or repriced
        facts = (change.old_cost_nano, change.old_price_id, change.new_cost_nano, change.new_price_id, call.stated)
        tx.execute("INSERT INTO repriced_calls VALUES (?, ?, ?, ?, ?, ?, ?)", (call.call_id, run_id, *facts))
        if call.stated:
            continue
        more = change.new_cost_nano - (call.cost_nano or 0)
        rollups.append((*_rollup_key(tx, call), *_rollup_sums(-int(call.cost_nano is None), more)))
        principals = (call.path, call.user_id, call.key_id)
        if principals not in applying:
            lineage = [int(part) for part in call.path.split("/") if part]
            applying[principals] = limits.applying(
                tx, lineage=lineage, user_id=call.user_id, key_id=call.key_id, default_zone=default_zone
            )
        places = balances.places(
            [limit for limit in applying[principals] if limit.measure == "cost"],
            user_id=call.user_id,
            end_user_id=call.end_user_id,
            provider=call.provider,
            model=call.model,
            started_at_s=call.started_at_s,
        )
        for place in places:
            moved[place.row] += more
    if rollups:
        fold.amend(tx, rollups, default_zone)
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
