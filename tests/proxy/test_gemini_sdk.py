"""Google's SDK through the gateway: what it is told is what is booked, and refusals come as its own errors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tests.support.daemon import Daemon

from .recorder import Recorder

Google = Callable[[str], genai.Client]
COUNTS = (100, 20, 4)  # the recorder's usual: input, output, of which thoughts


@pytest.fixture(scope="module")
def google(gateway: Daemon) -> Iterator[Google]:
    clients: dict[str, genai.Client] = {}

    def client(key: str) -> genai.Client:
        if key not in clients:
            clients[key] = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gateway.url))
        return clients[key]

    yield client
    for one in clients.values():
        one.close()


@pytest.fixture
def user(google: Google, key: str, recorder: Recorder) -> genai.Client:
    return google(key)


def call_id(answer: Any) -> str:
    return answer.sdk_http_response.headers["x-llmctl-call-id"]


def counts(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["input_tokens"], row["output_tokens"], row["reasoning_tokens"]


@pytest.mark.parametrize("model", ["echo-1", "echo/echo-1", "parrot"])
def test_content_is_booked_as_the_sdk_reports_it(
    gateway: Daemon, user: genai.Client, recorder: Recorder, model: str
) -> None:
    answer = user.models.generate_content(model=model, contents="Say hello.")
    assert (answer.text, answer.usage_metadata.thoughts_token_count) == ("Hello", 4)
    row = gateway.call(call_id(answer))
    assert counts(row) == COUNTS
    assert Decimal(row["cost_usd"]) == Decimal(100 * 1 + 20 * 2) / 1_000_000
    expected = {
        "user": "alice",
        "provider": "echo",
        "model": "echo-1",
        "request_model": model,
        "response_model": "echo-1",
        "dialect": "gemini",
        "endpoint": "generateContent",
        "stream": False,
        "status": 200,
        "usage_source": "reported",
    }
    assert {name: row[name] for name in expected} == expected
    assert recorder.last.path == "/v1/models/echo-1:generateContent"


def test_a_stream_is_booked_by_its_last_usage(gateway: Daemon, user: genai.Client, recorder: Recorder) -> None:
    chunks = list(user.models.generate_content_stream(model="echo-1", contents="Say hello."))
    assert "".join(chunk.text for chunk in chunks) == "Hello"
    row = gateway.call(call_id(chunks[0]))
    assert (counts(row), row["endpoint"], row["stream"]) == (COUNTS, "streamGenerateContent", True)
    assert row["ttft_ms"] < row["latency_ms"]
    assert recorder.last.query == "alt=sse"


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # the SDK's own
async def test_the_async_sdk_streams_too(gateway: Daemon, key: str, recorder: Recorder) -> None:
    async with genai.Client(api_key=key, http_options=types.HttpOptions(base_url=gateway.url)).aio as user:
        text, chunk = "", None
        async for chunk in await user.models.generate_content_stream(model="echo-1", contents="Say hello."):
            text += chunk.text
        assert text == "Hello"
        assert counts(gateway.call(call_id(chunk))) == COUNTS
        answer = await user.models.generate_content(model="echo-1", contents="Say hello.")
        assert counts(gateway.call(call_id(answer))) == COUNTS


def test_the_list_form_of_a_stream_passes_piece_by_piece(gateway: Daemon, key: str, recorder: Recorder) -> None:
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    answer = gateway.send(f"/v1beta/models/echo-1:streamGenerateContent?key={key}", body)
    assert [one["candidates"][0]["content"]["parts"][0]["text"] for one in answer.json] == ["Hel", "lo"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert counts(gateway.call(answer.call_id)) == COUNTS
    assert recorder.last.query == ""


def test_a_key_in_the_query_opens_the_door_and_goes_no_further(gateway: Daemon, key: str, recorder: Recorder) -> None:
    headers = {
        "x-goog-fieldmask": "candidates",
        "X-HTTP-Method-Override": "GET",
        "X-Vertex-AI-LLM-Shared-Request-Type": "priority",
        "x-goog-user-project": "theirs",
    }
    path = f"/v1/models/echo-1:generateContent?key={key}&fields=candidates&alt=proto&access_token=x"
    answer = gateway.send(path, {"contents": []}, headers=headers)
    assert answer.status == 200
    sent = recorder.last
    assert sent.query == ""
    assert sent.headers["x-goog-api-key"] == recorder.api_key
    assert key not in str(sent)
    assert not [name for name in headers if name in sent.headers]
    assert not any(key in line for line in gateway.log)
    assert counts(gateway.call(answer.call_id)) == COUNTS


@pytest.mark.parametrize("express", [True, False])
def test_the_sdk_in_vertex_mode_comes_the_same_way(
    gateway: Daemon, key: str, recorder: Recorder, express: bool
) -> None:
    options = types.HttpOptions(base_url=gateway.url)
    client = (
        genai.Client(vertexai=True, api_key=key, http_options=options)
        if express
        else genai.Client(
            vertexai=True, project="theirs", location="global", credentials=Credentials(key), http_options=options
        )
    )
    with client:
        answer = client.models.generate_content(model="echo-1", contents="Say hello.")
        chunks = list(client.models.generate_content_stream(model="echo-1", contents="Say hello."))
        assert client.models.embed_content(model="echo-1", contents="one").embeddings[0].statistics.token_count == 100
    (row,) = gateway.calls("--limit", "1", count=1)
    assert (row["endpoint"], counts(row)) == ("predict", (100, 0, 0))
    for one in (answer, chunks[-1]):
        assert counts(gateway.call(call_id(one))) == COUNTS
    assert {sent.path.partition(":")[0] for sent in recorder.sent} == {"/v1/models/echo-1"}


def test_embeddings_are_booked_and_their_model_renamed(gateway: Daemon, user: genai.Client, recorder: Recorder) -> None:
    answer = user.models.embed_content(model="parrot", contents=["one", "two"])
    assert answer.embeddings[0].values == [0.5]
    assert {one["model"] for one in recorder.last.json["requests"]} == {"models/echo-1"}
    (row,) = gateway.calls("--limit", "1", count=1)
    assert (row["endpoint"], counts(row)) == ("batchEmbedContents", (100, 0, 0))


def test_counting_tokens_is_free_and_not_usage(gateway: Daemon, google: Google, recorder: Recorder) -> None:
    user = google(gateway.add_user("google-counter"))
    gateway.here("limit", "set", "--user", "google-counter", "--tokens", "1", "--per", "total")
    assert user.models.count_tokens(model="echo-1", contents="Hello").total_tokens == 100
    (row,) = gateway.calls("--user", "google-counter", count=1)
    assert (row["endpoint"], counts(row), Decimal(row["cost_usd"])) == ("countTokens", (0, 0, 0), 0)


def test_models_are_listed_in_googles_shape(user: genai.Client) -> None:
    assert {"models/parrot", "models/echo-1"} <= {model.name for model in user.models.list()}
    assert user.models.get(model="parrot").name == "models/parrot"
    with pytest.raises(errors.ClientError) as refused:
        user.models.get(model="unheard-of")
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


def test_near_the_end_of_a_limit_the_answer_is_capped(gateway: Daemon, google: Google, recorder: Recorder) -> None:
    user = google(gateway.add_user("google-capped"))
    gateway.here("limit", "set", "--user", "google-capped", "--tokens", "4000", "--per", "total")
    recorder.usage = (100, 20)
    config = types.GenerateContentConfig(max_output_tokens=100_000, seed=1)
    answer = user.models.generate_content(model="echo-1", contents="Say hello.", config=config)
    sent = recorder.last.json["generationConfig"]
    assert 256 <= sent["maxOutputTokens"] < 4000
    assert sent["seed"] == 1
    assert answer.sdk_http_response.headers["x-llmctl-output-capped"] == str(sent["maxOutputTokens"])
    thinking = types.ThinkingConfig(thinking_budget=3900)
    with pytest.raises(errors.ClientError) as refused:
        user.models.generate_content(
            model="echo-1", contents="x", config=types.GenerateContentConfig(thinking_config=thinking)
        )
    assert refused.value.code in (400, 429)
    assert len(recorder.sent) == 1


def test_refusals_are_the_sdks_own_errors(gateway: Daemon, google: Google, user: genai.Client) -> None:
    spent = google(gateway.add_user("google-spent"))
    gateway.here("limit", "set", "--user", "google-spent", "--requests", "1", "--per", "total")
    spent.models.generate_content(model="echo-1", contents="x")
    cases = [
        (spent, "echo-1", 429, "RESOURCE_EXHAUSTED", "INSUFFICIENT_QUOTA"),
        (google("sk-llmctl-unknown"), "echo-1", 401, "UNAUTHENTICATED", "INVALID_API_KEY"),
        (user, "unheard-of", 404, "NOT_FOUND", "MODEL_NOT_FOUND"),
    ]
    for client, model, code, status, reason in cases:
        for stream in (False, True):
            refused = _error(client, model, stream=stream)
            assert (refused.code, refused.status) == (code, status)
            assert refused.details["error"]["details"][0]["reason"] == reason
    assert "limit l" in str(_error(spent))


def _error(client: genai.Client, model: str = "echo-1", *, stream: bool = False) -> errors.ClientError:
    with pytest.raises(errors.ClientError) as refused:
        if stream:
            list(client.models.generate_content_stream(model=model, contents="x"))
        else:
            client.models.generate_content(model=model, contents="x")
    return refused.value


def test_a_providers_error_reaches_the_sdk_as_the_provider_wrote_it(
    gateway: Daemon, user: genai.Client, recorder: Recorder
) -> None:
    body = b'{"error": {"code": 400, "message": "Please use a valid role.", "status": "INVALID_ARGUMENT"}}'
    recorder.reply(body, status=400, content_type="application/json")
    refused = _error(user)
    assert (refused.code, refused.status, refused.message) == (400, "INVALID_ARGUMENT", "Please use a valid role.")
    (row,) = gateway.calls("--limit", "1", count=1)
    assert (row["status"], row["error"], counts(row)) == (400, "provider_400", (0, 0, 0))


def test_a_key_of_ours_that_google_does_not_take_is_not_the_clients_fault(
    gateway: Daemon, user: genai.Client, recorder: Recorder
) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}
    body = gzip.compress(json.dumps({"error": error}, indent=2).encode())
    recorder.reply(body, status=400, content_type="application/json", content_encoding="gzip")
    with pytest.raises(errors.ServerError) as refused:
        user.models.generate_content(model="echo-1", contents="x")
    assert (refused.value.code, refused.value.status) == (502, "UNAVAILABLE")
    assert "key not valid" not in str(refused.value)
    (row,) = gateway.calls("--limit", "1", count=1)
    assert (row["status"], row["error"], counts(row)) == (502, "provider_400", (0, 0, 0))


def test_an_error_in_the_middle_of_a_stream_reaches_the_sdk_and_the_usage_so_far_is_booked(
    gateway: Daemon, user: genai.Client, recorder: Recorder
) -> None:
    begun = {
        "candidates": [{"content": {"parts": [{"text": "Hi"}]}}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2},
    }
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    recorder.reply(
        *(b"data: %b\r\n\r\n" % json.dumps(one).encode() for one in (begun, error)), content_type="text/event-stream"
    )
    with pytest.raises(errors.ServerError):
        list(user.models.generate_content_stream(model="echo-1", contents="x"))
    (row,) = gateway.calls("--limit", "1", count=1)
    assert (row["error"], counts(row)) == ("UNAVAILABLE", (7, 2, 0))


def test_a_blocked_prompt_is_an_answer(gateway: Daemon, user: genai.Client, recorder: Recorder) -> None:
    recorder.reply(
        b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":11,"totalTokenCount":11}}',
        content_type="application/json",
    )
    answer = user.models.generate_content(model="echo-1", contents="x")
    assert answer.prompt_feedback.block_reason == "SAFETY"
    row = gateway.call(call_id(answer))
    assert (row["state"], row["error"], row["usage_source"], counts(row)) == ("settled", None, "reported", (11, 0, 0))


def test_grounding_and_media_are_booked_in_their_classes(
    gateway: Daemon, user: genai.Client, recorder: Recorder
) -> None:
    answer = {
        "candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}, "finishReason": "STOP"}],
        "modelVersion": "gemini-3.5-flash",
        "usageMetadata": {
            "promptTokenCount": 300,
            "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 258}],
            "toolUsePromptTokenCount": 50,
            "cachedContentTokenCount": 40,
            "candidatesTokenCount": 10,
        },
    }
    recorder.reply(json.dumps(answer).encode(), content_type="application/json")
    tools = [types.Tool(google_search=types.GoogleSearch())]
    config = types.GenerateContentConfig(tools=tools)
    row = gateway.call(call_id(user.models.generate_content(model="echo-1", contents="x", config=config)))
    assert (row["input_tokens"], row["cache_read_tokens"], row["input_image_tokens"]) == (350, 40, 258)
    assert row["web_search_calls"] == 2


@pytest.mark.parametrize("path", ["/v1beta/files", "/v1beta/models/echo-1:batchGenerateContent"])
def test_what_cannot_be_metered_is_refused_in_googles_shape(gateway: Daemon, key: str, path: str) -> None:
    answer = gateway.send(path, {}, headers={"x-goog-api-key": key})
    assert answer.status == 404
    assert answer.json["error"]["status"] == "NOT_FOUND"
    assert "not metered yet" in answer.json["error"]["message"]
