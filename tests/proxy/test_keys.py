"""Who is let in: the places where SDKs show a key, and every key that is turned away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import anthropic
import openai
import pytest

from llmctl.store.secrets import new_secret
from tests.support.daemon import Answer, Daemon

from .conftest import Claude, Client
from .recorder import Recorder
from .sdk import chat, message

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO = {"model": "echo-1", "messages": [], "max_tokens": 10}


def ask(gateway: Daemon, *headers: tuple[str, str], path: str = CHAT) -> Answer:
    return gateway.send(path, HELLO, headers=dict(headers))


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    "headers",
    [
        (("Authorization", "Bearer {}"),),
        (("authorization", "bearer   {} "),),
        (("x-api-key", "{}"),),
        (("api-key", "{}"),),
        (("x-goog-api-key", "{}"),),
        (("x-api-key", "{}"), ("Authorization", "Bearer {}")),
    ],
    ids=lambda headers: " and ".join(name for name, _ in headers),
)
def test_a_key_is_taken_wherever_an_sdk_puts_it(
    gateway: Daemon, key: str, recorder: Recorder, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    answer = ask(gateway, *((name, value.format(key)) for name, value in headers), path=path)
    assert answer.status == 200
    assert len(recorder.sent) == 1


def test_a_key_is_taken_from_the_query(gateway: Daemon, key: str, recorder: Recorder) -> None:
    assert ask(gateway, path=f"{CHAT}?api-version=2026-01-01&key={key}").status == 200
    assert recorder.last.path == CHAT


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Authorization", "Bearer "),),
        (("Authorization", "Basic YTpi"),),
        (("Authorization", "Bearer sk-llmctl-typing-error"),),
        (("Authorization", "Bearer sk-proj-of-openai-itself"),),
        (("x-api-key", "x" * 5_000),),
        (("x-api-key", "schlüssel"),),
        (("Authorization", "Bearer {mine}, Bearer {mine}"),),
        (("Authorization", "Bearer {mine}x"),),
        (("x-api-key", "{unknown}"),),
        (("Authorization", "Bearer {mine}"), ("x-api-key", "{unknown}")),
        (("Authorization", "Bearer {mine}"), ("api-key", "{other}")),
    ],
    ids=[
        "none",
        "empty",
        "basic",
        "malformed",
        "foreign",
        "long",
        "not ASCII",
        "a list",
        "one letter more",
        "unknown",
        "mine and an unknown one",
        "two good ones",
    ],
)
def test_a_request_without_one_good_key_is_turned_away_and_leaves_no_row(
    gateway: Daemon, key: str, other_key: str, recorder: Recorder, headers: tuple[tuple[str, str], ...]
) -> None:
    unknown = new_secret()
    shown = [(name, value.format(mine=key, other=other_key, unknown=unknown)) for name, value in headers]
    for path, dialect in (
        (CHAT, "openai"),
        (MESSAGES, "anthropic"),
        ("/v1/models", "openai"),
        ("/llmctl/me", "openai"),
    ):
        method = "POST" if path in (CHAT, MESSAGES) else "GET"
        body = HELLO if method == "POST" else None
        answer = gateway.send(path, body, headers=dict(shown), method=method)
        assert answer.status == 401
        error = answer.json["error"]
        if dialect == "openai":
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        else:
            assert (answer.json["type"], error["type"]) == ("error", "authentication_error")
        assert answer.call_id.startswith("c_")
        for secret in (key, other_key, unknown):
            assert secret.encode() not in answer.body
    assert recorder.sent == []


@pytest.fixture(scope="module")
def other_key(gateway: Daemon) -> Iterator[str]:
    yield gateway.add_user("nobody-else")
    assert gateway.calls("--user", "nobody-else") == []


def test_two_different_keys_in_header_and_query_are_refused(gateway: Daemon, key: str, other_key: str) -> None:
    answer = ask(gateway, ("x-api-key", key), path=f"{CHAT}?key={other_key}")
    assert answer.status == 401
    assert "two different keys" in answer.json["error"]["message"]


@pytest.mark.parametrize("how", ["revoked", "expired", "disabled"])
def test_a_dead_key_is_refused_to_both_sdks(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder, how: str
) -> None:
    user = f"dead-{how}"
    if how == "expired":
        ends = datetime.now(UTC) + timedelta(seconds=2)
        secret = gateway.here("user", "add", user, "--expires", ends.isoformat(timespec="seconds"), "-q").strip()
    else:
        secret = gateway.add_user(user)
    assert chat(client(secret), "parrot").counts == (100, 0, 20)
    if how == "revoked":
        gateway.here("key", "revoke", user)
    elif how == "disabled":
        gateway.here("user", "disable", user)
    else:
        while datetime.now(UTC) < ends:
            pass
    sent = len(recorder.sent)
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(client(secret), "parrot")
    assert refused.value.code == "invalid_api_key"
    assert {"revoked": "is revoked", "expired": "has expired", "disabled": "is disabled"}[how] in refused.value.message
    assert "ask your admin" in refused.value.message
    with pytest.raises(anthropic.AuthenticationError) as refused_too:
        message(claude(secret), "parrot")
    assert refused_too.value.body["error"]["type"] == "authentication_error"
    assert len(recorder.sent) == sent
    assert len(gateway.calls("--user", user)) == 1  # only the one that passed


def test_the_holder_of_a_key_sees_when_it_ends(gateway: Daemon) -> None:
    gateway.add_user("nora")
    ends = gateway.here("key", "create", "nora", "--name", "trial", "--expires", "2099-01-31", "-q").strip()
    key = json.loads(gateway.get("/llmctl/me", key=ends)[1])["key"]
    assert (key["name"], key["expires_at"]) == ("trial", "2099-01-31T00:00:00Z")
