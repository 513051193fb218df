from __future__ import annotations

import pytest

from llmctl.domain.errors import NotFound
from llmctl.domain.scope import ORGANISATION
from llmctl.store import groups, limits, scopes, users
from llmctl.store.audit import Author
from llmctl.store.database import Store
from llmctl.store.limits import LimitSet


@pytest.fixture(autouse=True)
def tree(store: Store, author: Author) -> None:
    with store.write() as tx:
        groups.add(tx, author, "sales", parent=None, timezone="Europe/Berlin")
        groups.add(tx, author, "emea", parent="sales", timezone=None)
        users.add(tx, author, "alice", group="emea", email=None)
        users.add(tx, author, "bob", group=None, email=None)


def put(store: Store, author: Author, amount: int, scope: str = "", **more: object) -> LimitSet:
    with store.write() as tx:
        kind, _, name = scope.partition(" ")
        find = {"group": scopes.of_group, "user": scopes.of_user}
        where = find[kind](tx, name) if scope else ORGANISATION
        facts: dict[str, object] = {"measure": "cost", "window": "month", "default_zone": "UTC"} | more
        return limits.put(tx, author, where, amount=amount, **facts)  # type: ignore[arg-type]


def test_setting_again_changes_the_amount_and_keeps_the_id(store: Store, author: Author) -> None:
    first, second, third = (put(store, author, amount) for amount in (100, 200, 200))
    assert first.before is None
    assert (second.limit.id, second.before) == (first.limit.id, first.limit)
    assert third.before == third.limit
    audited = store.connection.execute("SELECT count(*) FROM audit WHERE action = 'limit set'").fetchone()
    assert audited == (2,)


def test_another_window_measure_model_or_member_is_another_limit(store: Store, author: Author) -> None:
    more: list[dict[str, object]] = [
        {},
        {"window": "day"},
        {"measure": "tokens"},
        {"model_pattern": "gpt-5*"},
        {"each": "user"},
    ]
    assert len({put(store, author, 100, **facts).limit.id for facts in more}) == 5


def test_a_limit_lives_in_the_zone_of_its_group_or_of_the_users(store: Store, author: Author) -> None:
    zones = [
        put(store, author, 1, scope).limit.zone for scope in ("", "group sales", "group emea", "user alice", "user bob")
    ]
    assert zones == ["UTC", "Europe/Berlin", "Europe/Berlin", "Europe/Berlin", "UTC"]


def test_a_removed_limit_is_gone_with_its_balances_and_its_id_is_not_given_again(store: Store, author: Author) -> None:
    limit = put(store, author, 100).limit
    store.connection.execute("INSERT INTO balances VALUES (?, 0, 0, 5, 5)", (limit.id,))
    with store.write() as tx:
        assert limits.remove(tx, author, f"l{limit.id}", default_zone="UTC") == limit
        assert limits.listing(tx, default_zone="UTC") == []
    assert store.connection.execute("SELECT * FROM balances").fetchall() == []
    assert put(store, author, 100).limit.id > limit.id


@pytest.mark.parametrize("reference", ["l9", "9", "x", "", "l" + "9" * 30, "l-1"])
def test_an_unknown_limit_is_not_found(store: Store, reference: str) -> None:
    with store.read() as tx, pytest.raises(NotFound):
        limits.get(tx, reference, default_zone="UTC")


def test_all_limits_on_the_way_apply_and_no_others(store: Store, author: Author) -> None:
    for scope in ("", "group sales", "group emea", "user alice", "user bob"):
        put(store, author, 100, scope)
    with store.read() as tx:
        alice, emea = users.get(tx, "alice"), groups.get(tx, "emea")
        found = limits.applying(
            tx, lineage=groups.lineage(tx, emea.id), user_id=alice.id, key_id=77, default_zone="UTC"
        )
    assert [limit.on for limit in found] == ["organisation", "group sales", "group emea", "user alice"]
