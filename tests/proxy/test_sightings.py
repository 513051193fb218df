"""From where and by what each secret of a key is used."""

from __future__ import annotations

import json
import time
from typing import Any

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
