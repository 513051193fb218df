"""Prices in the database. Rows are never changed: a newer one supersedes, the old stays readable.

All functions work inside the caller's transaction; those that write assert that there is one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from llmctl.domain.errors import StoreBroken
from llmctl.domain.price import Price

from . import price_choice
from .names import column
from .price_rows import PriceRow, StoredRow, decode

AdminSource = Literal["admin", "ceiling"]  # a ceiling is for models that have no price: marked, and last

Placed = tuple[int, PriceRow]  # a row and its place in the order of matching


@dataclass(frozen=True, slots=True)
class Entry:
    """A price with its history, for the commands."""

    price: Price
    match: str  # the JSON clause that says which models it is for
    created_at_s: int
    superseded_at_s: int | None


SELECT = """
    SELECT id, provider, model, match, source, effective_from, terms, context_tokens, output_tokens_max,
           created_at, superseded_at
    FROM prices
"""


def find(
    tx: sqlite3.Connection, provider: str, catalogue: str, model: str, sold_as: str = "", *, as_of_s: int | None = None
) -> tuple[Price, ...]:
    """The prices in force for an upstream model of a configured provider, one per date; () = unpriced.

    An admin's price goes before the catalogue's: for this provider and exactly this model, for this provider
    by the longest pattern, the same two for any provider ("*"); then the catalogue named `catalogue` ("" =
    none), then the sandbox; then, in the admin's order, a ceiling for what has no price. What goes before
    replaces what comes after from its first date on; before that date, and for a context window or output
    maximum that it does not name, what comes after still holds.

    `sold_as`: the model that is billed under this name, a deployment's. An admin's price for it comes after
    one for `model`; in the catalogue it alone counts. `as_of_s`: as it was then."""
    rows = [
        StoredRow(*row)
        for row in tx.execute(
            f"""
            {SELECT}
            WHERE provider IN (?1, ?2, ?3)
              AND iif(?4 IS NULL, superseded_at IS NULL, created_at <= ?4 AND coalesce(superseded_at > ?4, true))
            ORDER BY position, effective_from, id
            """,
            (provider, catalogue or provider, price_choice.ANY_PROVIDER, as_of_s),
        )
    ]
    prices: list[Price] = []
    until_s: int | None = None  # the earliest date that is taken
    context_tokens = output_tokens_max = None
    for layer in price_choice.layers(rows, provider, catalogue, model, sold_as):
        found = [of_row(row) for row in layer]
        # The newest row that says it knows best, also for dates before.
        context_tokens = _first((context_tokens, *(price.context_tokens for price in reversed(found))))
        output_tokens_max = _first((output_tokens_max, *(price.output_tokens_max for price in reversed(found))))
        prices += [price for price in found if until_s is None or price.effective_from_s < until_s]
        starts = [price.effective_from_s for price in found]
        until_s = min(starts if until_s is None else [until_s, *starts], default=until_s)
    return tuple(
        replace(
            price,
            context_tokens=context_tokens if price.context_tokens is None else price.context_tokens,
            output_tokens_max=output_tokens_max if price.output_tokens_max is None else price.output_tokens_max,
        )
        for price in prices
    )


def get(tx: sqlite3.Connection, price_id: int) -> Price | None:
    """Any price that ever was, also a superseded one: calls keep the id of theirs."""
    row = tx.execute(f"{SELECT} WHERE id = ?", (price_id,)).fetchone()
    return None if row is None else of_row(StoredRow(*row))


def list_prices(
    tx: sqlite3.Connection, *, provider: str = "", model: str = "", source: str = "", superseded: bool = False
) -> list[Entry]:
    """Prices whose provider is this one and whose model contains this text, in any letter case; "" = all."""
    rows = tx.execute(
        f"""
        {SELECT}
        WHERE (? OR superseded_at IS NULL)
          AND (? = '' OR lower(provider) = lower(?))
          AND instr(lower(model), lower(?)) > 0
          AND (? = '' OR source = ?)
        ORDER BY source, provider, model, effective_from, id
        """,
        (superseded, provider, provider, model, source, source),
    )
    entries = (StoredRow(*row) for row in rows)
    return [Entry(of_row(row), row.match, row.created_at_s, row.superseded_at_s) for row in entries]


def current(tx: sqlite3.Connection, catalogues: Mapping[str, str], *, model: str = "", now_s: int) -> list[Price]:
    """Of `list_prices` those that are in force for a model of that name, and those that will be. `catalogues`: by
    configured provider, what its models are priced by."""
    entries = list_prices(tx, model=model)
    own = list_prices(tx, source="admin")
    begun = {_series(one): one.price.effective_from_s for one in entries if one.price.effective_from_s <= now_s}
    return [
        one.price
        for one in entries
        if one.price.effective_from_s >= begun.get(_series(one), 0)
        and not _is_overridden(one.price, own, catalogues, now_s)
    ]


def _series(entry: Entry) -> tuple[str, str, str, str]:
    """What is alike in prices that follow one another."""
    return entry.price.source, entry.price.provider, entry.price.model, entry.match


def _is_overridden(price: Price, own: Sequence[Entry], catalogues: Mapping[str, str], now_s: int) -> bool:
    """Whether, with every provider that sells at it, an admin's price goes before it (see `find`)."""
    if price.source in get_args(AdminSource):
        return False
    for seller in [name for name, catalogue in catalogues.items() if price.provider in (name, catalogue)] or [""]:
        owners = (seller or price.provider, price_choice.ANY_PROVIDER)
        fitting = (
            one.price for one in own if one.price.provider in owners and price_choice.fits(one.match, price.model)
        )
        first_s = min((one.effective_from_s for one in fitting), default=None)
        if first_s is None or price.effective_from_s < first_s > now_s:
            return False
    return True


def put(tx: sqlite3.Connection, row: PriceRow, source: AdminSource, *, now_s: int) -> tuple[Price | None, Price]:
    """An admin's price; one of the same provider, name and date is superseded. Returns (before, after), which are the
    same if nothing changed."""
    assert tx.in_transaction
    old = _admin_row(tx, row, source)
    before = None if old is None else of_row(old)
    if old is not None and before is not None:
        if contents(old) == contents(row):
            return before, before
        supersede(tx, [old.id], now_s)
    inserted = insert(tx, source, [(0, row)], now_s)
    bump(tx)
    after = get(tx, inserted)
    assert after is not None
    return before, after


def admin_prices(tx: sqlite3.Connection, provider: str, model: str, source: AdminSource = "admin") -> list[Price]:
    """An admin's own prices in force for exactly this name or pattern, one per date, the oldest first."""
    rows = tx.execute(
        f"""
        {SELECT}
        WHERE superseded_at IS NULL AND source = ? AND provider = ? AND model = ? COLLATE NOCASE
        ORDER BY effective_from
        """,
        (source, provider, model),
    )
    return [of_row(StoredRow(*row)) for row in rows]


def own_providers(tx: sqlite3.Connection) -> set[str]:
    """Those with prices that are not the catalogue's."""
    return set(column(tx, "SELECT DISTINCT provider FROM prices WHERE source <> 'catalogue'"))


def remove_price(tx: sqlite3.Connection, price: Price, *, now_s: int) -> None:
    """Takes an admin's price back, so that the catalogue's holds again."""
    assert tx.in_transaction and price.source in get_args(AdminSource)
    supersede(tx, [price.id], now_s)
    bump(tx)


def of_row(row: StoredRow) -> Price:
    """Raises StoreBroken."""
    try:
        terms = decode(row.terms)
    except ValueError as error:
        raise StoreBroken(f"price {row.id} in the database is damaged: {error}", hint="llmctl price sync") from None
    return Price(
        id=row.id,
        provider=row.provider,
        model=row.model,
        source=row.source,
        effective_from_s=row.effective_from_s,
        tariff=terms.tariff,
        tiers=terms.tiers,
        context_tokens=row.context_tokens,
        output_tokens_max=row.output_tokens_max,
        hours=terms.hours,
        unmetered=terms.unmetered,
    )


def _admin_row(tx: sqlite3.Connection, wanted: PriceRow, source: AdminSource) -> StoredRow | None:
    row = tx.execute(
        f"""
        {SELECT}
        WHERE superseded_at IS NULL AND source = ? AND provider = ? AND model = ? COLLATE NOCASE
          AND effective_from = ?
        """,
        (source, wanted.provider, wanted.model, wanted.effective_from_s),
    ).fetchone()
    return None if row is None else StoredRow(*row)


def contents(row: PriceRow | StoredRow) -> tuple[str, int | None, int | None]:
    return (row.terms, row.context_tokens, row.output_tokens_max)


def insert(tx: sqlite3.Connection, source: str, placed: Iterable[Placed], now_s: int) -> int:
    """Writes rows; returns the id of the last."""
    last_id = 0
    for position, row in placed:
        cursor = tx.execute(
            """
            INSERT INTO prices (provider, model, match, source, effective_from, terms, context_tokens,
                                output_tokens_max, position, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                row.provider,
                row.model,
                row.match,
                source,
                row.effective_from_s,
                row.terms,
                row.context_tokens,
                row.output_tokens_max,
                position,
                now_s,
            ),
        )
        assert cursor.lastrowid is not None
        last_id = cursor.lastrowid
    return last_id


def supersede(tx: sqlite3.Connection, ids: Iterable[int], now_s: int) -> None:
    tx.executemany("UPDATE prices SET superseded_at = ? WHERE id = ?", [(now_s, price_id) for price_id in ids])


def bump(tx: sqlite3.Connection) -> None:
    """Makes the daemon look before its next call."""
    tx.execute("UPDATE settings SET prices_version = prices_version + 1, settings_version = settings_version + 1")


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
