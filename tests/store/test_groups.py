from __future__ import annotations

import pytest

from llmctl.domain.errors import AlreadyExists, BadInput, NotFound
from llmctl.store import groups
from llmctl.store.audit import Author
from llmctl.store.database import Store


def add(store: Store, author: Author, name: str, parent: str | None = None, timezone: str | None = None) -> int:
    with store.write() as tx:
        return groups.add(tx, author, name, parent=parent, timezone=timezone).id


def test_names_are_unique_without_regard_to_case(store: Store, author: Author) -> None:
    add(store, author, "Sales")
    with pytest.raises(AlreadyExists):
        add(store, author, "sales")
    with store.read() as tx:
        assert groups.get(tx, "SALES").name == "Sales"


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "x" * 65, "a\n", "$(rm)"])
def test_names_that_need_quoting_are_refused(store: Store, author: Author, name: str) -> None:
    with pytest.raises(BadInput):
        add(store, author, name)


def test_a_lineage_goes_from_the_root_to_the_group(store: Store, author: Author) -> None:
    top, middle, leaf = (add(store, author, name, parent) for name, parent in [("a", None), ("b", "a"), ("c", "b")])
    with store.read() as tx:
        assert groups.lineage(tx, leaf) == (top, middle, leaf)
        assert groups.lineage(tx, None) == ()


def test_a_zone_is_the_groups_own_or_of_the_nearest_above_or_the_default(store: Store, author: Author) -> None:
    top = add(store, author, "a", timezone="Europe/Berlin")
    middle = add(store, author, "b", "a")
    leaf = add(store, author, "c", "b", timezone="Asia/Kolkata")
    with store.read() as tx:
        assert [groups.zone(tx, one, "UTC") for one in (top, middle, leaf, None)] == [
            "Europe/Berlin",
            "Europe/Berlin",
            "Asia/Kolkata",
            "UTC",
        ]


def test_an_unknown_parent_or_zone_is_refused_and_nothing_is_added(store: Store, author: Author) -> None:
    with pytest.raises(NotFound, match='no group "b"'):
        add(store, author, "a", "b")
    with pytest.raises(BadInput, match="unknown time zone"):
        add(store, author, "a", timezone="Mars/Base")
    with store.read() as tx:
        assert groups.listing(tx) == []


def test_groups_nest_only_so_deep(store: Store, author: Author) -> None:
    parent = None
    for depth in range(groups.DEPTH_MAX):
        add(store, author, f"g{depth}", parent)
        parent = f"g{depth}"
    with pytest.raises(BadInput, match="at most 16"):
        add(store, author, "deeper", parent)


def test_each_addition_is_audited_and_bumps_the_settings(store: Store, author: Author) -> None:
    (before,) = store.connection.execute("SELECT settings_version FROM settings").fetchone()
    add(store, author, "sales")
    (after,) = store.connection.execute("SELECT settings_version FROM settings").fetchone()
    assert after == before + 1
    assert store.connection.execute("SELECT actor, action, subject FROM audit").fetchall() == [
        ("tester", "group add", "sales")
    ]
