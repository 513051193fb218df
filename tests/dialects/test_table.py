"""Which path means what."""

import pytest

from llmctl.dialects.endpoint import Endpoint, Match
from llmctl.dialects.openai.dialect import OPENAI
from llmctl.dialects.table import error_dialect, lookup, named
from llmctl.domain.errors import Refused

ANTHROPIC = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("method", "path", "dialect", "name", "kind", "upstream"),
    [
        ("POST", "/v1/chat/completions", "openai", "chat.completions", "metered", "/chat/completions"),
        ("POST", "/v1/completions", "openai", "completions", "metered", "/completions"),
        ("POST", "/v1/responses", "openai", "responses", "metered", "/responses"),
        ("POST", "/v1/responses/compact", "openai", "responses.compact", "metered", "/responses/compact"),
        ("POST", "/v1/responses/input_tokens", "openai", "responses.input_tokens", "free", "/responses/input_tokens"),
        ("GET", "/v1/responses/resp_1", "openai", "responses.retrieve", "object", "/responses/{id}"),
        ("DELETE", "/v1/responses/resp_1", "openai", "responses.delete", "object", "/responses/{id}"),
        ("POST", "/v1/responses/resp_1/cancel", "openai", "responses.cancel", "object", "/responses/{id}/cancel"),
        (
            "GET",
            "/v1/responses/resp_1/input_items",
            "openai",
            "responses.input_items",
            "object",
            "/responses/{id}/input_items",
        ),
        ("POST", "/v1/embeddings", "openai", "embeddings", "metered", "/embeddings"),
        ("POST", "/v1/messages", "anthropic", "messages", "metered", "/messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic", "messages.count_tokens", "free", "/messages/count_tokens"),
        ("POST", "/v2/chat", "cohere", "cohere.chat", "metered", "/chat"),
        ("POST", "/v2/embed", "cohere", "cohere.embed", "metered", "/embed"),
        ("POST", "/v2/rerank", "cohere", "cohere.rerank", "metered", "/rerank"),
        ("POST", "/api/chat", "ollama", "ollama.chat", "metered", "/chat"),
        ("POST", "/api/generate", "ollama", "ollama.generate", "metered", "/generate"),
        ("POST", "/api/embed", "ollama", "ollama.embed", "metered", "/embed"),
        ("POST", "/api/embeddings", "ollama", "ollama.embeddings", "metered", "/embeddings"),
        ("POST", "/api/show", "ollama", "ollama.show", "free", "/show"),
        ("GET", "/api/tags", "ollama", "models", "local", ""),
        ("GET", "/api/version", "ollama", "version", "local", ""),
        ("GET", "/v1/models", "openai", "models", "local", ""),
        ("GET", "/llmctl/me", "openai", "me", "local", ""),
        ("GET", "/v1beta/models", "gemini", "models", "local", ""),
        ("GET", "/v1beta/models/gemini-x", "gemini", "model", "local", ""),
    ],
)
def test_known_paths(method: str, path: str, dialect: str, name: str, kind: str, upstream: str) -> None:
    endpoint = lookup(method, path, {}).endpoint
    assert (endpoint.dialect.name, endpoint.name, endpoint.kind, endpoint.upstream) == (dialect, name, kind, upstream)


GOOGLE = (
    "/v1/models/",
    "/v1beta/models/",
    "/v1/publishers/google/models/",
    "/v1beta1/publishers/google/models/",
    "/v1/projects/p-1/locations/global/publishers/google/models/",
    "/v1beta1/projects/example.com:p/locations/europe-west1/publishers/google/models/",
)


@pytest.mark.parametrize("path", GOOGLE)
@pytest.mark.parametrize(
    "method",
    ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "countTokens", "predict"],
)
def test_googles_methods_lead_to_the_providers_own_project(path: str, method: str) -> None:
    match = lookup("POST", f"{path}gemini%2Fg-1:{method}", {})
    endpoint = match.endpoint
    assert (endpoint.dialect.name, endpoint.name, match.model) == ("gemini", method, "gemini/g-1")
    assert endpoint.kind == ("free" if method == "countTokens" else "metered")
    assert match.target("g-1") == f"/models/g-1:{method}"
    for key in ("?key=sk-1", "?access_token=x", "?fields=candidates"):
        assert lookup("POST", f"{path}g-1:{method}", {}, key[1:]).target("g-1") == f"/models/g-1:{method}"


def test_a_stream_of_googles_comes_as_events_or_as_a_list_and_in_no_form_that_cannot_be_read() -> None:
    path = "/v1beta/models/g:streamGenerateContent"
    assert lookup("POST", path, {}, "alt=sse&key=sk-1").target("g") == "/models/g:streamGenerateContent?alt=sse"
    assert lookup("POST", path, {}, "%61lt=json").target("g") == "/models/g:streamGenerateContent?alt=json"
    assert (
        lookup("POST", path, {}, "alt=proto&$alt=proto&prettyPrint=false").target("g")
        == "/models/g:streamGenerateContent"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/g:batchGenerateContent",
        "/v1beta/models/g:asyncBatchEmbedContent",
        "/v1beta/models/veo:predictLongRunning",
        "/v1/projects/p/locations/l/publishers/google/models/gemma:serverStreamingPredict",
        "/v1/projects/p/locations/l/publishers/google/models/g:rawPredict",
        "/v1beta/files",
        "/upload/v1beta/files",
        "/v1beta/files/abc",
        "/v1beta/cachedContents",
        "/v1beta/interactions",
        "/v1beta/batches/1",
    ],
)
def test_what_google_bills_and_we_cannot_meter_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="not metered yet") as caught:
        lookup("POST", path, {})
    assert caught.value.code == "not_supported"
    assert error_dialect(path, {}).name == "gemini"


def test_models_belong_to_the_dialect_that_the_header_tells() -> None:
    assert lookup("GET", "/v1/models", ANTHROPIC).endpoint.dialect.name == "anthropic"
    assert lookup("GET", "/v1/models", {"x-goog-api-key": "k"}).endpoint.dialect.name == "gemini"
    match = lookup("GET", "/v1/models/vendor/m-1.5:free", ANTHROPIC)
    assert (match.endpoint.dialect.name, match.model) == ("anthropic", "vendor/m-1.5:free")
    assert lookup("GET", "/v1/models/gpt-5", {}).model == "gpt-5"
    assert lookup("GET", "/v1/models/vendor%2Fm-1.5%3Afree", {}).model == "vendor/m-1.5:free"  # as the SDKs write it


def test_a_target_holds_the_upstream_model_and_the_parameters_that_may_pass() -> None:
    endpoint = Endpoint(OPENAI, "x", "metered", ("POST",), "/models/{model}:do", ("alt",))
    assert Match(endpoint, "m").target("a/b c?d") == "/models/a/b%20c%3Fd:do"
    assert Match(endpoint, "m", query="?alt=sse").target("m") == "/models/m:do?alt=sse"
    assert lookup("POST", "/v1/chat/completions", {}, "key=sk-1&alt=sse").target("m") == "/chat/completions"


def test_what_is_asked_about_a_stored_response_goes_on_with_its_id_and_the_parameters_that_may_pass() -> None:
    match = lookup("GET", "/v1/responses/resp_1", {}, "stream=true&starting_after=7&include[]=a&include[]=b&x=1")
    assert match.target("m") == "/responses/resp_1?stream=true&starting_after=7&include%5B%5D=a&include%5B%5D=b"
    assert match.streams
    match = lookup("GET", "/v1/responses/resp_1/input_items", {}, "after=msg_1&before=msg_9&limit=2&order=asc&key=sk")
    assert match.target("m") == "/responses/resp_1/input_items?after=msg_1&before=msg_9&limit=2&order=asc"
    match = lookup("POST", "/openai/v1/responses/resp_1/cancel", {}, "api-version=preview&x=1")
    assert (match.endpoint.dialect.name, match.target("m")) == (
        "azure",
        "/v1/responses/resp_1/cancel?api-version=preview",
    )
    assert lookup("GET", "/openai/responses/resp_1", {}).target("m") == "/responses/resp_1"
    assert named("azure", "responses.retrieve").upstream == "/v1/responses/{id}"
    with pytest.raises(Refused) as caught:
        lookup("PUT", "/v1/responses/resp_1", {})
    assert caught.value.facts == {"allow": "GET, DELETE"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/files/file_1/content",
        "/v1/batches",
        "/v1/images/enlarged",
        "/v1/audio/voices",
        "/v1/realtime",
        "/v1/realtime/sessions",
        "/v1/fine_tuning/jobs",
        "/v1/assistants",
        "/v1/threads/thread_1/runs",
        "/v1/vector_stores",
        "/v1/responses/resp_1/unknown",
        "/v1/responses/resp_1/cancel/x",
        "/v1/chat/completions/c_1",
        "/v1/messages/batches",
    ],
)
def test_what_is_not_metered_is_refused_with_a_reason(path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        with pytest.raises(Refused) as caught:
            lookup(method, path, {})
        assert caught.value.code == "not_supported"
        assert path in caught.value.message
    assert error_dialect(path, {}).name == ("anthropic" if "messages" in path else "openai")


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        *(("cohere", path) for path in ("/v1/chat", "/v1/embed", "/v1/generate", "/v1/embed-jobs/1", "/v2/parse")),
        *(
            ("ollama", path)
            for path in ("/api/pull", "/api/delete", "/api/ps", "/api/blobs/sha256:0a", "/api/web_search")
        ),
    ],
)
def test_what_is_a_dialects_own_is_refused_in_its_shape(dialect: str, path: str) -> None:
    with pytest.raises(Refused) as caught:
        lookup("POST", path, {})
    assert caught.value.code == "not_supported"
    assert error_dialect(path, {}).name == dialect


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/v1/unknown",
        "/chat/completions",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/chat/completions/..",
        "/v1/chat%2fcompletions",
        "/v1/chat/completions%00",
        "/V1/chat/completions",
        "/v1/chat/completions?x=1",
        "http://api.example.com/v1/chat/completions",
        "/v1/files/../chat/completions",
        "/v1/models/",
        "/v1/models/..",
        "/v1/models/a//b",
        "/v1/models/a/../b",
        "/v1/models/a%2f..%2fb",
        "/v1/models/a%252fb",
        "/v1/models/a%00",
        "/v1/models%2fa",
        "/v1/models/" + "x" * 400,
        "/v1/modelsx",
        "/v1beta",
        "/v1beta/models/",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/:generateContent",
        "/v1beta/models%2fa%00:generateContent",
        "/v1beta/chat/completions",
        "/v1/projects/p/../locations/l/publishers/google/models/a:generateContent",
        "/v1/projects/p/locations/l/publishers/anthropic/models/a:generateContent",
        "/v1/projects/p/locations/l/endpoints/1:generateContent",
        "/v1/" + "x/" * 10_000,
    ],
)
def test_any_other_path_is_unknown(path: str) -> None:
    with pytest.raises(Refused) as caught:
        lookup("POST", path, {})
    assert caught.value.code == "path_not_found"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "post", "X" * 1000])
def test_other_methods_are_refused_and_told_which_is_right(method: str) -> None:
    with pytest.raises(Refused) as caught:
        lookup(method, "/v1/chat/completions", {})
    assert caught.value.code == "method_not_allowed"
    assert caught.value.facts == {"allow": "POST"}
    assert len(caught.value.message) < 100


def test_errors_for_unknown_paths_take_the_shape_of_the_client() -> None:
    assert error_dialect("/v2/nowhere", {}).name == "cohere"
    assert error_dialect("/api/nowhere", {}).name == "ollama"
    assert error_dialect("/model/m/nowhere", {}).name == "bedrock"
    assert error_dialect("/nowhere", {}).name == "openai"
    assert error_dialect("/nowhere", ANTHROPIC).name == "anthropic"
    assert error_dialect("/nowhere", {"x-api-key": "k"}).name == "anthropic"
    assert error_dialect("/nowhere", {"x-goog-api-key": "k"}).name == "gemini"
    assert error_dialect("/v1beta/nowhere", {}).name == "gemini"
    assert error_dialect("/v1/projects/p/nowhere", {}).name == "gemini"
    assert error_dialect("/v1/chat/completions", {"x-api-key": "k"}).name == "openai"
    assert error_dialect("/v1/messages", {}).name == "anthropic"
    assert error_dialect("/v1/files", ANTHROPIC).name == "anthropic"  # both have one, and neither passes
    assert error_dialect("/v1/files", {}).name == "openai"
