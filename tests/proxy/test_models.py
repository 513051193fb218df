"""What a key holder is told: the models that the key may use, and the limits that apply to it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Faulty

from .conftest import Claude, Client, clients_of, provider
from .recorder import Recorder
from .sdk import chat, message

# The recorder lists echo-1, echo-2 and other-1; both llama.cpp servers list tiny-random, which routes to `local`.
BOTH = {"fast", "parrot", "echo-1", "echo-2", "echo/other-1", "tiny-random"}
OPENAI_ONLY = {"vectors", "embed/tiny-random"}


def listed(client: openai.OpenAI | anthropic.Anthropic) -> set[str]:
    return {model.id for model in client.models.list()}


def test_without_rules_every_model_is_listed_by_the_name_that_reaches_it(
    gateway: Daemon, client: Client, claude: Claude, key: str, recorder: Recorder
) -> None:
    assert listed(client(key)) == BOTH | OPENAI_ONLY
    assert listed(claude(key)) == BOTH  # the embedding server does not speak Anthropic's dialect
    for name in BOTH:
        assert chat(client(key), name).counts is not None
        assert message(claude(key), name).counts is not None


def test_only_what_the_key_may_use_is_listed(gateway: Daemon, client: Client, claude: Claude) -> None:
    secret = gateway.add_user("lister", "listers")
    assert listed(client(secret)) == BOTH | OPENAI_ONLY
    gateway.here("model", "allow", "echo/*", "--group", "listers")
    assert listed(client(secret)) == listed(claude(secret)) == {"parrot", "echo-1", "echo-2", "echo/other-1"}
    gateway.here("model", "deny", "echo-1", "--user", "lister")
    assert listed(client(secret)) == listed(claude(secret)) == {"echo-2", "echo/other-1"}
    gateway.here("model", "deny", "*", "--key", "lister/default")
    assert listed(client(secret)) == listed(claude(secret)) == set()


def test_one_model_is_shown_or_not_found(gateway: Daemon, client: Client, claude: Claude) -> None:
    secret = gateway.add_user("looker")
    gateway.here("model", "deny", "echo-2", "--user", "looker")
    for name in ("echo-1", "echo/echo-1", "fast", "local/tiny-random", "echo/other-1"):
        assert client(secret).models.retrieve(name).id == name
        assert claude(secret).models.retrieve(name).id == name
    for name in ("echo-2", "echo/echo-2", "echo-9", "echo/echo-9", "gpt-5", "nobody/echo-1"):
        with pytest.raises(openai.NotFoundError) as refused:
            client(secret).models.retrieve(name)
        assert refused.value.code == "model_not_found"
        with pytest.raises(anthropic.NotFoundError) as refused_too:
            claude(secret).models.retrieve(name)
        assert refused_too.value.body["error"]["type"] == "not_found_error"


def test_the_lists_have_the_shape_of_their_dialect(gateway: Daemon, key: str) -> None:
    listing = gateway.send("/v1/models", key=key, method="GET")
    assert listing.json["object"] == "list"
    assert {model["object"] for model in listing.json["data"]} == {"model"}
    assert listing.call_id.startswith("c_")
    listing = gateway.send("/v1/models", headers={"x-api-key": key, "anthropic-version": "2023-06-01"}, method="GET")
    assert {model["type"] for model in listing.json["data"]} == {"model"}
    assert listing.json["has_more"] is False
    assert listing.json["first_id"] == listing.json["data"][0]["id"]


def test_asking_for_models_and_limits_costs_nothing_and_leaves_no_call(
    gateway: Daemon, client: Client, recorder: Recorder
) -> None:
    secret = gateway.add_user("idle")
    gateway.here("limit", "set", "--user", "idle", "--requests", "0", "--per", "total")
    listed(client(secret))
    assert gateway.get("/llmctl/me", key=secret)[0] == 200
    assert recorder.sent == []
    assert gateway.calls("--user", "idle") == []


def test_key_holders_see_their_own_limits_and_what_is_left(gateway: Daemon, client: Client, recorder: Recorder) -> None:
    secret, neighbour = gateway.add_user("meg", "mine"), gateway.add_user("ned", "mine")
    gateway.here("limit", "set", "--group", "mine", "--cost", "2.50", "--per", "month")
    gateway.here("limit", "set", "--group", "mine", "--each", "user", "--tokens", "5000", "--per", "day")
    gateway.here("limit", "set", "--user", "meg", "--requests", "10", "--per", "total", "--model", "echo/*")
    gateway.here("limit", "set", "--user", "ned", "--cost", "99", "--per", "total")
    chat(client(secret), "parrot")
    chat(client(neighbour), "parrot")
    gateway.calls("--user", "ned", count=1)  # settled
    status, body = gateway.get("/llmctl/me", key=secret)
    me = json.loads(body)
    assert status == 200
    assert (me["user"], me["group"], me["key"]["name"]) == ("meg", "mine", "default")
    assert secret not in body
    shown = {limit["measure"]: limit for limit in me["limits"]}
    assert len(me["limits"]) == 3  # not the neighbour's
    cost, tokens, requests = shown["cost"], shown["tokens"], shown["requests"]
    # 100 and 20 tokens a call at USD 1 and 2 per million: two calls of the group, one of each member
    assert (cost["amount"], cost["spent"], cost["held"], cost["left"]) == ("2.50", "0.00028", "0.00", "2.49972")
    assert (cost["unit"], cost["window"], cost["resets_at"][-10:]) == ("USD", "month", "T00:00:00Z")
    assert (tokens["amount"], tokens["spent"], tokens["left"], tokens["window"]) == (5000, 120, 4880, "day")
    assert (requests["spent"], requests["left"], requests["models"], requests["resets_at"]) == (1, 9, "echo/*", None)
    assert {limit["id"] for limit in me["limits"]} < {limit["id"] for limit in gateway.json("limit", "list")}
    assert [limit["soft"] for limit in me["limits"]] == [False] * 3


def test_a_soft_limit_is_shown_as_such(gateway: Daemon) -> None:
    secret = gateway.add_user("sofie")
    gateway.here("limit", "set", "--user", "sofie", "--requests", "1", "--per", "day", "--soft")
    (limit,) = json.loads(gateway.get("/llmctl/me", key=secret)[1])["limits"]
    assert limit["soft"] is True


def test_key_holders_see_what_they_have_used(gateway: Daemon, client: Client, recorder: Recorder) -> None:
    gateway.here("group", "add", "kathmandu", "--timezone", "Asia/Kathmandu")
    secret, neighbour = gateway.add_user("uma", "kathmandu"), gateway.add_user("vic", "kathmandu")
    nothing = {"calls": 0, "unpriced_calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": "0.00"}
    unused = json.loads(gateway.get("/llmctl/me", key=secret)[1])
    assert unused["usage"] == {"timezone": "Asia/Kathmandu", "today": nothing, "month": nothing}
    chat(client(secret), "parrot")
    chat(client(secret), "echo-2")  # unpriced
    chat(client(neighbour), "parrot")
    gateway.calls("--user", "uma", count=2)
    used = json.loads(gateway.get("/llmctl/me", key=secret)[1])["usage"]
    both = {"calls": 2, "unpriced_calls": 1, "input_tokens": 200, "output_tokens": 40, "cost_usd": "0.00014"}
    assert used["month"] == both
    assert used["today"] == both


def test_open_calls_are_shown_as_held(gateway: Daemon, client: Client, recorder: Recorder) -> None:
    secret = gateway.add_user("olga")
    gateway.here("limit", "set", "--user", "olga", "--concurrency", "3")
    with ThreadPoolExecutor() as pool, recorder.holding():
        pool.submit(chat, client(secret), "parrot")
        recorder.wait_for(1)
        (limit,) = json.loads(gateway.get("/llmctl/me", key=secret)[1])["limits"]
        assert (limit["amount"], limit["held"], limit["left"]) == (3, 1, 2)
    gateway.calls("--user", "olga", count=1)
    (limit,) = json.loads(gateway.get("/llmctl/me", key=secret)[1])["limits"]
    assert (limit["held"], limit["left"]) == (0, 3)


def test_a_provider_that_lists_nothing_has_the_models_that_are_known_here(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/v1"
    routed = provider(tmp_path, "mute", nowhere, "sk-mute", ["openai"], ["fake-*", "plain"])
    with Daemon(tmp_path, routed) as daemon:
        secret = daemon.add_user("alice")
        for model in ("mute/known", "mute/fake-known", "mute/odd-*"):
            daemon.here("price", "set", model, "--input", "1", "--output", "2")
        for client in clients_of(daemon):
            models = client(secret).models
            assert listed(client(secret)) == {"mute/known", "fake-known", "plain"}  # a pattern is no model
            for name in ("fake-1", "mute/fake-1", "mute/odd-1", "mute/known", "plain"):
                assert models.retrieve(name).id == name
            for name in ("odd-1", "mute/other", "known"):
                with pytest.raises(openai.NotFoundError):
                    models.retrieve(name)
            daemon.here("model", "deny", "fake-1")
            for name in ("fake-1", "mute/fake-1"):
                with pytest.raises(openai.NotFoundError):
                    models.retrieve(name)


def test_why_a_provider_lists_nothing_is_in_the_log(tmp_path: Path) -> None:
    with Faulty({name: FAULTS[name] for name in ("server_error", "another_protocol")}) as faulty:
        with Daemon(tmp_path, faulty.providers(tmp_path)) as daemon:
            secret = daemon.add_user("alice")
            for client in clients_of(daemon):
                listed(client(secret))
        told = "".join(daemon.log)
    assert "provider server_error does not list its models: HTTP 500" in told
    assert "provider another_protocol does not list its models: provider another_protocol" in told
