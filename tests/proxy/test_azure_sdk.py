"""Azure's SDK, and OpenAI's, through the gateway to an Azure OpenAI resource."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import openai
import pytest

from tests.support.daemon import Daemon

from .recorder import Recorder
from .sdk import SAY

API_VERSION = "2024-10-21"
TENANT = "6d7c0a0e-0000-4000-8000-000000000001"
CHAT_USAGE = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-2024-11-20",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": CHAT_USAGE,
}
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "gpt-4o-2024-11-20"}
FILTER_EVENT = {**CHUNK, "model": "", "choices": [], "prompt_filter_results": [{"content_filter_results": FILTERED}]}
WORD_EVENT = {**CHUNK, "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
USAGE_EVENT = {**CHUNK, "choices": [], "usage": CHAT_USAGE}


@pytest.fixture(scope="module")
def tokens() -> Iterator[Recorder]:
    """Where Entra ID is in these tests."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder, tokens: Recorder) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("azure")
    root = running_recorder.base_url.removesuffix("/v1")
    authority = tokens.base_url.removesuffix("/v1")
    (directory / "key").write_text("azure-resource-key")
    (directory / "client.secret").write_text("client/secret+of=mine")
    providers = f"""
[providers.azure]
base_url = "{root}/openai"
credential_file = "key"
[providers.azure.deployments]
chat-of-mine = "gpt-4o"

[providers.azure-eu]
preset = "azure"
base_url = "{root}/eu/openai"
entra = {{ tenant_id = "{TENANT}", client_id = "me", secret_file = "client.secret", authority = "{authority}" }}

[providers.azure-static]
preset = "azure"
base_url = "{root}/static/openai"
auth = "bearer"
credential_file = "key"

[aliases]
fast = "azure/chat-of-mine"
"""
    with Daemon(directory, providers) as daemon:
        daemon.here("price", "set", "gpt-4o", "--provider", "azure", "--input", "1", "--output", "2")
        yield daemon


@pytest.fixture(scope="module")
def key(azure: Daemon) -> str:
    return azure.add_user("azura")


@pytest.fixture(scope="module")
def user(azure: Daemon, key: str) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(azure_endpoint=azure.url, api_key=key, api_version=API_VERSION, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def plain(azure: Daemon, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=azure.base_url, api_key=key, max_retries=0) as client:
        yield client


def answers(recorder: Recorder, answer: dict[str, Any]) -> None:
    recorder.reply(json.dumps(answer).encode(), Content_Type="application/json")


def streams(recorder: Recorder, *events: dict[str, Any]) -> None:
    lines = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
    recorder.reply(*lines, b"data: [DONE]\n\n", Content_Type="text/event-stream")


def last(azure: Daemon) -> dict[str, Any]:
    return azure.calls("-n", "1", count=1)[0]


def test_a_deployment_is_called_where_the_sdk_calls_it(
    azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder
) -> None:
    answers(recorder, CHAT)
    told = user.chat.completions.create(model="chat-of-mine", messages=SAY)
    assert told.usage is not None
    sent = recorder.last
    assert (sent.path, sent.query) == (
        "/openai/deployments/chat-of-mine/chat/completions",
        f"api-version={API_VERSION}",
    )
    assert sent.headers["api-key"] == "azure-resource-key"
    assert "authorization" not in sent.headers
    row = last(azure)
    stated = (row["provider"], row["dialect"], row["endpoint"], row["model"], row["request_model"])
    assert stated == ("azure", "azure", "chat.completions", "chat-of-mine", "chat-of-mine")
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (30, 7, "reported")
    assert row["cost_usd"] == "0.000044000"  # by the price of the model that the deployment is of


def test_an_alias_leads_to_a_deployment(azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    user.chat.completions.create(model="fast", messages=SAY)
    assert recorder.last.path == "/openai/deployments/chat-of-mine/chat/completions"
    assert recorder.last.json["model"] == "fast"  # which counts for nothing there


@pytest.mark.parametrize("asks_usage", [True, False])
def test_the_filters_event_stays_and_only_the_injected_usage_goes(
    azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder, asks_usage: bool
) -> None:
    streams(recorder, FILTER_EVENT, WORD_EVENT, USAGE_EVENT)
    options: Any = {"stream_options": {"include_usage": True}} if asks_usage else {}
    events = list(user.chat.completions.create(model="chat-of-mine", messages=SAY, stream=True, **options))
    assert [event.model_dump(exclude_unset=True) for event in events] == (
        [FILTER_EVENT, WORD_EVENT, USAGE_EVENT] if asks_usage else [FILTER_EVENT, WORD_EVENT]
    )
    assert recorder.last.json["stream_options"] == {"include_usage": True}
    assert (last(azure)["input_tokens"], last(azure)["output_tokens"]) == (30, 7)


def test_embeddings_and_completions_have_deployments_too(
    azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder
) -> None:
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    answers(recorder, {"object": "list", "data": [vector], "model": "ada", "usage": usage})
    user.embeddings.create(model="vectors", input="one text", encoding_format="float")
    assert recorder.last.path == "/openai/deployments/vectors/embeddings"
    assert (last(azure)["input_tokens"], last(azure)["cost_usd"]) == (5, None)
    answers(recorder, {**CHAT, "object": "text_completion", "choices": []})
    user.completions.create(model="old", prompt="Once")
    assert recorder.last.path == "/openai/deployments/old/completions"


def test_responses_name_their_deployment_in_the_body(
    azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder
) -> None:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    answers(recorder, {"id": "resp_1", "object": "response", "model": "gpt-4o", "output": [], "usage": usage})
    user.responses.create(model="chat-of-mine", input="Hi")
    assert (recorder.last.path, recorder.last.query) == ("/openai/responses", f"api-version={API_VERSION}")
    assert (last(azure)["endpoint"], last(azure)["input_tokens"]) == ("responses", 9)


@pytest.mark.parametrize("where", ["/v1", "/openai/v1"])
def test_openais_own_sdk_reaches_azure_by_its_newer_api(
    azure: Daemon, key: str, recorder: Recorder, where: str
) -> None:
    answers(recorder, CHAT)
    with openai.OpenAI(base_url=azure.url + where, api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="azure/chat-of-mine", messages=SAY)
    assert (recorder.last.path, recorder.last.query) == ("/openai/v1/chat/completions", "")
    assert recorder.last.json["model"] == "chat-of-mine"
    assert recorder.last.headers["api-key"] == "azure-resource-key"
    assert last(azure)["cost_usd"] == "0.000044000"


def test_a_client_may_show_its_key_as_an_entra_token(azure: Daemon, key: str, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    with openai.AzureOpenAI(azure_endpoint=azure.url, azure_ad_token=key, api_version=API_VERSION) as client:
        client.chat.completions.create(model="chat-of-mine", messages=SAY)
    assert recorder.last.headers["api-key"] == "azure-resource-key"
    assert "authorization" not in recorder.last.headers


def test_a_static_token_is_shown_as_a_bearer(plain: openai.OpenAI, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    plain.chat.completions.create(model="azure-static/m", messages=SAY)
    assert recorder.last.headers["authorization"] == "Bearer azure-resource-key"
    assert "api-key" not in recorder.last.headers


def test_a_token_of_entra_is_bought_once_and_shown(
    azure: Daemon, plain: openai.OpenAI, recorder: Recorder, tokens: Recorder
) -> None:
    answers(recorder, CHAT)
    tokens.reset()
    tokens.reply(b'{"error": "invalid_client", "error_description": "client/secret+of=mine"}', status=401)
    with pytest.raises(openai.InternalServerError) as refused:
        plain.chat.completions.create(model="azure-eu/m", messages=SAY)
    assert refused.value.status_code == 502
    assert "secret" not in str(refused.value)
    assert not recorder.sent
    assert last(azure)["state"] == "released"
    assert not any("client/secret" in line for line in azure.log)
    answers(tokens, {"token_type": "Bearer", "expires_in": 3599, "access_token": "ey.of.entra"})
    deadline_s = time.monotonic() + 20
    while not recorder.sent and time.monotonic() < deadline_s:  # it is not asked again at once
        with suppress(openai.InternalServerError):
            plain.chat.completions.create(model="azure-eu/m", messages=SAY)
        time.sleep(0.05)
    plain.chat.completions.create(model="azure-eu/m", messages=SAY)
    assert [sent.headers["authorization"] for sent in recorder.sent] == ["Bearer ey.of.entra"] * 2
    assert [sent.path for sent in tokens.sent] == [f"/{TENANT}/oauth2/v2.0/token"] * 2
    assert parse_qs(tokens.sent[-1].body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["me"],
        "client_secret": ["client/secret+of=mine"],
        "scope": ["https://cognitiveservices.azure.com/.default"],
    }


def test_azures_own_errors_pass_and_ours_have_their_shape(
    azure: Daemon, user: openai.AzureOpenAI, recorder: Recorder
) -> None:
    body = b'{"error":{"code":"429","message":"Requests to the deployment have exceeded the call rate limit."}}'
    recorder.reply(body, status=429, Content_Type="application/json", retry_after_ms="1500")
    with pytest.raises(openai.RateLimitError) as limited:
        user.chat.completions.create(model="chat-of-mine", messages=SAY)
    assert (limited.value.response.content, limited.value.code) == (body, "429")
    assert last(azure)["error"] == "provider_429"
    recorder.reply(b'{"error":{"code":"401","message":"Access denied: azure-resource-key"}}', status=401)
    with pytest.raises(openai.InternalServerError) as denied:
        user.chat.completions.create(model="chat-of-mine", messages=SAY)
    assert denied.value.code == "provider_credential"


def test_limits_hold_for_deployments(azure: Daemon, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    key = azure.add_user("bounded")
    azure.here("limit", "set", "--user", "bounded", "--cost", "0.01", "--per", "day")
    with openai.AzureOpenAI(azure_endpoint=azure.url, api_key=key, api_version=API_VERSION, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model="chat-of-mine", messages=SAY)
        # The field that reasoning models take too.
        assert recorder.last.json["max_completion_tokens"] == int(raw.headers["x-llmctl-output-capped"])
        with pytest.raises(openai.PermissionDeniedError) as unpriced:
            client.chat.completions.create(model="nobody-said-what", messages=SAY)
        assert unpriced.value.code == "model_unpriced"
        azure.here("limit", "set", "--user", "bounded", "--requests", "1", "--per", "total")
        with pytest.raises(openai.RateLimitError) as spent:
            client.chat.completions.create(model="chat-of-mine", messages=SAY)
    assert spent.value.code == "insufficient_quota"
    assert isinstance(spent.value.body, dict)
    assert "limit" in spent.value.body["message"]


def test_who_may_not_use_a_model_may_not_use_its_deployments(azure: Daemon, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    key = azure.add_user("denied")

    def asked(path: str, model: str) -> tuple[int, str]:
        answer = azure.send(path, {"model": model, "messages": SAY}, key=key)
        return answer.status, answer.json.get("error", {}).get("message", "")

    ways = [
        ("/openai/deployments/chat-of-mine/chat/completions", ""),
        ("/openai/deployments/CHAT-of-mine/chat/completions", ""),  # the same to Azure
        ("/v1/chat/completions", "azure/chat-of-mine"),
        ("/v1/chat/completions", "fast"),
    ]
    assert {asked(*way)[0] for way in ways} == {200}
    azure.here("model", "deny", "gpt-4*", "--user", "denied")
    for way in ways:
        status, message = asked(*way)
        assert status == 403
        assert "denied for user denied by the rule gpt-4*: it is gpt-4o" in message
    supposed = json.loads(azure.here("why", "--user", "denied", "--model", "azure/chat-of-mine", "-o", "json"))
    assert (supposed["passes"], supposed["error"]) == (False, "model_not_allowed")
    assert asked("/v1/chat/completions", "azure/other")[0] == 200


def test_models_that_a_key_may_use_are_without_deployments_of_what_is_denied(azure: Daemon, recorder: Recorder) -> None:
    key = azure.add_user("lister")
    with openai.OpenAI(base_url=azure.base_url, api_key=key, max_retries=0) as client:
        assert "fast" in [one.id for one in client.models.list()]  # an alias of the deployment
        azure.here("model", "deny", "gpt-4o", "--user", "lister")
        assert "fast" not in [one.id for one in client.models.list()]


def test_a_limit_on_a_model_binds_its_deployments_and_the_books_are_right(azure: Daemon, recorder: Recorder) -> None:
    answers(recorder, CHAT)
    key = azure.add_user("m4")
    with openai.AzureOpenAI(azure_endpoint=azure.url, api_key=key, api_version=API_VERSION, max_retries=0) as client:
        client.chat.completions.create(model="chat-of-mine", messages=SAY)
        client.chat.completions.create(model="other", messages=SAY)
        azure.calls("--user", "m4", count=2)
        azure.here("limit", "set", "--user", "m4", "--requests", "2", "--per", "month", "--model", "gpt-4o")
        azure.here("limit", "set", "--user", "m4", "--cost", "1", "--per", "month", "--model", "gpt-4*")
        azure.here("limit", "set", "--user", "m4", "--requests", "9", "--per", "minute", "--model", "gpt-4*")
        client.chat.completions.create(model="Chat-Of-Mine", messages=SAY)  # the same to Azure
        with pytest.raises(openai.RateLimitError) as spent:
            client.chat.completions.create(model="chat-of-mine", messages=SAY)
        client.chat.completions.create(model="other", messages=SAY)
    assert "gpt-4o" in spent.value.message
    azure.calls("--user", "m4", count=5)
    rows = {(row["window"], row["measure"]): row for row in azure.json("limit", "list", "--user", "m4")}
    assert rows["month", "requests"]["spent"] == 2
    assert rows["month", "cost"]["spent"] == "0.000088000"
    supposed = json.loads(azure.here("why", "--user", "m4", "--model", "azure/chat-of-mine", "-o", "json"))
    assert (supposed["passes"], supposed["error"]) == (False, "limit_spent")
    checks = {
        row["check"]: row["state"]
        for row in json.loads(azure.llmctl("doctor", "--offline", "-o", "json", check=False).stdout)
    }
    assert (checks["roll-ups"], checks["balances"]) == ("ok", "ok")


def test_what_azure_has_beside_is_refused(azure: Daemon, key: str, recorder: Recorder) -> None:
    answer = azure.send("/openai/v1/files", {}, key=key)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_supported")
    # Another of its APIs, and no deployment.
    answers(recorder, CHAT)
    azure.send("/openai/deployments/d/extensions/chat/completions", {"messages": SAY}, key=key)
    assert recorder.last.raw_path == "/openai/deployments/d%2Fextensions/chat/completions"
    assert azure.send("/openai/deployments/../chat/completions", {}, key=key).status == 404
