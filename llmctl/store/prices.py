"""Prices in the database. Rows are never changed: a newer one supersedes, the old stays readable.

All functions work inside the caller's transaction; those that write assert that there is one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmctl.domain.errors import BadInput, StoreBroken
from llmctl.domain.price import Price, Rate

from . import price_choice
from .price_rows import PriceRow, StoredRow, check, decode, price_row

ImportedSource = Literal["catalogue", "sandbox"]

_Identity = tuple[str, str, str, int]
_Placed = tuple[int, PriceRow]  # a row and its place in the order of matching


@dataclass(frozen=True, slots=True)
class Summary:
    """What an import did to the rows in force."""

    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A price with its history, for the commands."""

    price: Price
    match: str  # the JSON clause that says which models it is for
    created_at_s: int
    superseded_at_s: int | None


_SELECT = """
    SELECT id, provider, model, match, source, effective_from, terms, context_tokens, output_tokens_max,
           created_at, superseded_at
    FROM prices
"""


def find(tx: sqlite3.Connection, provider: str, catalogue: str, model: str, sold_as: str = "") -> tuple[Price, ...]:
    """The prices in force for an upstream model of a configured provider, one per date; () = unpriced.

    An admin's price goes before the catalogue's: for this provider and exactly this model, for this provider
    by the longest pattern, the same two for any provider ("*"); then the catalogue named `catalogue` ("" =
    none), then the sandbox. What goes before replaces what comes after from its first date on; before that
    date, and for a context window or output maximum that it does not name, what comes after still holds.

    `sold_as`: the model that is billed under this name, a deployment's. An admin's price for it comes after
    one for `model`; in the catalogue it alone counts."""
    rows = [
        StoredRow(*row)
        for row in tx.execute(
            f"""
            {_SELECT}
            WHERE superseded_at IS NULL AND provider IN (?, ?, ?)
            ORDER BY position, effective_from, id
            """,
            (provider, catalogue or provider, price_choice.ANY_PROVIDER),
        )
    ]
    prices: list[Price] = []
    until_s: int | None = None  # the earliest date that is taken
    context_tokens = output_tokens_max = None
    for layer in price_choice.layers(rows, provider, catalogue, model, sold_as):
        found = [_price(row) for row in layer]
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
    row = tx.execute(f"{_SELECT} WHERE id = ?", (price_id,)).fetchone()
    return None if row is None else _price(StoredRow(*row))


def list_prices(
    tx: sqlite3.Connection, *, provider: str = "", model: str = "", source: str = "", superseded: bool = False
) -> list[Entry]:
    """Prices whose provider is this one and whose model contains this text, in any letter case; "" = all."""
    rows = tx.execute(
        f"""
        {_SELECT}
        WHERE (? OR superseded_at IS NULL)
          AND (? = '' OR lower(provider) = lower(?))
          AND instr(lower(model), lower(?)) > 0
          AND (? = '' OR source = ?)
        ORDER BY source, provider, model, effective_from, id
        """,
        (superseded, provider, provider, model, source, source),
    )
    entries = (StoredRow(*row) for row in rows)
    return [Entry(_price(row), row.match, row.created_at_s, row.superseded_at_s) for row in entries]


def set_price(
    tx: sqlite3.Connection,
    *,
    provider: str,
    model: str,
    rates: Mapping[str, int | Rate],
    context_tokens: int | None = None,
    output_tokens_max: int | None = None,
    effective_from_s: int = 0,
    now_s: int,
) -> tuple[Price | None, Price]:
    """An admin's price for a provider ("*" = any) and a model or a pattern. Returns (before, after), which
    are the same if nothing changed. It replaces the whole tariff: a meter that is not named is billed at its
    parent's rate. Raises BadInput."""
    assert tx.in_transaction
    row = price_row(
        provider,
        model,
        rates,
        effective_from_s=effective_from_s,
        context_tokens=context_tokens,
        output_tokens_max=output_tokens_max,
    )
    old = _admin_row(tx, provider, model, effective_from_s)
    before = None if old is None else _price(old)
    if old is not None and before is not None:
        if _contents(old) == _contents(row):
            return before, before
        _supersede(tx, [old.id], now_s)
    inserted = _insert(tx, "admin", [(0, row)], now_s)
    _bump(tx)
    after = get(tx, inserted)
    assert after is not None
    return before, after


def remove_price(
    tx: sqlite3.Connection, *, provider: str, model: str, effective_from_s: int = 0, now_s: int
) -> Price | None:
    """Takes an admin's price back, so that the catalogue's holds again. Returns what was taken back."""
    assert tx.in_transaction
    old = _admin_row(tx, provider, model, effective_from_s)
    if old is None:
        return None
    _supersede(tx, [old.id], now_s)
    _bump(tx)
    return _price(old)


def replace_source(tx: sqlite3.Connection, source: ImportedSource, rows: Sequence[PriceRow], *, now_s: int) -> Summary:
    """Makes these rows all that is in force from that source, in this order (of two that match a model, the
    first wins). What stays the same keeps its id; an admin's prices are never touched. Raises BadInput before
    it writes.
    """
    assert tx.in_transaction
    wanted = _positioned(rows)
    for _, row in wanted.values():
        check(row)
    found = tx.execute(f"{_SELECT} WHERE superseded_at IS NULL AND source = ?", (source,))
    current = {_identity(row): row for row in (StoredRow(*found_row) for found_row in found)}
    gone = [row.id for identity, row in current.items() if identity not in wanted]
    new = [placed for identity, placed in wanted.items() if identity not in current]
    changed: list[tuple[int, _Placed]] = []
    kept: list[tuple[int, _Placed]] = []
    for identity, placed in wanted.items():
        if old := current.get(identity):
            (kept if _contents(old) == _contents(placed[1]) else changed).append((old.id, placed))
    _supersede(tx, [*gone, *(old_id for old_id, _ in changed)], now_s)
    if inserts := [*new, *(placed for _, placed in changed)]:
        _insert(tx, source, inserts, now_s)
    moved = tx.executemany(
        "UPDATE prices SET position = ? WHERE id = ? AND position <> ?",
        [(position, kept_id, position) for kept_id, (position, _) in kept],
    ).rowcount
    if gone or inserts or moved > 0:
        _bump(tx)
    return Summary(added=len(new), changed=len(changed), removed=len(gone), unchanged=len(kept))


def _price(row: StoredRow) -> Price:
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


def _admin_row(tx: sqlite3.Connection, provider: str, model: str, effective_from_s: int) -> StoredRow | None:
    row = tx.execute(
        f"""
        {_SELECT}
        WHERE superseded_at IS NULL AND source = 'admin' AND provider = ? AND model = ? COLLATE NOCASE
          AND effective_from = ?
        """,
        (provider, model, effective_from_s),
    ).fetchone()
    return None if row is None else StoredRow(*row)


def _positioned(rows: Sequence[PriceRow]) -> dict[_Identity, _Placed]:
    """Each row with its place in the order of matching, which the dates of one model share."""
    places: dict[str, dict[tuple[str, str, str], int]] = {}
    positioned: dict[_Identity, _Placed] = {}
    for row in rows:
        identity = _identity(row)
        if identity in positioned:
            raise BadInput(f"two prices of {row.provider}/{row.model} begin at the same time", hint="keep one of them")
        taken = places.setdefault(row.provider, {})
        positioned[identity] = (taken.setdefault(identity[:3], len(taken)), row)
    return positioned


def _identity(row: PriceRow | StoredRow) -> _Identity:
    return (row.provider, row.model, row.match, row.effective_from_s)


def _contents(row: PriceRow | StoredRow) -> tuple[str, int | None, int | None]:
    return (row.terms, row.context_tokens, row.output_tokens_max)


def _insert(tx: sqlite3.Connection, source: str, placed: Iterable[_Placed], now_s: int) -> int:
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


def _supersede(tx: sqlite3.Connection, ids: Iterable[int], now_s: int) -> None:
    tx.executemany("UPDATE prices SET superseded_at = ? WHERE id = ?", [(now_s, price_id) for price_id in ids])


def _bump(tx: sqlite3.Connection) -> None:
    """Makes the daemon look before its next call."""
    tx.execute("UPDATE settings SET prices_version = prices_version + 1, settings_version = settings_version + 1")


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
