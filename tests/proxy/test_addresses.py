"""From where a call comes: whom we believe about it, and who is turned away because of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import Answer, Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, Wire, ask, request_bytes

SERVER = """
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
connections_max = 40
[server.timeouts]
client_header_s = 0.5
client_idle_s = 0.5
client_body_stall_s = 1
client_body_s_max = 1.5
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Faulty]:
    with Faulty({"fine": FAULTS["fine"]}) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: Faulty) -> Iterator[Daemon]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    with Daemon(directory, provider.providers(directory), server=SERVER) as daemon:
        yield daemon


def call(gateway: Daemon, key: str, *forwarded: str, path: str = CHAT, method: str = "POST") -> Answer:
    headers = {"X-Forwarded-For": ", ".join(forwarded)} if forwarded else {}
    return gateway.send(path, ask("fine/m") if method == "POST" else None, key=key, headers=headers, method=method)


# ---- whom we believe ----


def seen_from(gateway: Daemon, user: str) -> set[str]:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        if seen := json.loads(gateway.here("key", "show", user, "-o", "json"))["seen"]:
            return {place["address"] for place in seen}
        time.sleep(0.2)
    raise AssertionError("not seen")


def test_trusted_proxies_are_believed_up_to_the_first_stranger(gateway: Daemon) -> None:
    key = gateway.add_user("forwarded")
    call(gateway, key, "203.0.113.9", "198.51.100.4", "10.1.1.1")  # the first one may be the client's own invention
    call(gateway, key, "10.2.2.2", "10.1.1.1")
    call(gateway, key, "unknown")
    call(gateway, key)
    headers = {"Forwarded": "for=203.0.113.77"}  # not what our proxies write
    gateway.send(CHAT, ask("fine/m"), key=key, headers=headers)
    assert seen_from(gateway, "forwarded") == {"198.51.100.4", "10.2.2.2", "", "127.0.0.1"}


# ---- lists of keys and groups ----


def test_a_key_with_a_list_is_used_from_there_and_from_nowhere_else(gateway: Daemon) -> None:
    key = gateway.add_user("listed")
    assert call(gateway, key, "203.0.113.9").status == 200
    gateway.here("key", "set", "listed", "--allow-from", "198.51.100.0/24,192.0.2.7")
    for allowed in ("198.51.100.200", "192.0.2.7", "::ffff:192.0.2.7"):
        assert call(gateway, key, allowed).status == 200, allowed
    for refused in ("203.0.113.9", "192.0.2.8", "unknown", "2001:db8::1", "192.0.2.7, 203.0.113.9"):
        answer = call(gateway, key, refused)
        assert (answer.status, answer.json["error"]["code"]) == (403, "address_not_allowed"), refused
    assert call(gateway, key).status == 403  # from here
    assert call(gateway, key, "203.0.113.9", path="/v1/models", method="GET").status == 403
    assert call(gateway, key, "192.0.2.7", path="/llmctl/me", method="GET").status == 200
    row = gateway.call(call(gateway, key, "203.0.113.9").call_id)
    assert (row["state"], row["status"], row["error"]) == ("refused", 403, "address_not_allowed")
    gateway.here("key", "set", "listed", "--no-allow-from")
    assert call(gateway, key, "203.0.113.9").status == 200


def test_a_list_on_a_group_holds_for_those_below_and_every_list_has_to_agree(gateway: Daemon) -> None:
    gateway.here("group", "add", "company")
    gateway.here("group", "add", "office", "--parent", "company", "--allow-from", "198.51.100.0/24")
    key = gateway.add_user("clerk", "office")
    assert call(gateway, key, "203.0.113.9").status == 403
    assert call(gateway, key, "198.51.100.7").status == 200
    gateway.here("group", "set", "company", "--allow-from", "198.51.100.0/30")
    assert call(gateway, key, "198.51.100.7").status == 403
    assert call(gateway, key, "198.51.100.2").status == 200
    gateway.here("key", "set", "clerk", "--allow-from", "198.51.100.3")
    assert call(gateway, key, "198.51.100.2").status == 403
    assert call(gateway, key, "198.51.100.3").status == 200
    gateway.here("group", "set", "company", "--no-allow-from")
    assert call(gateway, key, "198.51.100.3").status == 200


def test_who_is_refused_for_the_address_is_so_before_the_body_is_read(gateway: Daemon) -> None:
    key = gateway.add_user("early")
    gateway.here("key", "set", "early", "--allow-from", "198.51.100.1")
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, b"", key, length=1 << 20))
        assert wire.reply().status == 403


# ---- who takes too many connections, or too long ----


def test_more_connections_than_there_may_be_are_turned_away_and_harm_nobody(gateway: Daemon) -> None:
    key = gateway.add_user("crowd")
    first = Wire(gateway.url)
    first.send(request_bytes(CHAT, ask("fine/m"), key))
    assert first.reply().status == 200
    crowd = [Wire(gateway.url) for _ in range(45)]
    replies = [wire.rest() for wire in crowd]
    assert 5 <= sum(reply.startswith(b"HTTP/1.1 503 ") for reply in replies) <= 7  # others may hold one for a moment
    assert {reply[:13] for reply in replies} == {b"", b"HTTP/1.1 503 "}
    for wire in (first, *crowd):
        wire.socket.close()
    assert wait_until(lambda: call(gateway, key).status == 200)


def test_silence_before_a_head_ends_a_connection(gateway: Daemon) -> None:
    began_s = time.monotonic()
    with Wire(gateway.url) as silent, Wire(gateway.url) as slow:
        slow.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        assert (silent.rest(), slow.rest()) == (b"", b"")
    assert time.monotonic() - began_s < 3


def test_the_admin_listener_is_bounded_alike_and_by_itself(gateway: Daemon) -> None:
    key = gateway.add_user("scraped")
    began_s = time.monotonic()
    with ExitStack() as opened:
        crowd = [opened.enter_context(Wire(gateway.admin_url)) for _ in range(45)]
        for wire in crowd[:20]:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert call(gateway, key).status == 200
        assert [wire.rest()[:13] for wire in crowd].count(b"HTTP/1.1 503 ") == 5
    assert gateway.get("/readyz", admin=True)[0] == 200
    with Wire(gateway.admin_url) as kept:
        kept.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.reply("GET").status == 200
        assert kept.rest() == b""
    with Wire(gateway.admin_url) as odd:
        odd.send(b"GET /healthz\x00 HTTP/7\r\n\r\n")
        reply = odd.reply("GET")
        assert (reply.status, b"cannot be read" in reply.body, odd.rest()) == (400, True, b"")
    assert time.monotonic() - began_s < 4


def test_a_body_that_trickles_ends_in_time(gateway: Daemon) -> None:
    key = gateway.add_user("trickle")
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, b"{", key, length=1 << 10))
        for _ in range(3):
            time.sleep(0.4)
            wire.send(b" ")
        reply = wire.reply()
    assert (reply.status, reply.error["code"]) == (408, "body_timeout")
