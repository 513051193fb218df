from __future__ import annotations

import pytest

from llmctl.domain.errors import AlreadyExists, BadInput, NotFound, Refused
from llmctl.store import callers, groups, keys, users
from llmctl.store.audit import Author
from llmctl.store.database import Store

from .conftest import NOW_S


def test_a_user_belongs_to_one_group_or_none(store: Store, author: Author) -> None:
    with store.write() as tx:
        groups.add(tx, author, "sales", parent=None, timezone=None)
        users.add(tx, author, "alice", group="Sales", email="alice@example.org")
        users.add(tx, author, "bob", group=None, email=None)
        assert [(user.name, user.group) for user in users.listing(tx)] == [("alice", "sales"), ("bob", None)]
        assert [user.name for user in users.listing(tx, group="sales")] == ["alice"]
        with pytest.raises(NotFound):
            users.listing(tx, group="nowhere")


def test_names_are_unique_and_mistakes_get_a_suggestion(store: Store, author: Author) -> None:
    with store.write() as tx:
        users.add(tx, author, "alice", group=None, email=None)
        with pytest.raises(AlreadyExists):
            users.add(tx, author, "ALICE", group=None, email=None)
        with pytest.raises(NotFound) as caught:
            users.get(tx, "alcie")
        assert 'did you mean "alice"' in caught.value.hint


@pytest.mark.parametrize("email", ["alice", "a@b\n", "x" * 250 + "@b.de"])
def test_what_is_no_email_is_refused(store: Store, author: Author, email: str) -> None:
    with pytest.raises(BadInput), store.write() as tx:
        users.add(tx, author, "alice", group=None, email=email)


def test_disabling_stops_the_keys_at_once_and_enabling_brings_them_back(store: Store, author: Author) -> None:
    def load() -> str:
        return callers.load(store.connection, secret, now_s=NOW_S).user_name

    with store.write() as tx:
        users.add(tx, author, "alice", group=None, email=None)
        secret = keys.create(tx, author, "alice").secret
    assert load() == "alice"
    with store.write() as tx:
        assert users.set_disabled(tx, author, "alice", disabled=True)
        assert not users.set_disabled(tx, author, "alice", disabled=True)
    with pytest.raises(Refused, match="is disabled"):
        load()
    with store.write() as tx:
        assert users.set_disabled(tx, author, "alice", disabled=False)
    assert load() == "alice"
