from __future__ import annotations

import sqlite3

from llmctl.store import keys, sightings, users
from llmctl.store.audit import Author
from llmctl.store.database import Store, migrations
from llmctl.store.sightings import PLACES_MAX, Sighting

from .conftest import NOW_S


def test_only_the_newest_places_of_a_secret_are_kept(store: Store, author: Author) -> None:
    with store.write() as tx:
        users.add(tx, author, "alice", group=None, email=None)
        key = keys.create(tx, author, "alice").key
        secret = keys.secrets_of(tx, key)[0].hash
        many = [Sighting(secret, f"10.0.{n // 256}.{n % 256}", "curl", n, n, 1) for n in range(PLACES_MAX + 50)]
        sightings.add(tx, many)
        found = sightings.of_key(tx, key.row_id)
    assert len(found) == PLACES_MAX
    assert min(one.last_at_s for one in found) == 50


def test_a_sighting_of_a_secret_that_is_not_there_is_dropped(store: Store) -> None:
    with store.write() as tx:
        sightings.add(tx, [Sighting(b"?" * 32, "10.0.0.1", "curl", NOW_S, NOW_S, 1)])
        assert tx.execute("SELECT count(*) FROM sightings").fetchone() == (0,)


def test_the_migration_keeps_keys_and_secrets() -> None:
    number = next(one for one, sql in migrations() if "CREATE TABLE sightings" in sql)
    old = sqlite3.connect(":memory:")
    for one, sql in migrations():
        if one == number:
            old.execute("INSERT INTO users (name, created_at) VALUES ('alice', 1)")
            old.execute("INSERT INTO keys (public_id, user_id, name, created_at) VALUES ('k_1', 1, 'ci', 1)")
            old.execute("INSERT INTO secrets (hash, key_id, prefix, created_at) VALUES (x'00', 1, 'sk', 1)")
            old.commit()
        old.executescript(sql)
    assert old.execute("SELECT public_id, name, note FROM keys").fetchall() == [("k_1", "ci", None)]
    assert old.execute("SELECT prefix FROM secrets").fetchall() == [("sk",)]
    old.close()
