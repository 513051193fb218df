"""What becomes of a call's cost by the price that was in force when it started, from the usage kept with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from llmctl.domain.deployment import sold_as
from llmctl.domain.price import Price, pick
from llmctl.domain.usage import USAGE_CLASSES, Usage

from . import facts, ids, prices
from .database import Store
from .sql import as_json, run

PAGE_CALLS = 2_000  # read in one snapshot, without the lock
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
            billed = sold_as(seller.deployments, model)
            known = self._found[provider, model] = prices.find(tx, provider, seller.catalogue, model, billed)
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


def _page(tx: sqlite3.Connection, wanted: Wanted, after: int) -> list[Booked]:
    of_model = ""
    parameters: dict[str, object] = {
        "after": after,
        "since_ms": wanted.since_s * 1000,
        "until_ms": (facts.FAR_S if wanted.until_s is None else wanted.until_s) * 1000,
        "most": PAGE_CALLS,
    }
    if wanted.model != EVERY_MODEL:
        of_model = "AND c.model_id IN (SELECT value FROM json_each(:models))"
        parameters["models"] = as_json(run(tx, facts.model_ids(wanted.model)))
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
    columns = len(Booked._fields) - 1
    return [Booked._make((*row[:columns], Usage(*row[columns:]))) for row in rows]
