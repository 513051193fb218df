"""Strings that repeat with every call, kept once in tables of their own and known here by their ids."""

from __future__ import annotations

import re
import sqlite3
from typing import NamedTuple

CACHE_ENTRIES_MAX = 20_000
SHAPES_MAX = 4_096  # beyond it a provider puts changing strings into its usage: such objects are kept whole
NUMBER_MARK = "\x00"

_NUMBERS = re.compile(r"[0-9]+")  # signs and points stay in the shape
# By bytes: what is no digit as a space; and digits as what is in no text.
_DIGITS = bytes(byte if chr(byte).isdecimal() else ord(" ") for byte in range(256))
_DIGITS_HIDDEN = bytes(0xFF if chr(byte).isdecimal() else byte for byte in range(256))


class Kind(NamedTuple):
    """What a call has in common with many."""

    lineage_id: int
    model_id: int
    endpoint_id: int
    request_model_id: int


class Interned:
    """Ids by value, within the write transactions of one connection. `forget` after a rollback."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], int] = {}
        self._kinds: dict[tuple[tuple[int, ...], str, str, str, str, str], Kind] = {}
        self._shapes: dict[bytes, int] = {}  # by usage objects whose numbers are as long

    def forget(self) -> None:
        self._ids.clear()
        self._kinds.clear()
        self._shapes.clear()

    def kind(
        self,
        tx: sqlite3.Connection,
        group_ids: tuple[int, ...],
        provider: str,
        model: str,
        dialect: str,
        endpoint: str,
        request_model: str,
    ) -> Kind:
        """Of a call. `group_ids`: from the root to its user's group."""
        alike = (group_ids, provider, model, dialect, endpoint, request_model)
        kind = self._kinds.get(alike)
        if kind is None:
            if len(self._kinds) >= CACHE_ENTRIES_MAX:
                self._kinds.clear()
            kind = self._kinds[alike] = Kind(
                self.lineage(tx, group_ids),
                self.model(tx, provider, model),
                self.endpoint(tx, dialect, endpoint),
                self.name(tx, request_model),
            )
        return kind

    def known_name(self, tx: sqlite3.Connection, name: str) -> int | None:
        """The id of a name that has one."""
        known = self._ids.get(("name", name))
        if known is None:
            row = tx.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
            return row[0] if row else None
        return known

    def name(self, tx: sqlite3.Connection, name: str) -> int:
        return self._id(
            tx,
            ("name", name),
            "SELECT id FROM names WHERE name = ?",
            "INSERT INTO names (name) VALUES (?) RETURNING id",
        )

    def model(self, tx: sqlite3.Connection, provider: str, model: str) -> int:
        return self._id(
            tx,
            ("model", provider, model),
            "SELECT id FROM models WHERE provider = ? AND model = ?",
            "INSERT INTO models (provider, model) VALUES (?, ?) RETURNING id",
        )

    def endpoint(self, tx: sqlite3.Connection, dialect: str, endpoint: str) -> int:
        return self._id(
            tx,
            ("endpoint", dialect, endpoint),
            "SELECT id FROM endpoints WHERE dialect = ? AND endpoint = ?",
            "INSERT INTO endpoints (dialect, endpoint) VALUES (?, ?) RETURNING id",
        )

    def lineage(self, tx: sqlite3.Connection, group_ids: tuple[int, ...]) -> int:
        """`group_ids`: from the root to a user's group."""
        path = "/" + "".join(f"{group_id}/" for group_id in group_ids)  # `/` is the organisation itself
        known = self._ids.get(("lineage", path))
        if known is not None:
            return known
        lineage_id = self._id(
            tx,
            ("lineage", path),
            "SELECT id FROM lineages WHERE path = ?",
            "INSERT INTO lineages (path) VALUES (?) RETURNING id",
        )
        tx.executemany(
            "INSERT OR IGNORE INTO lineage_groups (lineage_id, group_id) VALUES (?, ?)",
            [(lineage_id, group_id) for group_id in group_ids],
        )
        return lineage_id

    def usage(self, tx: sqlite3.Connection, raw: str) -> tuple[int | None, str | None]:
        """(shape id, values): the raw usage object as a shape that repeats and the numbers that do not."""
        if not raw:
            return None, None
        text = raw.encode(errors="surrogatepass")
        alike = text.translate(_DIGITS_HIDDEN)
        shape_id = self._shapes.get(alike)
        if shape_id is None:
            shape_id = self._shape(tx, raw)
            if shape_id is None:
                return None, raw
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            self._shapes[alike] = shape_id
        return shape_id, b" ".join(text.translate(_DIGITS).split()).decode()

    def _shape(self, tx: sqlite3.Connection, raw: str) -> int | None:
        """Found by the numbers' places alone, which takes much longer than by their places and lengths."""
        shape = _NUMBERS.sub(NUMBER_MARK, raw)
        key = ("shape", shape)
        if NUMBER_MARK in raw or (key not in self._ids and self._too_many_shapes(tx, shape)):
            return None
        return self._id(
            tx,
            key,
            "SELECT id FROM usage_shapes WHERE shape = ?",
            "INSERT INTO usage_shapes (shape) VALUES (?) RETURNING id",
        )

    def _too_many_shapes(self, tx: sqlite3.Connection, shape: str) -> bool:
        if tx.execute("SELECT 1 FROM usage_shapes WHERE shape = ?", (shape,)).fetchone():
            return False
        (shapes,) = tx.execute("SELECT count(*) FROM usage_shapes").fetchone()
        return bool(shapes >= SHAPES_MAX)

    def _id(self, tx: sqlite3.Connection, key: tuple[str, ...], select: str, insert: str) -> int:
        known = self._ids.get(key)
        if known is not None:
            return known
        row = tx.execute(select, key[1:]).fetchone() or tx.execute(insert, key[1:]).fetchone()
        found: int = row[0]
        if len(self._ids) >= CACHE_ENTRIES_MAX:
            self._ids.clear()
        self._ids[key] = found
        return found


def raw_usage(shape: str | None, values: str | None) -> str:
    """The provider's usage object as it came, from what `Interned.usage` stored."""
    if values is None:
        return ""
    if shape is None:
        return values
    numbers = iter(values.split(" "))
    return re.sub(NUMBER_MARK, lambda _: next(numbers), shape)
