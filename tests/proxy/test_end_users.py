"""Keys that act for end users: whom a call is for is named by header or body, and counts for such keys alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.daemon import Daemon

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO: dict[str, Any] = {"model": "echo-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
HEADER = "X-LLMCTL-End-User"


@pytest.fixture(scope="module")
def app_key(gateway: Daemon) -> str:
    gateway.add_user("shop")
    return gateway.here("key", "create", "shop", "--name", "app", "--acts-for-end-users", "-q").strip()


def booked_for(gateway: Daemon, answer: Any) -> str | None:
    assert answer.status == 200
    end_user: str | None = gateway.call(answer.call_id)["end_user"]
    return end_user


@pytest.mark.parametrize(
    ("path", "more", "headers", "expected"),
    [
        (CHAT, {}, {HEADER: "ann"}, "ann"),
        (CHAT, {"user": "ben"}, {HEADER: "ann"}, "ann"),
        (CHAT, {"user": "ben"}, {}, "ben"),
        (CHAT, {"user": "ben", "safety_identifier": "cid"}, {}, "cid"),
        (MESSAGES, {"metadata": {"user_id": "dan"}}, {}, "dan"),
        (CHAT, {}, {}, "(unnamed)"),
    ],
)
def test_the_end_user_is_named_by_header_or_body(
    gateway: Daemon, app_key: str, path: str, more: dict[str, Any], headers: dict[str, str], expected: str
) -> None:
    assert booked_for(gateway, gateway.send(path, {**HELLO, **more}, key=app_key, headers=headers)) == expected


def test_from_any_other_key_nobody_is_named(gateway: Daemon, key: str) -> None:
    answer = gateway.send(CHAT, {**HELLO, "user": "ben"}, key=key, headers={HEADER: "ann"})
    assert booked_for(gateway, answer) is None


def test_a_limit_on_each_end_user_refuses_that_one_alone(gateway: Daemon, app_key: str) -> None:
    gateway.here("limit", "set", "--user", "shop", "--requests", "1", "--per", "day", "--each", "end-user")
    for name, statuses in (("eve", [200, 429]), ("fay", [200, 429])):
        answers = [gateway.send(CHAT, HELLO, key=app_key, headers={HEADER: name}) for _ in range(2)]
        assert [answer.status for answer in answers] == statuses
    assert b"each end-user" in answers[-1].body
    (limit,) = gateway.json("limit", "list", "--user", "shop")
    assert limit["each"] == "end_user"


def test_a_refused_row_names_an_end_user_who_is_known(gateway: Daemon, app_key: str) -> None:
    gateway.here("limit", "set", "--user", "shop", "--requests", "1", "--per", "day", "--each", "end-user")
    asked = [(name, gateway.send(CHAT, HELLO, key=app_key, headers={HEADER: name})) for name in ("gil", "gil")]
    nothing = {**HELLO, "model": "no/such"}
    asked.append(("hal", gateway.send(CHAT, nothing, key=app_key, headers={HEADER: "hal"})))
    found = [(answer.status, gateway.call(answer.call_id)["end_user"]) for _, answer in asked]
    assert found == [(200, "gil"), (429, "gil"), (404, None)]


def test_a_long_name_is_granted_to_and_asked_for_as_the_app_writes_it(gateway: Daemon, app_key: str) -> None:
    name = "customer-" * 10  # kept as a hash
    gateway.here("limit", "set", "--user", "shop", "--tokens", "1", "--per", "total", "--each", "end-user")
    (limit,) = (row for row in gateway.json("limit", "list", "--user", "shop") if row["measure"] == "tokens")
    try:
        assert gateway.send(CHAT, HELLO, key=app_key, headers={HEADER: name}).status == 400
        more = ["--tokens", "1M", "--for", "1h", "--reason", "a large customer"]
        gateway.here("limit", "grant", limit["id"], "--end-user", name, *more)
        answer = gateway.send(CHAT, {**HELLO, "max_tokens": 5}, key=app_key, headers={HEADER: name})
        assert answer.status == 200
        gateway.call(answer.call_id)
        assert next(row["id"] for row in gateway.json("calls", "--end-user", name)) == answer.call_id
    finally:
        gateway.here("limit", "remove", limit["id"], "--yes")
