"""Revoked, disabled: calls that are open finish, unless the admin says --now."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import Faulty, Line, chunk, wait_until
from tests.support.wire import CHAT, Reply, ask, post


async def streams_on(line: Line) -> None:
    await line.request()
    await line.start_stream()
    for _ in range(2_000):
        await line.send_event(chunk("word "))
        await asyncio.sleep(0.02)


async def thinks_on(line: Line) -> None:
    await line.request()
    await line.until_hung_up()


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty({"streams": streams_on, "thinks": thinks_on}) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(running: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("cut")
    server = "timeouts = { shutdown_s = 1 }"
    with Daemon(directory, running.providers(directory), server=server, args=["--workers", "2"]) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon


def open_calls(gateway: Daemon, user: str) -> int:
    return sum(row["state"] == "open" for row in gateway.json("calls", "--user", user))


class Open:
    """A call under way in a thread of its own."""

    def __init__(self, gateway: Daemon, user: str, key: str, model: str, *, stream: bool) -> None:
        self.replies: list[Reply] = []
        before = open_calls(gateway, user)
        self._thread = threading.Thread(target=self._post, args=(gateway, key, model, stream), daemon=True)
        self._thread.start()
        assert wait_until(lambda: open_calls(gateway, user) > before, 30)

    def _post(self, gateway: Daemon, key: str, model: str, stream: bool) -> None:
        self.replies.append(post(gateway.url, CHAT, ask(model, stream=stream), key, timeout_s=60))

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()


@pytest.mark.parametrize("what", ["key revoke", "user disable", "group disable"])
def test_with_now_open_calls_end_and_those_of_others_go_on(gateway: Daemon, running: Faulty, what: str) -> None:
    name = what.replace(" ", "-")
    gateway.here("group", "add", f"{name}-above", "-q")
    gateway.here("group", "add", f"{name}-team", "--parent", f"{name}-above", "-q")
    key = gateway.add_user(name, f"{name}-team")
    stream = Open(gateway, name, key, "streams/m", stream=True)
    silent = Open(gateway, name, key, "thinks/m", stream=False)
    other = Open(gateway, f"{name}-other", gateway.add_user(f"{name}-other"), "streams/m", stream=True)
    subject = {"key revoke": name, "user disable": name, "group disable": f"{name}-above"}[what]
    gateway.here(*what.split(), subject, "--now")
    assert wait_until(lambda: not stream.is_open and not silent.is_open, 30)
    assert other.is_open
    assert stream.replies[0].cut  # never looks whole
    assert silent.replies[0].status == 401
    assert silent.replies[0].error["code"] == "invalid_api_key"
    rows = gateway.calls("--user", name, count=2)
    assert {(row["error"], row["usage_source"]) for row in rows} == {("key_revoked", "estimated")}
    assert any(row["action"] == "calls cut" for row in gateway.json("audit"))


def test_without_it_they_finish(gateway: Daemon) -> None:
    key = gateway.add_user("patient")
    stream = Open(gateway, "patient", key, "streams/m", stream=True)
    gateway.here("key", "revoke", "patient")
    time.sleep(2.5)
    assert stream.is_open
    assert post(gateway.url, CHAT, ask("streams/m"), key).status == 401
