"""Vertex AI behind the gateway: the project that pays is ours, and tokens are bought with a service account."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qs

import pytest
from google import genai
from google.genai import errors, types

from tests.support.daemon import Daemon
from tests.support.service_account import key_file

from .recorder import Recorder

OURS = "/v1/projects/ours/locations/europe-west1/publishers/google"
TOKEN = {"access_token": "ya29.of-google", "expires_in": 3599, "token_type": "Bearer"}


@pytest.fixture(scope="module")
def tokens() -> Iterator[Recorder]:
    """Where Google gives tokens in these tests."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def vertex(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder, tokens: Recorder) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("vertex")
    (directory / "account.json").write_text(key_file(f"{tokens.base_url}/token"))
    (directory / "token").write_text("ya29.static\n")
    root = running_recorder.base_url.removesuffix("/v1")
    providers = f"""
[providers.vertex]
base_url = "{root}{OURS}"
service_account_file = "account.json"

[providers.static]
preset = "vertex"
base_url = "{root}{OURS}"
credential_file = "token"
models = []
"""
    with Daemon(directory, providers) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def key(vertex: Daemon) -> str:
    return vertex.add_user("vera")


def client(vertex: Daemon, key: str) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=vertex.url))


def test_a_token_is_bought_once_and_shown_and_a_failure_says_no_secret(
    vertex: Daemon, key: str, recorder: Recorder, tokens: Recorder
) -> None:
    tokens.reset()
    tokens.reply(b'{"error":"invalid_grant","error_description":"Invalid JWT: sig"}', status=400)
    with client(vertex, key) as user:
        with pytest.raises(errors.ServerError) as refused:
            user.models.generate_content(model="gemini-2.5-flash", contents="Say hello.")
        assert refused.value.code == 502
        assert "JWT" not in str(refused.value)
        assert not recorder.sent
        (row,) = vertex.calls("-n", "1", count=1)
        assert row["state"] == "released"
        tokens.reply(json.dumps(TOKEN).encode(), content_type="application/json")
        for _ in range(200):  # it is not asked for again at once
            with suppress(errors.ServerError):
                user.models.generate_content(model="gemini-2.5-flash", contents="Say hello.")
                break
            time.sleep(0.05)
        list(user.models.generate_content_stream(model="gemini-2.5-flash", contents="Say hello."))
    assert [sent.path for sent in recorder.sent] == [
        f"{OURS}/models/gemini-2.5-flash:generateContent",
        f"{OURS}/models/gemini-2.5-flash:streamGenerateContent",
    ]
    assert [sent.headers["authorization"] for sent in recorder.sent] == ["Bearer ya29.of-google"] * 2
    assert not any("x-goog-api-key" in sent.headers or key in str(sent) for sent in recorder.sent)
    assert len(tokens.sent) == 2
    assert parse_qs(tokens.sent[-1].body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert not any("assertion" in line or "PRIVATE" in line or "ya29" in line for line in vertex.log)


def test_whatever_project_a_client_names_ours_pays(vertex: Daemon, key: str, recorder: Recorder) -> None:
    path = (
        "/v1beta1/projects/theirs/locations/global/publishers/google/models/static%2Fgemini-2.5-flash:generateContent"
    )
    answer = vertex.send(path, {"contents": []}, key=key)
    assert answer.status == 200
    assert recorder.last.path == f"{OURS}/models/gemini-2.5-flash:generateContent"
    assert recorder.last.headers["authorization"] == "Bearer ya29.static"
    row = vertex.call(answer.call_id)
    assert (row["provider"], row["model"], row["input_tokens"]) == ("static", "gemini-2.5-flash", 100)


def test_the_providers_are_asked_with_a_token(vertex: Daemon, tokens: Recorder, recorder: Recorder) -> None:
    tokens.reply(json.dumps(TOKEN).encode(), content_type="application/json")
    rows = {row["provider"]: row for row in vertex.json("provider", "check")}
    assert {name: row["state"] for name, row in rows.items()} == {"vertex": "ok", "static": "ok"}
    tokens.reply(b'{"error":"invalid_grant"}', status=400)
    checked = vertex.llmctl("provider", "check", "vertex", check=False)
    assert checked.returncode == 1
    assert "gives no token: invalid_grant" in checked.stdout + checked.stderr
