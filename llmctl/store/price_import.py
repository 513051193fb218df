"""A whole price list as all that is in force from its source: what it would change, and the change."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmctl.domain.errors import BadInput
from llmctl.domain.price import Price

from . import prices
from .price_rows import PriceRow, StoredRow, check
from .prices import Placed

ImportedSource = Literal["catalogue", "sandbox"]

_Identity = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """What an import did to the rows in force."""

    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One price that an import adds (`before is None`), changes, or takes away (`after is None`)."""

    before: Price | None
    after: Price | None

    @property
    def price(self) -> Price:
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of a list beside those in force from its source."""

    gone: Sequence[StoredRow]
    new: Sequence[Placed]
    changed: Sequence[tuple[StoredRow, Placed]]
    kept: int
    moved: Sequence[tuple[int, int]]  # of those, by id: their other place in the order of matching

    @property
    def is_same(self) -> bool:
        return not (self.gone or self.new or self.changed or self.moved)

    @property
    def summary(self) -> Summary:
        return Summary(len(self.new), len(self.changed), len(self.gone), self.kept)

    def differences(self) -> list[Difference]:
        """For people: by provider and model."""
        found = [Difference(prices.of_row(row), None) for row in self.gone]
        found += [Difference(None, _price_of(row)) for _, row in self.new]
        found += [Difference(prices.of_row(old), _price_of(row)) for old, (_, row) in self.changed]
        return sorted(found, key=lambda one: (one.price.provider, one.price.model, one.price.effective_from_s))


def compare(tx: sqlite3.Connection, source: ImportedSource, rows: Sequence[PriceRow]) -> Comparison:
    """What taking over this list would do. Raises BadInput for one that cannot be taken over."""
    wanted = _positioned(rows)
    for _, row in wanted.values():
        check(row)
    found = tx.execute(f"{prices.SELECT} WHERE superseded_at IS NULL AND source = ?", (source,))
    current = {_identity(row): row for row in (StoredRow(*found_row) for found_row in found)}
    places = dict(tx.execute("SELECT id, position FROM prices WHERE superseded_at IS NULL AND source = ?", (source,)))
    changed: list[tuple[StoredRow, Placed]] = []
    kept: dict[int, int] = {}
    for identity, (place, row) in wanted.items():
        if old := current.get(identity):
            if prices.contents(old) == prices.contents(row):
                kept[old.id] = place
            else:
                changed.append((old, (place, row)))
    return Comparison(
        gone=[row for identity, row in current.items() if identity not in wanted],
        new=[placed for identity, placed in wanted.items() if identity not in current],
        changed=changed,
        kept=len(kept),
        moved=[(row_id, place) for row_id, place in kept.items() if places[row_id] != place],
    )


def replace_source(tx: sqlite3.Connection, source: ImportedSource, rows: Sequence[PriceRow], *, now_s: int) -> Summary:
    """Compares, and takes over. Raises BadInput before it writes."""
    found = compare(tx, source, rows)
    take_over(tx, source, found, now_s=now_s)
    return found.summary


def take_over(tx: sqlite3.Connection, source: ImportedSource, found: Comparison, *, now_s: int) -> None:
    """Makes the rows that were compared all that is in force from that source, in this order (of two that match a
    model, the first wins). What stays the same keeps its id; an admin's prices are never touched."""
    assert tx.in_transaction
    if found.is_same:
        return
    prices.supersede(tx, [*(row.id for row in found.gone), *(old.id for old, _ in found.changed)], now_s)
    prices.insert(tx, source, [*found.new, *(placed for _, placed in found.changed)], now_s)
    tx.executemany("UPDATE prices SET position = ?2 WHERE id = ?1", found.moved)
    prices.bump(tx)


def _price_of(row: PriceRow) -> Price:
    """As it will be, but for its id."""
    terms, sizes = row.terms, (row.context_tokens, row.output_tokens_max)
    return prices.of_row(
        StoredRow(0, row.provider, row.model, row.match, "catalogue", row.effective_from_s, terms, *sizes, 0, None)
    )


def _positioned(rows: Sequence[PriceRow]) -> dict[_Identity, Placed]:
    """Each row with its place in the order of matching, which the dates of one model share."""
    places: dict[str, dict[tuple[str, str, str], int]] = {}
    positioned: dict[_Identity, Placed] = {}
    for row in rows:
        identity = _identity(row)
        if identity in positioned:
            raise BadInput(f"two prices of {row.provider}/{row.model} begin at the same time", hint="keep one of them")
        taken = places.setdefault(row.provider, {})
        positioned[identity] = (taken.setdefault(identity[:3], len(taken)), row)
    return positioned


def _identity(row: PriceRow | StoredRow) -> _Identity:
    return (row.provider, row.model, row.match, row.effective_from_s)
