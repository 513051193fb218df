"""From where and by what each secret of a key is used."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmctl.config import Config
from llmctl.proxy.sightings import STEP_PLACES, Sightings
from llmctl.store import keys, users
from llmctl.store import sightings as store
from llmctl.store.audit import Author
from llmctl.store.database import Store, Tx, create
from llmctl.store.sightings import Sighting
from tests.support.daemon import Daemon

from .recorder import Recorder

HELLO = {"model": "echo-1", "messages": [], "max_tokens": 10}


def ask(gateway: Daemon, secret: str, agent: str, forwarded: str = "") -> None:
    headers = {"Authorization": f"Bearer {secret}", "User-Agent": agent}
    if forwarded:
        headers["X-Forwarded-For"] = forwarded
    assert gateway.send("/v1/chat/completions", HELLO, headers=headers).status == 200


def seen(gateway: Daemon, user: str, calls: int) -> list[dict[str, Any]]:
    """What `key show` tells, once so many calls are written."""
    deadline_s = time.monotonic() + 30
    while True:
        found: list[dict[str, Any]] = json.loads(gateway.here("key", "show", user, "-o", "json"))["seen"]
        if sum(place["calls"] for place in found) >= calls or time.monotonic() > deadline_s:
            return found
        time.sleep(0.2)


def test_during_a_grace_it_shows_who_still_uses_the_old_secret(gateway: Daemon, recorder: Recorder) -> None:
    old = gateway.add_user("grace", "sales")
    new = gateway.here("key", "rotate", "grace", "--grace", "1d", "-q").strip()
    ask(gateway, old, "legacy-app/1.0 (Linux)")
    ask(gateway, old, "legacy-app/1.0 (Linux)")
    ask(gateway, new, "fresh\tapp", forwarded="10.9.9.9, 192.0.2.7")
    places = {
        (place["secret"], place["address"], place["client"]): place["calls"] for place in seen(gateway, "grace", 3)
    }
    assert places == {("old", "127.0.0.1", "legacy-app/1.0"): 2, ("current", "127.0.0.1", "fresh?app"): 1}
    gateway.here("key", "revoke", "grace", "--old")
    headers = {"Authorization": f"Bearer {old}"}
    assert gateway.send("/v1/chat/completions", HELLO, headers=headers).status == 401


async def test_a_crowd_is_written_in_steps_that_hold_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    real = store.add

    def add(tx: Tx, found: Sequence[Sighting]) -> None:
        steps.append(len(found))
        real(tx, found)

    monkeypatch.setattr(store, "add", add)
    config = Config(tmp_path / "config.toml", tmp_path / "llmctl.db")
    create(config.database)
    with closing(Store(config.database)) as database:
        with database.write() as tx:
            author = Author("tester", 1)
            users.add(tx, author, "alice", group=None, email=None)
            key = keys.create(tx, author, "alice").key
            digest = keys.secrets_of(tx, key)[0].hash
        seen = Sightings(config)
        for number in range(2 * STEP_PLACES + 1):
            for _ in range(3):
                seen.note(digest if number < 100 else b"%032d" % number, f"10.0.{number // 256}.{number % 256}", "curl")
        await seen.flush()
        places = store.of_key(database.connection, key.row_id)
    assert steps == [STEP_PLACES, STEP_PLACES, 1]
    assert {(one.client, one.calls) for one in places} == {("curl", 3)}
    assert len({one.address for one in places}) == 100
