from __future__ import annotations

from collections import Counter
from pathlib import Path
from string import ascii_letters, digits

import pytest

from llmctl.domain.errors import AlreadyExists, NotFound, Refused
from llmctl.store import callers, keys, users
from llmctl.store.audit import Author
from llmctl.store.database import Store, migrate_file
from llmctl.store.secrets import random_text, well_formed
from tests.support.older import copy_as, schema_before

from .conftest import NOW_S


@pytest.fixture(autouse=True)
def alice(store: Store, author: Author) -> None:
    with store.write() as tx:
        users.add(tx, author, "alice", group=None, email=None)


def works(store: Store, secret: str, *, now_s: int = NOW_S) -> bool:
    try:
        callers.load(store.connection, secret, now_s=now_s)
    except Refused:
        return False
    return True


def create(store: Store, author: Author, **more: object) -> keys.NewKey:
    with store.write() as tx:
        return keys.create(tx, author, "alice", **more)  # type: ignore[arg-type]


def test_a_new_key_works_and_its_secret_is_nowhere_in_the_file(store: Store, author: Author) -> None:
    new = create(store, author)
    assert well_formed(new.secret)
    assert works(store, new.secret)
    assert new.secret.startswith(new.key.prefix)
    assert len(new.key.prefix) < len(new.secret) / 2
    dump = "\n".join(store.connection.iterdump())
    assert new.secret not in dump
    assert new.secret[20:] not in dump


def test_every_character_of_a_secret_is_as_likely_as_any_other() -> None:
    """A byte's remainder by 62 would make eight of them a quarter likelier."""
    drawn = Counter(random_text(ascii_letters + digits, 124_000))
    assert len(drawn) == 62
    assert all(abs(count - 2_000) < 6 * 2_000**0.5 for count in drawn.values())


def test_keys_of_an_older_schema_are_found_by_each_of_their_names(tmp_path: Path, store: Store, author: Author) -> None:
    new = create(store, author, name="laptop")
    with store.write() as tx:
        users.add(tx, author, "bob", group=None, email=None)
        gone = keys.create(tx, author, "bob")
        users.remove(tx, author, "bob")
    older = tmp_path / "older.db"
    copy_as(schema_before("secrets_by_prefix"), store.path, older)
    migrate_file(older)
    migrated = Store(older, readonly=True)
    for name in (new.key.id, new.key.id.lower(), "alice/LAPTOP", "Alice", new.key.prefix, new.secret[:25]):
        assert keys.get(migrated.connection, name) == new.key
    for name in (gone.key.id, "bob/default", gone.key.prefix):
        assert keys.get(migrated.connection, name, revoked=True).id == gone.key.id
    assert [key.id for key in keys.listing(migrated.connection)] == [new.key.id, gone.key.id]
    migrated.close()


def test_a_typing_error_is_told_from_an_unknown_key(store: Store, author: Author) -> None:
    secret = create(store, author).secret
    typo = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    assert not well_formed(typo)
    with pytest.raises(Refused, match="not a key of this gateway"):
        callers.load(store.connection, typo, now_s=NOW_S)


def test_rotation_ends_the_old_secret_at_once(store: Store, author: Author) -> None:
    old = create(store, author)
    with store.write() as tx:
        new = keys.rotate(tx, author, "alice")
    assert new.key.id == old.key.id
    assert (works(store, old.secret), works(store, new.secret)) == (False, True)


def test_a_grace_lets_both_work_until_it_ends_or_is_ended(store: Store, author: Author) -> None:
    old = create(store, author)
    with store.write() as tx:
        new = keys.rotate(tx, author, "alice", grace_s=3_600)
    assert works(store, old.secret, now_s=NOW_S + 3_599)
    assert not works(store, old.secret, now_s=NOW_S + 3_600)
    assert works(store, new.secret, now_s=NOW_S + 3_600)
    with store.write() as tx:
        assert keys.revoke_old(tx, author, "alice")
        assert not keys.revoke_old(tx, author, "alice")
    assert (works(store, old.secret), works(store, new.secret)) == (False, True)


def test_a_key_expires(store: Store, author: Author) -> None:
    secret = create(store, author, expires_at_s=NOW_S + 10).secret
    assert works(store, secret, now_s=NOW_S + 9)
    assert not works(store, secret, now_s=NOW_S + 10)


def test_a_revoked_key_is_dead_and_its_name_is_free_again(store: Store, author: Author) -> None:
    old = create(store, author, name="ci")
    with pytest.raises(AlreadyExists):
        create(store, author, name="CI")
    with store.write() as tx:
        assert keys.revoke(tx, author, "alice/ci")
        assert not keys.revoke(tx, author, old.key.id)
    assert not works(store, old.secret)
    assert create(store, author, name="ci").key.id != old.key.id


def test_keys_are_found_by_id_by_name_and_by_user_while_there_is_one(store: Store, author: Author) -> None:
    one = create(store, author)
    with store.read() as tx:
        for reference in (one.key.id, one.key.id.lower(), "alice/default", "Alice/Default", "alice"):
            assert keys.get(tx, reference).id == one.key.id
        for reference in ("k_00000", "alice/x", "bob", "bob/default"):
            with pytest.raises(NotFound):
                keys.get(tx, reference)
    create(store, author, name="ci")
    with store.read() as tx, pytest.raises(NotFound, match="2 active keys: alice/default, alice/ci"):
        keys.get(tx, "alice")


def test_a_found_secret_leads_to_its_key_also_when_it_is_revoked(store: Store, author: Author) -> None:
    new = create(store, author)
    with store.write() as tx:
        keys.revoke(tx, author, "alice")
        assert keys.of_secret(tx, new.secret)[0].id == new.key.id
        with pytest.raises(NotFound) as caught:
            keys.of_secret(tx, "sk-llmctl-secret")
        assert "sk-llmctl-secret" not in str(caught.value)
        with pytest.raises(NotFound) as caught:
            keys.get(tx, new.secret)
        assert new.secret not in str(caught.value)
