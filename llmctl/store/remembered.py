"""What the ledger's last transaction left in the file: it is still there while nobody else has written, which SQLite
tells for a fraction of what reading it again costs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from llmctl.domain.limit import Standing

from . import balances
from .balances import Place, Row

BALANCES_MAX = 10_000  # of users who are active at once, with all their limits


class State(NamedTuple):
    """Of the file, as each batch needs it."""

    settings_version: int
    folded_bucket: int  # up to this one of the roll-ups, the summaries may hold them too
    zone: str


class Remembered:
    """Of one connection. `look` begins each transaction that uses it, `committed` follows it; what was seen or changed
    in one that failed, or by another way than this, is forgotten."""

    def __init__(self) -> None:
        self.state: State | None = None
        self._balances: dict[Row, tuple[int, int]] = {}  # settled and held
        self._others = 0  # changes when another connection has changed the file
        self._left: tuple[int, int] | None = None  # that, and how many rows this connection has changed

    def look(self, tx: sqlite3.Connection) -> None:
        (self._others,) = tx.execute("PRAGMA data_version").fetchone()
        if self._left != (self._others, tx.total_changes):
            self.state = None
            self._balances.clear()
        self._left = None

    def committed(self, connection: sqlite3.Connection) -> None:
        self._left = (self._others, connection.total_changes)

    def standings(self, tx: sqlite3.Connection, places: Mapping[Row, Place]) -> dict[Row, Standing]:
        """The balances of these places that have a row."""
        found, unknown = {}, {}
        for row, place in places.items():
            known = self._balances.get(row)
            if known is None:
                unknown[row] = place
            else:
                found[row] = balances.standing(place, *known)
        return found | balances.existing(tx, unknown) if unknown else found

    def keep(self, standings: Mapping[Row, Standing]) -> None:
        """What was written of them."""
        if len(self._balances) >= BALANCES_MAX:
            self._balances.clear()
        for row, one in standings.items():
            self._balances[row] = one.own
