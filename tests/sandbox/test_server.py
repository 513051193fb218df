"""The server itself: credentials, bad input, clients that leave, start and stop."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import aiohttp
import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from llmctl import tokenizer
from llmctl.sandbox import Sandbox, app, chat
from tests.sandbox.conftest import CREDENTIAL

BEARER = {"Authorization": f"Bearer {CREDENTIAL}"}
ASK = {"model": "sandbox-small", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url) as session:
        yield session


async def test_a_bad_credential_is_an_authentication_error_in_both_dialects(url: str) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as openai:
        with pytest.raises(openai_sdk.AuthenticationError) as refused:
            await openai.chat.completions.create(**ASK)
        assert refused.value.code == "invalid_api_key"
    async with AsyncAnthropic(base_url=url, api_key="wrong", max_retries=0) as anthropic:
        with pytest.raises(anthropic_sdk.AuthenticationError) as rejected:
            await anthropic.messages.create(**ASK, max_tokens=5)
        assert rejected.value.body["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": CREDENTIAL}, {"Authorization": f"bearer {CREDENTIAL}"}])
async def test_the_credential_is_taken_where_either_sdk_puts_it(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for path, body in ((CHAT, ASK), ("/v1/messages", {**ASK, "max_tokens": 5})):
        async with http.post(path, json=body, headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": CREDENTIAL},
        {"Authorization": "Bearer "},
        {"x-api-key": "schlüssel"},
        {"x-api-key": ""},
    ],
    ids=["none", "no scheme", "empty bearer", "not ASCII", "empty"],
)
async def test_without_the_credential_nothing_is_answered(http: aiohttp.ClientSession, headers: dict[str, str]) -> None:
    for path in (CHAT, "/v1/models", "/nowhere"):
        async with http.post(path, data=b"not even JSON", headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"]["code"] == "invalid_api_key"
            assert CREDENTIAL not in await answer.text()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"model": "sandbox-small"',
        b'{"model": NaN}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800 lone"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "sandbox-small", "tools": ' + b"[" * 100_000,
        b"\x00" * 1000,
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("path", sorted(app.ENDPOINTS))
async def test_what_is_not_a_request_is_refused_in_the_dialect(
    http: aiohttp.ClientSession, path: str, body: bytes
) -> None:
    async with http.post(path, data=body, headers=BEARER) as answer:
        document = await answer.json()
        assert answer.status == 400
        assert document["error"]["type"] == "invalid_request_error"
        assert ("type" in document) == path.startswith("/v1/messages")
        assert "Traceback" not in await answer.text()


async def test_bytes_that_are_no_utf8_inside_a_tool_do_no_harm(http: aiohttp.ClientSession) -> None:
    body = json.dumps({**ASK, "tools": [{"name": "MARK"}]}).encode().replace(b"MARK", b"\xff\xfe")
    async with http.post(CHAT, data=body, headers=BEARER) as answer:
        assert answer.status == 200


async def test_a_body_that_is_too_large_is_refused_and_the_server_goes_on(
    http: aiohttp.ClientSession,
) -> None:
    async with http.post("/v1/messages", data=BytesIO(b" " * (app.BODY_BYTES_MAX + 1)), headers=BEARER) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["type"] == "request_too_large"
    bomb = gzip.compress(b" " * (app.BODY_BYTES_MAX + 1))
    async with http.post(CHAT, data=bomb, headers={**BEARER, "Content-Encoding": "gzip"}) as answer:
        assert answer.status == 413
    async with http.post(CHAT, json=ASK, headers=BEARER) as answer:
        assert answer.status == 200


async def test_a_gzipped_body_is_read_and_a_broken_one_refused(http: aiohttp.ClientSession) -> None:
    headers = {**BEARER, "Content-Encoding": "gzip"}
    async with http.post(CHAT, data=gzip.compress(json.dumps(ASK).encode()), headers=headers) as answer:
        assert answer.status == 200
    async with http.post(CHAT, data=b"no gzip at all", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_unknown_paths_and_methods_are_refused_in_the_dialect(http: aiohttp.ClientSession) -> None:
    version = {"anthropic-version": "2023-06-01"}
    async with http.get("/v1/files", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "unknown_url")
    async with http.get("/v1/files", headers={**BEARER, **version}) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (404, "not_found_error")
    async with http.get(CHAT, headers=BEARER) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    async with http.request("DELETE", "/v1/messages", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["type"]) == (405, "error")


async def test_a_fault_of_ours_is_a_500_without_a_traceback(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chat, "_read_prompt", lambda request: 1 / 0)
    with caplog.at_level(logging.ERROR):
        async with http.post(CHAT, json=ASK, headers=BEARER) as answer:
            assert answer.status == 500
            assert (await answer.json())["error"]["type"] == "server_error"
            assert "ZeroDivision" not in await answer.text()
    assert "ZeroDivisionError" in caplog.text


async def test_a_fault_of_ours_in_a_stream_ends_it_visibly_unfinished(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames = chat._frames

    def break_off(*arguments: object) -> object:
        yield next(frames(*arguments))
        raise ZeroDivisionError

    monkeypatch.setattr(chat, "_frames", break_off)
    with pytest.raises(aiohttp.ClientError):
        async with http.post(CHAT, json={**ASK, "stream": True}, headers=BEARER) as answer:
            await answer.read()
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_leaves_in_mid_stream_or_mid_request_leaves_no_trace(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({**ASK, "stream": True, "messages": [{"role": "user", "content": "5000 words"}]}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CREDENTIAL}\r\n"
    for announced, sent in ((len(body), body), (len(body) + 9, body)):
        reader, writer = await asyncio.open_connection(host, int(port))
        with closing(writer):
            writer.write(f"{head}Content-Length: {announced}\r\n\r\n".encode() + sent)
            await writer.drain()
            if announced == len(sent):
                await reader.readline()
            await asyncio.sleep(0.05)
        await writer.wait_closed()
    await asyncio.sleep(0.2)
    assert caplog.text == ""
    async with aiohttp.ClientSession(url) as http, http.post(CHAT, json=ASK, headers=BEARER) as answer:
        assert answer.status == 200


async def test_a_prompt_never_appears_in_a_log(http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for content in ("my secret plan", ["my secret plan"], {"my secret plan": 1}):
            body = {**ASK, "messages": [{"role": "user", "content": content}]}
            async with http.post(CHAT, json=body, headers=BEARER) as answer:
                await answer.read()
    assert "secret" not in caplog.text


async def test_counting_a_large_prompt_does_not_hold_up_others(http: aiohttp.ClientSession) -> None:
    large = {**ASK, "messages": [{"role": "user", "content": "a" * 3_000_000}]}
    waiting = asyncio.create_task(http.post(CHAT, data=BytesIO(json.dumps(large).encode()), headers=BEARER))
    slowest_s = 0.0
    while not waiting.done():
        began = time.monotonic()
        async with http.get("/v1/models", headers=BEARER) as answer:
            assert answer.status == 200
        slowest_s = max(slowest_s, time.monotonic() - began)
    answer = await waiting
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "context_length_exceeded")
    assert slowest_s < 0.5


async def test_a_stream_takes_its_time_when_told_to(tmp_path: Path) -> None:
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox", delay_s=0.01)
    url = await sandbox.start()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=CREDENTIAL) as openai:
        began = time.monotonic()
        stream = await openai.chat.completions.create(**ASK, stream=True)
        arrivals = [time.monotonic() - began async for _ in stream]
    await sandbox.stop()
    assert arrivals[-1] >= 0.01 * (len(arrivals) - 1)
    assert arrivals[0] < arrivals[-1] / 2


async def test_stop_ends_open_streams_soon_and_may_be_called_twice(tmp_path: Path) -> None:
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox", delay_s=0.5)
    url = await sandbox.start()
    async with aiohttp.ClientSession(url) as http:
        answer = await http.post(CHAT, json={**ASK, "stream": True}, headers=BEARER)
        began = time.monotonic()
        await sandbox.stop()
        assert time.monotonic() - began < 5
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
        with pytest.raises(aiohttp.ClientError):
            await http.get("/v1/models", headers=BEARER)
    await sandbox.stop()


async def test_it_starts_again_after_a_stop_and_says_where(tmp_path: Path) -> None:
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox")
    first = await sandbox.start()
    port = int(first.rpartition(":")[2])
    await sandbox.stop()
    assert await sandbox.start(port=port) == first
    with pytest.raises(OSError, match="in use"):
        await Sandbox(CREDENTIAL, tmp_path / "sandbox").start(port=port)
    await sandbox.stop()


async def test_a_vocabulary_that_cannot_be_prepared_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tokenizer, "_encodings", {})
    monkeypatch.setattr(tokenizer, "_directory", tmp_path / "file" / "vocabularies")
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox")
    with pytest.raises(tokenizer.TokenizerError, match="make the directory writable"):
        await sandbox.start()
    await sandbox.stop()
