from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from hypothesis import given
from hypothesis import strategies as st

from llmctl.store.interned import Interned, raw_usage

ALIKE = ["1", "0", "\x00", "\xff", "٣", "²", "\ud800", "1 2", "1 \x00", "\x00 2", "٣ 2", "-1", "1.5e-3"]
USAGE = st.one_of(st.sampled_from(ALIKE), st.text(st.sampled_from('{}":, 0123456789-.e\x00'), max_size=24))


@contextmanager
def interning() -> Iterator[tuple[sqlite3.Connection, Interned]]:
    with closing(sqlite3.connect(":memory:")) as tx:
        tx.execute("CREATE TABLE usage_shapes (id INTEGER PRIMARY KEY, shape TEXT NOT NULL UNIQUE)")
        yield tx, Interned()


@given(st.lists(USAGE, min_size=1, max_size=12))
def test_any_usage_object_is_kept_byte_for_byte(raws: list[str]) -> None:
    with interning() as (tx, interned):
        for raw in [*raws, *raws]:
            try:
                shape_id, values = interned.usage(tx, raw)
            except UnicodeEncodeError:  # SQLite takes no lone surrogates: the ledger books such a call without it
                assert "\ud800" in raw
                continue
            (shape,) = tx.execute("SELECT (SELECT shape FROM usage_shapes WHERE id = ?)", (shape_id,)).fetchone()
            assert raw_usage(shape, values) == raw


def test_objects_that_differ_in_numbers_alone_share_a_shape() -> None:
    with interning() as (tx, interned):
        for raw, values in (
            ('{"a": 1, "b": 22}', "1 22"),
            ('{"a": 333, "b": 4}', "333 4"),
            ('{"a": 5, "b": 66}', "5 66"),
        ):
            assert interned.usage(tx, raw) == (1, values)
