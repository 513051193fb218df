"""What passes between client and provider, and what does not: headers, credentials, request bodies."""

from __future__ import annotations

import json

import pytest

from tests.support.daemon import Daemon

from .recorder import Recorder

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO = {"model": "echo-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def test_unknown_request_headers_reach_the_provider(gateway: Daemon, key: str, recorder: Recorder) -> None:
    headers = {
        "User-Agent": "agent/9",
        "X-Stainless-Lang": "python",
        "OpenAI-Beta": "assistants=v2",
        "anthropic-beta": "context-1m",
        "Idempotency-Key": "once",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Something-New": "yes",
        "Accept": "application/json",
    }
    assert gateway.send(CHAT, HELLO, key=key, headers=headers).status == 200
    assert {name: recorder.last.headers.get(name) for name in headers} == headers
    assert recorder.last.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key", "?key="])
def test_the_providers_credential_takes_the_place_of_the_clients_key(
    gateway: Daemon, key: str, recorder: Recorder, name: str
) -> None:
    path = f"{CHAT}?key={key}&api-version=1" if name == "?key=" else CHAT
    shown = f"Bearer {key}" if name == "Authorization" else key
    answer = gateway.send(path, HELLO, headers={} if name == "?key=" else {name: shown})
    assert answer.status == 200
    sent = recorder.last
    assert sent.headers.getall("Authorization") == [f"Bearer {recorder.api_key}"]
    assert key not in str((sent.path, sent.headers, sent.body))
    assert key.encode() not in answer.body and key not in str(answer.headers)


def test_messages_show_the_credential_as_anthropic_wants_it(gateway: Daemon, key: str, recorder: Recorder) -> None:
    assert gateway.send(MESSAGES, HELLO, key=key).status == 200
    assert recorder.last.headers["x-api-key"] == recorder.api_key
    assert recorder.last.headers["anthropic-version"] == "2023-06-01"  # the client sent none
    assert "Authorization" not in recorder.last.headers
    assert key not in str(recorder.last.headers)
    gateway.send(MESSAGES, HELLO, key=key, headers={"anthropic-version": "2099-01-01"})
    assert recorder.last.headers.getall("anthropic-version") == ["2099-01-01"]


def test_what_identifies_the_client_or_another_account_stays_here(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    headers = {
        "Cookie": "session=1",
        "OpenAI-Organization": "org-mine",
        "OpenAI-Project": "proj-mine",
        "x-goog-user-project": "mine",
        "anthropic-workspace-id": "mine",
        "anthropic-user-profile-id": "mine",
        "X-Forwarded-For": "10.1.2.3",
        "Forwarded": "for=10.1.2.3",
        "X-Real-IP": "10.1.2.3",
        "X-Forwarded-Port": "443",
        "CF-Connecting-IP": "10.1.2.3",
        "True-Client-IP": "10.1.2.3",
        "Anthropic-Organization-Id": "mine",
        "Via": "1.1 office",
        "Proxy-Authorization": "Basic eDp5",
        "TE": "trailers",
        "x-llmctl-tags": "secret-project",
        "Connection": "x-hop",
        "X-Hop": "one hop only",
    }
    assert gateway.send(CHAT, HELLO, key=key, headers=headers).status == 200
    arrived = recorder.last.headers
    assert [name for name in headers if name in arrived and name != "Connection"] == []
    assert "x-hop" not in arrived.get("Connection", "")
    assert arrived["Host"] in recorder.base_url


def test_response_headers_pass_but_for_the_organisations_own(gateway: Daemon, key: str, recorder: Recorder) -> None:
    recorder.reply(
        b'{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}',
        content_type="application/json",
        x_request_id="req_provider",
        openai_processing_ms="12",
        x_ratelimit_remaining_requests="7",
        x_new_header="kept",
        set_cookie="__cf_bm=1",
        set_cookie2="__cf_bm=1",
        openai_organization="org-secret",
        openai_project="proj-secret",
        anthropic_organization_id="org-secret",
        x_llmctl_output_capped="1",
    )
    answer = gateway.send(CHAT, HELLO, key=key)
    assert answer.headers["x-request-id"] == "req_provider"
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["x-ratelimit-remaining-requests"] == "7"
    assert answer.headers["x-new-header"] == "kept"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.call_id.startswith("c_")
    shown = {name.lower() for name in answer.headers}
    assert shown.isdisjoint(
        {
            "set-cookie",
            "set-cookie2",
            "openai-organization",
            "openai-project",
            "anthropic-organization-id",
            "x-llmctl-output-capped",
        }
    )


def test_a_stream_has_the_headers_too(gateway: Daemon, key: str, recorder: Recorder) -> None:
    recorder.reply(
        b"data: [DONE]\n\n", content_type="text/event-stream; charset=utf-8", request_id="req_s", set_cookie="a"
    )
    answer = gateway.send(CHAT, {**HELLO, "stream": True}, key=key)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["request-id"] == "req_s"
    assert answer.call_id.startswith("c_")
    assert "Set-Cookie" not in answer.headers


ODD_BODY = (
    b'{ "messages":[{"role":"user","content":"caf\\u00e9 \xf0\x9f\x98\x80 \\/"}],\r\n\t"model" : "parrot" ,'
    b'"temperature":0.70, "x_new": {"a":[1E3, -0.0, 12345678901234567890, null], "model":"parrot"}, "max_tokens":10 }\n'
)


def test_a_request_passes_byte_for_byte_but_for_the_models_name(gateway: Daemon, key: str, recorder: Recorder) -> None:
    assert gateway.send(CHAT, ODD_BODY, key=key).status == 200
    assert recorder.last.body == ODD_BODY.replace(b'"parrot"', b'"echo-1"', 1)
    routed = ODD_BODY.replace(b'"parrot"', b'"echo-1"', 1)
    assert gateway.send(CHAT, routed, key=key).status == 200
    assert recorder.last.body == routed


@pytest.mark.parametrize("options", [b"", b'"stream_options":{"x":1},', b'"stream_options": null,'])
def test_of_a_stream_only_the_usage_option_is_added(
    gateway: Daemon, key: str, recorder: Recorder, options: bytes
) -> None:
    body = ODD_BODY.replace(b'"parrot"', b'"echo-1"', 1).replace(b"{ ", b'{ "stream":true,' + options, 1)
    assert gateway.send(CHAT, body, key=key).status == 200
    asked, sent = json.loads(body), recorder.last.json
    assert sent.pop("stream_options") == {**(asked.pop("stream_options", None) or {}), "include_usage": True}
    assert sent == asked
    assert recorder.last.body.endswith(ODD_BODY.partition(b'"temperature"')[2])


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/responses", MESSAGES])
def test_unknown_fields_pass_on_every_endpoint(gateway: Daemon, key: str, recorder: Recorder, path: str) -> None:
    body = b'{"model":"echo-1","max_tokens":9,"max_output_tokens":16,"messages":[],"input":"x","prompt":"x","z":[ 1]}'
    assert gateway.send(path, body, key=key).status == 200
    assert recorder.last.body == body
    assert recorder.last.path == path


def test_a_stream_whose_usage_was_asked_for_passes_byte_for_byte(gateway: Daemon, key: str, recorder: Recorder) -> None:
    body = json.dumps({**HELLO, "stream": True, "stream_options": {"include_usage": True}}).encode()
    gateway.send(CHAT, body, key=key, headers={"Accept-Encoding": "gzip, br, dcz, zstd"})
    assert recorder.last.body == body
    assert recorder.last.headers["Accept-Encoding"] == "gzip, br, zstd"  # what metering can read


def test_a_stream_whose_usage_the_gateway_asks_for_must_come_uncompressed(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    gateway.send(CHAT, {**HELLO, "stream": True}, key=key, headers={"Accept-Encoding": "gzip, br"})
    assert recorder.last.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("application/json; charset=UTF-8", "application/json; charset=UTF-8"),
        ('application/json; version=2; charset="utf-8"', 'application/json; version=2; charset="utf-8"'),
        ("application/json; charset=utf-7", "application/json"),
        ("application/json; charset=utf-8; charset=utf-16", "application/json"),
        ("application/x-www-form-urlencoded", "application/json"),
        ("text/plain", "application/json"),
    ],
)
def test_what_was_judged_as_json_is_sent_as_json(
    gateway: Daemon, key: str, recorder: Recorder, said: str, sent: str
) -> None:
    assert gateway.send(CHAT, HELLO, key=key, headers={"Content-Type": said}).status == 200
    assert recorder.last.headers.getall("Content-Type") == [sent]
