"""`usage -o focus`: charges for chargeback, as CSV with the columns of FOCUS 1.4 (focus.finops.org), one row a meter.

A row is what one key used of one model's tokens of one kind on one day of the group that is reported. The kinds are
disjoint, so that quantities add up to the tokens and costs to the cost, to the nano-dollar. Where the price changed in
the day, there is a row for each. A call's cost is not kept by kind: a day's is divided as list prices would divide it,
which differs from the provider's bill where a model has steps, tiers or fees. What is not in FOCUS is in columns that
begin with `x_`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from llmctl.domain.money import PRICE_UNITS, usd_exact, usd_plain
from llmctl.domain.price import Price
from llmctl.domain.window import Window, window_end, window_start
from llmctl.store import usage as store
from llmctl.store.filters import Filters
from llmctl.store.usage import By, Row, Sums

from .focus_prices import BY, Priced
from .render import Column, write_csv
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App
    from .filters import Found

_WINDOWS: tuple[Window, ...] = ("day", "month")
METERS = {
    "input": "Input Tokens",
    "cache_read": "Cache Read Tokens",
    "cache_write": "Cache Write Tokens",
    "output": "Output Tokens",
    "request": "Requests",  # of calls that cost something and used no tokens
}


@dataclass(frozen=True, slots=True)
class Charge:
    """One meter of a row of the report, at one price. `rate`: nano-USD per million units, None: none is known."""

    row: Row
    meter: str
    units: int
    cost_nano_usd: int
    rate: int | None
    price_id: int | None
    is_first: bool  # of its row and price: it alone carries their counts, so that these add up

    def at(self, by: By) -> str:
        return self.row.cells[BY.index(by)].text or ""

    def id_of(self, by: By) -> str | int | None:
        cell = self.row.cells[BY.index(by)]
        return cell.public_id or cell.id

    @property
    def start_s(self) -> int:
        start_s = self.row.cells[BY.index("day")].start_s
        assert start_s is not None
        return start_s

    @property
    def list_nano_usd(self) -> int:
        return self.cost_nano_usd if self.rate is None else -(-self.units * self.rate // PRICE_UNITS)

    @property
    def sku(self) -> str:
        return f"{self.at('provider')}/{self.at('model')}/{self.meter}"


def print_focus(run: App, tx: Tx, found: Found, filters: Filters) -> None:
    rows = store.report(tx, filters, BY, found.zone)
    write_csv(run.out.stdout, _columns(found), charges(rows, Priced(run, tx, filters, found.zone)))


def charges(rows: Sequence[Row], priced: Priced) -> Iterator[Charge]:
    for row in rows:
        for part, price in priced.parts(row):
            yield from _of_part(part, price)


def _of_part(row: Row, price: Price | None) -> Iterator[Charge]:
    units = _units(row.sums)
    rates = {meter: _rate(price, meter) for meter in units}
    weights = [count * (rates[meter] or 0) for meter, count in units.items()]
    costs = divided(row.sums.cost_nano_usd, weights if any(weights) else list(units.values()))
    for place, (meter, cost) in enumerate(zip(units, costs, strict=True)):
        rate = rates[meter]
        price_id = price.id if price is not None and rate is not None else None
        yield Charge(row, meter, units[meter], cost, rate, price_id, is_first=place == 0)


def _units(sums: Sums) -> dict[str, int]:
    """The tokens in disjoint kinds; providers have reported parts larger than the whole."""
    written = min(sums.cache_write_tokens, sums.input_tokens)
    read = min(sums.cache_read_tokens, sums.input_tokens - written)
    tokens = {
        "input": sums.input_tokens - written - read,
        "cache_read": read,
        "cache_write": written,
        "output": sums.output_tokens,
    }
    used = {meter: count for meter, count in tokens.items() if count}
    return used or {"request": sums.calls or sums.errors}  # a failed one is among the calls, unless it was released


def divided(whole: int, weights: Sequence[int]) -> list[int]:
    """Shares by weight that add up to the whole: what rounding leaves goes to the heaviest."""
    together = sum(weights)
    shares = [whole * weight // together if together else 0 for weight in weights]
    shares[weights.index(max(weights))] += whole - sum(shares)
    return shares


def _rate(price: Price | None, meter: str) -> int | None:
    rate = price.tariff.find(meter) if price is not None and meter != "request" else None
    return None if rate is None else rate.base


def _columns(found: Found) -> list[Column[Charge]]:
    """In alphabetical order, as the specification has them; ours at the end."""

    @cache
    def times_of(day_s: int) -> tuple[str | None, ...]:
        """Of a day: its start and end, those of its month."""
        ends = [window_end(window, found.zone, day_s) for window in _WINDOWS]
        return tuple(map(rfc3339, (day_s, ends[0], window_start("month", found.zone, day_s), ends[1])))

    def cost(charge: Charge) -> str:
        return usd_exact(charge.cost_nano_usd)

    def counted(name: str) -> Callable[[Charge], object]:
        return lambda charge: getattr(charge.row.sums, name) if charge.is_first else 0

    values: dict[str, Callable[[Charge], object]] = {
        "BilledCost": cost,
        "BillingAccountId": lambda charge: charge.at("provider"),
        "BillingAccountName": lambda charge: charge.at("provider"),
        "BillingCurrency": lambda _: "USD",
        "BillingPeriodEnd": lambda charge: times_of(charge.start_s)[3],
        "BillingPeriodStart": lambda charge: times_of(charge.start_s)[2],
        "ChargeCategory": lambda _: "Usage",
        "ChargeClass": lambda _: None,
        "ChargeDescription": lambda charge: f"{charge.at('model')}, {METERS[charge.meter].lower()}",
        "ChargeFrequency": lambda _: "Usage-Based",
        "ChargePeriodEnd": lambda charge: times_of(charge.start_s)[1],
        "ChargePeriodStart": lambda charge: times_of(charge.start_s)[0],
        "ConsumedQuantity": lambda charge: charge.units,
        "ConsumedUnit": lambda charge: "Requests" if charge.meter == "request" else "Tokens",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "HostProviderName": lambda charge: charge.at("provider"),
        "InvoiceIssuerName": lambda charge: charge.at("provider"),
        "ListCost": lambda charge: usd_exact(charge.list_nano_usd),
        "ListUnitPrice": lambda charge: None if charge.rate is None else usd_plain(charge.rate),
        "PricingQuantity": lambda charge: charge.units if charge.meter == "request" else _millions(charge.units),
        "PricingUnit": lambda charge: "Requests" if charge.meter == "request" else "1000000 Tokens",
        "ServiceCategory": lambda _: "AI and Machine Learning",
        "ServiceName": lambda charge: charge.at("provider"),
        "ServiceProviderName": lambda charge: charge.at("provider"),
        "ServiceSubcategory": lambda _: "Generative AI",
        "SkuId": lambda charge: charge.sku,
        "SkuMeter": lambda charge: METERS[charge.meter],
        "SkuPriceId": lambda charge: None if charge.price_id is None else f"{charge.sku}/{charge.price_id}",
        "SubAccountId": lambda charge: charge.at("group") or None,
        "SubAccountName": lambda charge: charge.at("group") or None,
        "Tags": lambda charge: json.dumps({"user": charge.at("user"), "key": charge.at("key")}),
        "x_GroupId": lambda charge: charge.id_of("group"),
        "x_User": lambda charge: charge.at("user"),
        "x_UserId": lambda charge: charge.id_of("user"),
        "x_Key": lambda charge: charge.at("key"),
        "x_KeyId": lambda charge: charge.id_of("key"),
        "x_Model": lambda charge: charge.at("model"),
        "x_Calls": counted("calls"),
        "x_FailedCalls": counted("errors"),
        "x_EstimatedCalls": counted("estimated_calls"),
        "x_UnpricedCalls": counted("unpriced_calls"),
    }
    return [Column(name, value) for name, value in values.items()]


def _millions(units: int) -> str:
    whole, rest = divmod(units, PRICE_UNITS)
    return f"{whole}.{rest:06d}"
