"""Which models and paths a key reaches: what is not allowed, not known, not metered or not priced."""

from __future__ import annotations

import anthropic
import openai
import pytest

from tests.support.daemon import Daemon

from .conftest import Claude, Client
from .recorder import Recorder
from .sdk import chat, message


def test_a_model_that_is_not_allowed_is_forbidden_before_anything_is_sent(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder
) -> None:
    secret = gateway.add_user("narrow")
    gateway.here("model", "allow", "echo/echo-2", "--user", "narrow")
    for name in ("echo-1", "echo/echo-1", "parrot"):  # an alias evades nothing
        with pytest.raises(openai.PermissionDeniedError) as refused:
            chat(client(secret), name)
        assert (refused.value.code, refused.value.param) == ("model_not_allowed", "model")
        assert "not among the models allowed for user narrow: echo/echo-2" in refused.value.message
    with pytest.raises(anthropic.PermissionDeniedError) as refused_too:
        message(claude(secret), "parrot")
    assert refused_too.value.body["error"]["type"] == "permission_error"
    assert recorder.sent == []
    rows = gateway.calls("--refused", "--user", "narrow", count=4)
    assert {(row["status"], row["error"]) for row in rows} == {(403, "model_not_allowed")}
    assert chat(client(secret), "echo-2").counts == (100, 0, 20)


@pytest.mark.parametrize("name", ["gpt-unknown", "nowhere/echo-1", "echo/", "/", "Fast"])
def test_an_unknown_model_is_not_found(
    gateway: Daemon, client: Client, claude: Claude, key: str, recorder: Recorder, name: str
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        chat(client(key), name)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "GET /v1/models" in refused.value.message
    with pytest.raises(anthropic.NotFoundError) as refused_too:
        message(claude(key), name)
    assert refused_too.value.body["error"]["type"] == "not_found_error"
    assert recorder.sent == []


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completion", "/v1/chat/completions/", "/V1/models", "/", "/v1", "/v3/chat/completions", "/v1//models"],
)
def test_an_unknown_path_is_not_found_in_the_dialects_shape(
    gateway: Daemon, key: str, recorder: Recorder, path: str
) -> None:
    answer = gateway.send(path, {"model": "echo-1"}, key=key)
    assert answer.status == 404
    assert (answer.json["error"]["code"], answer.json["error"]["type"]) == ("path_not_found", "invalid_request_error")
    answer = gateway.send(path, {"model": "echo-1"}, headers={"x-api-key": key, "anthropic-version": "2023-06-01"})
    assert answer.status == 404
    assert answer.json["error"]["type"] == "not_found_error"
    assert recorder.sent == []


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/v1/files", "/v1/batches", "/v1/responses/r1/x"])
def test_a_path_that_cannot_be_metered_is_refused_and_not_passed(
    gateway: Daemon, key: str, recorder: Recorder, path: str
) -> None:
    answer = gateway.send(path, {"model": "echo-1", "prompt": "x"}, key=key)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_supported")
    assert recorder.sent == []


def test_a_money_limit_on_a_model_binds_it_by_a_resellers_name_too(
    gateway: Daemon, client: Client, recorder: Recorder
) -> None:
    secret = gateway.add_user("sly")
    gateway.here("limit", "set", "--user", "sly", "--cost", "100", "--per", "month", "--model", "echo-new")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat(client(secret), "echo/maker/echo-new:nitro")
    assert refused.value.code == "model_unpriced"
    assert recorder.sent == []


def test_an_unpriced_model_passes_at_unknown_cost_and_never_under_a_money_limit(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder
) -> None:
    secret = gateway.add_user("thrifty")
    told = chat(client(secret), "echo-new")
    row = gateway.call(told.call_id)
    assert (row["cost_usd"], row["price_source"], row["input_tokens"]) == (None, None, 100)
    (usage,) = gateway.json("usage", "--user", "thrifty")
    assert usage["unpriced_calls"] == 1
    gateway.here("limit", "set", "--user", "thrifty", "--tokens", "1M", "--per", "month")
    chat(client(secret), "echo-new")  # tokens can be counted without a price
    gateway.here("limit", "set", "--user", "thrifty", "--cost", "100", "--per", "month")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat(client(secret), "echo-new")
    assert refused.value.code == "model_unpriced"
    assert "llmctl price set echo/echo-new" in refused.value.message
    with pytest.raises(anthropic.PermissionDeniedError):
        message(claude(secret), "echo-new")
    assert len(recorder.sent) == 2
    chat(client(secret), "parrot")
