"""Requests of one connection: what one of them said holds for the next only where that says the same."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator

import pytest

from llmctl.proxy.connections import Outgoing
from llmctl.proxy.plan import NOTHING, Plan
from tests.support.calls import admitted
from tests.support.daemon import Daemon
from tests.support.wire import CHAT, MESSAGES, Wire, ask, chunked, request_bytes

from .recorder import Recorder

HELLO = ask("echo-1", max_tokens=10)


@pytest.fixture
def wire(gateway: Daemon) -> Iterator[Wire]:
    with Wire(gateway.url) as wire:
        yield wire


def test_each_of_two_keys_that_share_a_connection_is_booked_to_its_own_user(
    gateway: Daemon, wire: Wire, recorder: Recorder
) -> None:
    keys = {name: gateway.add_user(name) for name in ("heads-ann", "heads-bob")}
    order = ["heads-ann", "heads-ann", "heads-bob", "heads-ann", "heads-bob", "heads-bob"]
    for number, name in enumerate(order):
        wire.send(request_bytes(CHAT, HELLO, keys[name], f"x-llmctl-tags: heads-{number}"))
        assert wire.reply().status == 200
        assert not any(key in str(recorder.last.headers) for key in keys.values())
    rows = gateway.calls("--limit", str(len(order)), count=len(order))
    assert [(row["user"], row["tags"]) for row in reversed(rows)] == [
        (name, [f"heads-{number}"]) for number, name in enumerate(order)
    ]


def test_a_key_that_is_revoked_between_two_requests_is_dead(gateway: Daemon, wire: Wire, recorder: Recorder) -> None:
    key = gateway.add_user("heads-carl")
    for _ in range(2):
        wire.send(request_bytes(CHAT, HELLO, key))
        assert wire.reply().status == 200
    gateway.llmctl("key", "revoke", "heads-carl/default")
    wire.send(request_bytes(CHAT, HELLO, key))
    assert wire.reply().status == 401


def test_each_request_is_sent_on_with_its_own_path_and_headers(
    gateway: Daemon, key: str, wire: Wire, recorder: Recorder
) -> None:
    said = [
        (CHAT, "X-One: 1"),
        (CHAT, "X-One: 2"),
        (CHAT, "x-one: 2"),
        (MESSAGES, "x-one: 2"),
        (CHAT, "x-one: 2\r\nX-Two: 2"),
        (CHAT, "Connection: x-one\r\nx-one: 2\r\nX-Two: 2"),
        (CHAT, "Content-Type: application/json; charset=utf-16\r\nX-Two: 2"),
    ]
    for path, lines in said:
        wire.send(request_bytes(path, ask("echo-1", path=path, max_tokens=10), key, lines))
        assert wire.reply().status == 200
        sent = recorder.last
        hidden = "x-one" if "Connection" in lines else ""
        wanted = dict(line.split(": ") for line in lines.split("\r\n") if line.split(": ")[0].lower() != hidden)
        wanted.pop("Connection", None)
        if "utf-16" in lines:
            wanted["Content-Type"] = "application/json"
        assert sent.path.endswith(path.removeprefix("/v1"))
        assert {name: value for name, value in sent.headers.items() if name in wanted} == wanted
        assert ("X-Two" in sent.headers) == ("X-Two" in wanted) and ("x-one" in sent.headers) == (
            "one" in str(wanted).lower()
        )


def test_the_length_of_a_body_is_each_requests_own(gateway: Daemon, key: str, wire: Wire, recorder: Recorder) -> None:
    for size in (10, 200_000, 11, 10):
        body = json.dumps(ask("echo-1", max_tokens=10, user="u" * size)).encode()
        wire.send(request_bytes(CHAT, body, key))
        assert wire.reply().status == 200
        assert recorder.last.body == body
        assert recorder.last.headers["Content-Length"] == str(len(body))


def test_how_a_body_comes_is_looked_at_for_each(gateway: Daemon, key: str, wire: Wire, recorder: Recorder) -> None:
    body = json.dumps(HELLO).encode()
    requests = [
        (request_bytes(CHAT, body, key), 200),
        (chunked(CHAT, body, key), 200),
        (request_bytes(CHAT, gzip.compress(body), key, "Content-Encoding: gzip"), 400),
        (request_bytes(CHAT, body, key), 200),
        (request_bytes(CHAT, body, key, "Content-Encoding: identity"), 200),
    ]
    for sent, status in requests:
        wire.send(sent)
        assert wire.reply().status == status
    wire.send(request_bytes(CHAT, body, key, "Expect: 100-continue"))
    assert wire.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.reply().status == 200


def test_a_path_or_a_key_that_is_refused_is_refused_each_time(gateway: Daemon, key: str, wire: Wire) -> None:
    for path, shown, status in [
        ("/v1/nothing", key, 404),
        (CHAT, key, 200),
        ("/v1/nothing", key, 404),
        (CHAT, "", 401),
        (CHAT, key, 200),
        (f"{CHAT}?key=other", key, 401),
        (f"{CHAT}?key={key}", key, 200),
    ]:
        wire.send(request_bytes(path, HELLO, shown))
        assert wire.reply().status == status


def test_a_long_head_is_not_remembered(gateway: Daemon, key: str, wire: Wire, recorder: Recorder) -> None:
    for number in range(3):
        long = "".join(f"X-Long-{line}: {number}{'x' * 6_000}\r\n" for line in range(4)).rstrip()
        wire.send(request_bytes(CHAT, HELLO, key, long))
        assert wire.reply().status == 200
        assert recorder.last.headers["X-Long-3"].startswith(f"{number}x")


def test_no_secret_shows_where_a_call_is_printed() -> None:
    call = admitted(Plan(None, "m", None, NOTHING, False))  # type: ignore[arg-type]
    sent = Outgoing(b"Authorization: Bearer sk-provider", b"PROMPT")
    assert not re.search("sk-|PROMPT|messages", f"{call!r} {call.head!r} {sent!r}")
