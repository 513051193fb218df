"""At which list price the calls of a day were: one price for most days, several where it changed in between.

Roll-ups do not know prices, so a day's is looked up in the history. Where more than one was in force, and where calls
were repriced, the single calls tell; if they are pruned, the price of such a day is not known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmctl.domain.price import Price, pick
from llmctl.domain.window import window_end
from llmctl.store import price_history, prices
from llmctl.store import usage as store
from llmctl.store.filters import Filters
from llmctl.store.usage import By, Cell, Row, Sums

from . import price_names

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from llmctl.store.database import Tx

    from .context import App

BY: list[By] = ["group", "user", "key", "provider", "model", "day"]

_Model = tuple[str, str]  # provider, model
_Parts = dict[tuple[Cell, ...], dict[int | None, Sums]]


class Priced:
    """The rows of a report by BY, each in as many parts as its calls had prices."""

    def __init__(self, run: App, tx: Tx, filters: Filters, zone: ZoneInfo) -> None:
        self._run = run
        self._tx = tx
        self._filters = filters
        self._zone = zone
        self._changes: dict[_Model, list[int]] = {}
        self._in_force: dict[tuple[_Model, int], Price | None] = {}
        self._by_id: dict[int, Price | None] = {}
        self._days: dict[int, _Parts] = {}

    def parts(self, row: Row) -> Iterator[tuple[Row, Price | None]]:
        provider, model = (row.cells[BY.index(by)].text or "" for by in ("provider", "model"))
        day_s = row.cells[BY.index("day")].start_s
        assert day_s is not None
        end_s = window_end("day", self._zone, day_s)
        assert end_s is not None
        possible = self._possible((provider, model), day_s, end_s)
        if len(possible) <= 1:
            yield row, next(iter(possible.values()), None)
            return
        found = self._booked(day_s, end_s).get(row.cells, {})
        if store.total([Row(row.cells, sums) for sums in found.values()]) != row.sums:
            yield row, None
            return
        for price_id, sums in _without_empty(found).items():
            yield Row(row.cells, sums), None if price_id is None else self._price(price_id)

    def _possible(self, model: _Model, day_s: int, end_s: int) -> dict[int, Price]:
        """The prices that calls of this day may be booked at, by id; of unpriced ones, what they are worth by now."""
        if model not in self._changes:
            provider, name = model
            names = {name, price_names.sold_as(self._run, provider, name)}
            catalogue = price_names.catalogue_of(self._run, provider)
            self._changes[model] = price_history.changes(self._tx, provider, catalogue, names)
        changes = [at_s for at_s in self._changes[model] if day_s < at_s < end_s]
        found = [self._at(model, at_s) for at_s in (day_s, *changes)]
        if not any(found) or price_history.repriced(self._tx, day_s, end_s):
            found.append(self._now(model, day_s))
        return {price.id: price for price in found if price is not None}

    def _at(self, model: _Model, at_s: int) -> Price | None:
        """What was in force at a moment: the same from one change to the next."""
        place = (model, bisect_right(self._changes[model], at_s))
        if place not in self._in_force:
            known = price_names.find(self._run, self._tx, *model, as_of_s=at_s)
            self._in_force[place] = pick(known, at_s)
        return self._in_force[place]

    def _now(self, model: _Model, at_s: int) -> Price | None:
        return pick(price_names.find(self._run, self._tx, *model), at_s)

    def _booked(self, day_s: int, end_s: int) -> _Parts:
        if day_s not in self._days:
            since_s, until_s = max(day_s, self._filters.since_s), min(end_s, self._filters.until_s)
            which = self._filters._replace(since_s=since_s, until_s=until_s)
            self._days[day_s] = store.by_price(self._tx, which, BY, self._zone)
        return self._days[day_s]

    def _price(self, price_id: int) -> Price | None:
        if price_id not in self._by_id:
            self._by_id[price_id] = prices.get(self._tx, price_id)
        return self._by_id[price_id]


def _without_empty(found: dict[int | None, Sums]) -> dict[int | None, Sums]:
    """What failed has neither tokens nor a cost, and is no charge of its own."""
    charged = {
        price_id: sums
        for price_id, sums in found.items()
        if sums.input_tokens or sums.output_tokens or sums.cost_nano_usd
    }
    if not charged:
        return found
    first = next(iter(charged.values()))
    for price_id, sums in found.items():
        if price_id not in charged:
            first.add(sums.amounts)
    return charged
