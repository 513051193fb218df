"""Requests that are wrong, hostile or hardly HTTP: a clear error in the dialect's shape, nothing sent, nothing told."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import CREDENTIAL, Faulty, fine, wait_until
from tests.support.wire import CHAT, MESSAGES, PROMPT, Reply, Wire, ask, chunked, post, request_bytes

GOOD = json.dumps(ask("fine/m")).encode()
BIG = b"x" * (1 << 20)


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty({"fine": fine}) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, faulty: Faulty) -> Iterator[Daemon]:
    """At the end of all this the daemon stands, and its log tells no secret and no surprise."""
    directory = tmp_path_factory.mktemp("bad_input")
    server = "[server.timeouts]\nclient_body_stall_s = 0.5"
    daemon = Daemon(directory, faulty.providers(directory), server=server)
    daemon.start()
    try:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon
    finally:
        status = daemon.stop()
    log = "".join(daemon.log)
    assert status == 0, log
    for told in ("Traceback", "Error", CREDENTIAL, "sk-llmctl-", PROMPT):
        assert told not in log


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    return gateway.add_user("alice")


@pytest.fixture(scope="module")
def other_key(gateway: Daemon) -> str:
    return gateway.add_user("bob")


@pytest.fixture(scope="module")
def silent(gateway: Daemon) -> Iterator[dict[str, Wire]]:
    """Connections that say nothing, or never end a line: opened first, looked at last."""
    wires = {"nothing": Wire(gateway.url), "half a head": Wire(gateway.url), "a drip": Wire(gateway.url)}
    wires["half a head"].send(f"POST {CHAT} HTTP/1.1\r\nHost: gateway\r\nAuthoriz".encode())
    yield wires
    for wire in wires.values():
        wire.socket.close()


@pytest.fixture(autouse=True)
def goes_on(gateway: Daemon, faulty: Faulty, key: str, silent: dict[str, Wire]) -> Iterator[None]:
    """After each test the next request of somebody decent is served, and no call is open."""
    yield
    faulty.clear()
    assert post(gateway.url, CHAT, GOOD, key).status == 200
    assert len(faulty.seen("fine")) == 1


def assert_refused(reply: Reply, status: int, code: str, *, path: str = CHAT, secrets: tuple[str, ...] = ()) -> None:
    """An error of ours, in the shape of the path's dialect, that repeats no secret."""
    assert (reply.status, reply.cut) == (status, False), reply
    error = reply.error
    if path == MESSAGES:
        assert json.loads(reply.body)["request_id"] == reply.headers["request-id"]
        assert "code" not in error
    else:
        assert error["code"] == code
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-llmctl-call-id"].startswith("c_")
    for secret in (*secrets, PROMPT, CREDENTIAL):
        assert secret not in reply.body.decode()


# ---- bodies ----

BODIES = {
    "not json": b"hello",
    "empty": b"",
    "white": b" \n ",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"model"',
    "nothing in it": b"{}",
    "truncated": GOOD[:-1],
    "twice": GOOD + GOOD,
    "trailing": GOOD + b"garbage",
    "NUL bytes": b"\0" * 100,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "not UTF-8": GOOD.replace(b"PROMPT", b"\xff\xfe"),
    "NaN": b'{"model": "fine/m", "temperature": NaN, "messages": []}',
    "Infinity": b'{"model": "fine/m", "temperature": -Infinity, "messages": []}',
    "no model": b'{"messages": []}',
    "model null": b'{"model": null, "messages": []}',
    "model empty": b'{"model": "", "messages": []}',
    "model a blank": b'{"model": " ", "messages": []}',
    "model a number": b'{"model": 5, "messages": []}',
    "model a list": b'{"model": ["fine/m"], "messages": []}',
    "model an object": b'{"model": {"a": "fine/m"}, "messages": []}',
    "model with NUL": rb'{"model": "fine/m\u0000", "messages": []}',
    "model with escapes": rb'{"model": "fine/m\u001b[31m\r\n", "messages": []}',
    "model turned around": '{"model": "fine/m\u202e", "messages": []}'.encode(),
    "model with a lone surrogate": rb'{"model": "fine/m\ud800", "messages": []}',
    "model of 201 characters": json.dumps(ask("fine/" + "m" * 196)).encode(),
    "model of a megabyte": json.dumps(ask("fine/" + "m" * (1 << 20))).encode(),
    "lone surrogate in the prompt": rb'{"model": "fine/m", "messages": [{"role": "user", "content": "\ud800"}]}',
    "lone surrogate in the user": rb'{"model": "fine/m", "user": "\udfff", "messages": []}',
    "model twice": b'{"model": "fine/m", "model": "other/m", "messages": []}',
    "model twice, escaped": rb'{"model": "fine/m", "mo\u0064el": "other/m", "messages": []}',
    "maximum twice": b'{"model": "fine/m", "max_tokens": 1, "max_tokens": 9999, "messages": []}',
    "maximum in capitals": b'{"model": "fine/m", "MAX_TOKENS": 9999, "messages": []}',
    "model in capitals": b'{"model": "fine/m", "Model": "other/m", "messages": []}',
    "maximum a string": b'{"model": "fine/m", "max_tokens": "5", "messages": []}',
    "maximum a float": b'{"model": "fine/m", "max_tokens": 1e9, "messages": []}',
    "maximum true": b'{"model": "fine/m", "max_tokens": true, "messages": []}',
    "maximum negative": b'{"model": "fine/m", "max_tokens": -1, "messages": []}',
    "maximum of 5,000 digits": b'{"model": "fine/m", "max_tokens": ' + b"9" * 5_000 + b', "messages": []}',
    "stream a string": b'{"model": "fine/m", "stream": "yes", "messages": []}',
    "stream a number": b'{"model": "fine/m", "stream": 1, "messages": []}',
    "100,000 brackets": b'{"model": "fine/m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 braces": b'{"model": "fine/m", "messages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "100,000 open brackets": b"[" * 100_000,
    "a million members": b'{"model": "fine/m"' + b"".join(b',"%x":0' % n for n in range(1_000_000)) + b"}",
}
CHAT_BODIES = {
    "choices a string": b'{"model": "fine/m", "n": "3", "messages": []}',
    "a billion choices": b'{"model": "fine/m", "n": 1000000000, "messages": []}',
    "stream options a string": b'{"model": "fine/m", "stream": true, "stream_options": "all", "messages": []}',
    "usage option twice": b'{"model": "fine/m", "messages": [], "stream": true, '
    b'"stream_options": {"include_usage": true, "include_usage": false}}',
}


@pytest.mark.parametrize("path", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_cannot_be_judged_is_refused(
    gateway: Daemon, faulty: Faulty, key: str, body: bytes, path: str
) -> None:
    faulty.clear()
    assert_refused(post(gateway.url, path, body, key), 400, "bad_request", path=path)
    assert faulty.seen("fine") == []


@pytest.mark.parametrize("body", CHAT_BODIES.values(), ids=CHAT_BODIES)
def test_a_field_that_decides_money_must_be_clear(gateway: Daemon, faulty: Faulty, key: str, body: bytes) -> None:
    faulty.clear()
    assert_refused(post(gateway.url, CHAT, body, key), 400, "bad_request")
    assert faulty.seen("fine") == []


@pytest.mark.parametrize("model", ["gpt-nobody-knows", "/", "fine", "nowhere/m", "fine//../m\u00e9?x#y"])
def test_an_unknown_model_reaches_no_provider_that_it_does_not_name(
    gateway: Daemon, faulty: Faulty, key: str, model: str
) -> None:
    faulty.clear()
    for path in (CHAT, MESSAGES):
        reply = post(gateway.url, path, ask(model, path=path), key)
        if model.startswith("fine/"):  # whatever follows is the provider's to know, in the body and nowhere else
            assert reply.status == 200
            assert faulty.last("fine").path == path
        else:
            assert_refused(reply, 404, "model_not_found", path=path)
            assert faulty.seen("fine") == []


def test_a_body_of_100_megabytes_is_refused_before_it_is_read(gateway: Daemon, key: str) -> None:
    before = resident_bytes(gateway)
    began_s = time.monotonic()
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, b"", key, length=100 << 20))
        assert_refused(wire.reply(), 413, "body_too_large")
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(MESSAGES, b"", key, length=100 << 20))
        reply = wire.reply()
        assert_refused(reply, 413, "body_too_large", path=MESSAGES)
        assert reply.error["type"] == "request_too_large"
    assert time.monotonic() - began_s < 1
    assert resident_bytes(gateway) - before < 8 << 20


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_a_body_of_100_megabytes_sent_in_full_gets_its_answer(gateway: Daemon, key: str, announced: bool) -> None:
    before = resident_bytes(gateway)
    began_s = time.monotonic()
    with Wire(gateway.url) as wire:
        if announced:
            wire.send(request_bytes(CHAT, b"", key, length=100 << 20))
            piece = BIG
        else:
            head = request_bytes(CHAT, b"", key, "Transfer-Encoding: chunked")
            wire.send(head.replace(b"Content-Length: 0\r\n", b""))
            piece = b"%x\r\n%b\r\n" % (len(BIG), BIG)
        with suppress(ConnectionError):  # enough is enough; the answer has come before
            for _ in range(100):
                wire.send(piece)
        assert_refused(wire.reply(), 413, "body_too_large")
    assert time.monotonic() - began_s < 3
    assert resident_bytes(gateway) - before < 80 << 20  # what fits in body_bytes_max may be in memory, no more


def resident_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_a_body_that_stalls_is_given_up(gateway: Daemon, faulty: Faulty, key: str) -> None:
    faulty.clear()
    for path in (CHAT, MESSAGES):
        with Wire(gateway.url) as wire:
            began_s = time.monotonic()
            wire.send(request_bytes(path, GOOD[:10], key, length=len(GOOD)))
            assert_refused(wire.reply(), 408, "body_timeout", path=path)
            assert 0.4 < time.monotonic() - began_s < 2
            wire.socket.settimeout(3)
            assert wire.rest() == b""  # what is left of the body must not be read as a request
        with Wire(gateway.url) as wire:
            wire.send(request_bytes(path, GOOD[:10], key, length=len(GOOD)))
            reply = wire.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            with suppress(ConnectionError):
                wire.send(GOOD[10:] + request_bytes(path, GOOD, key))
                assert wire.rest() == b""  # it said that this was the last answer
    assert faulty.seen("fine") == []


def test_a_body_that_breaks_off_is_never_sent_on(gateway: Daemon, faulty: Faulty, key: str) -> None:
    faulty.clear()
    for _ in range(5):
        with Wire(gateway.url) as wire:
            wire.send(request_bytes(CHAT, GOOD, key, length=len(GOOD) + 1))
            wire.reset()
    time.sleep(0.1)
    assert faulty.seen("fine") == []


def test_a_compressed_body_is_refused_and_not_unpacked(gateway: Daemon, faulty: Faulty, key: str) -> None:
    bomb = gzip.compress(b" " * (64 << 20) + GOOD)
    for encoding, body in (("gzip", gzip.compress(GOOD)), ("gzip", bomb), ("br", b"?"), ("deflate, gzip", b"?")):
        for path in (CHAT, MESSAGES):
            faulty.clear()
            reply = post(gateway.url, path, body, key, f"Content-Encoding: {encoding}")
            assert_refused(reply, 400, "bad_request", path=path)
            assert "content-encoding" in reply.error["message"]
            assert faulty.seen("fine") == []


# ---- keys ----


def bad_keys(key: str) -> dict[str, str]:
    return {
        "short": "sk-llmctl-x",
        "of 60,000 characters": "sk-llmctl-" + "a" * 60_000,
        "with an accent": key[:-1] + "\xe9",
        "with a space": f"{key} {key}",
        "mistyped": key[:-1] + ("a" if key[-1] != "a" else "b"),
        "cut": key[:-1],
        "in capitals": key.upper(),
        "with more": key + "a",
        "quoted": f'"{key}"',
        "the provider's": CREDENTIAL,
        "SQL": "' OR 1=1 --",
        "JSON": '{"a": 1}',
        "format": "%s%n{0}",
    }


@pytest.mark.parametrize("path", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize("shape", bad_keys("x" * 59))
def test_a_bad_key_is_401_and_not_repeated(gateway: Daemon, faulty: Faulty, key: str, shape: str, path: str) -> None:
    bad = bad_keys(key)[shape]
    faulty.clear()
    for reply in (post(gateway.url, path, GOOD, bad), post(gateway.url, path, GOOD, "", f"x-api-key: {bad}")):
        assert_refused(reply, 401, "invalid_api_key", path=path, secrets=(bad, key))
    assert faulty.seen("fine") == []


def test_a_key_in_a_place_for_no_key_does_not_count(gateway: Daemon, faulty: Faulty, key: str) -> None:
    faulty.clear()
    for header in ("X-Key", "Cookie", "Proxy-Authorization", "X-Auth-Token", "Authorization"):
        reply = post(gateway.url, CHAT, GOOD, "", f"{header}: {key}")  # the last one without "Bearer"
        assert_refused(reply, 401, "invalid_api_key", secrets=(key,))
    assert_refused(post(gateway.url, CHAT, GOOD, "", f"Authorization: Basic {key}"), 401, "invalid_api_key")
    assert_refused(post(gateway.url, CHAT + f"?api_key={key}", GOOD, ""), 401, "invalid_api_key", secrets=(key,))
    assert faulty.seen("fine") == []


def test_two_keys_in_one_request_are_refused(gateway: Daemon, faulty: Faulty, key: str, other_key: str) -> None:
    faulty.clear()
    for second in (f"x-api-key: {other_key}", f"Authorization: Bearer {other_key}", "x-goog-api-key: AIza-own"):
        reply = post(gateway.url, CHAT, GOOD, key, second)
        assert_refused(reply, 401, "invalid_api_key", secrets=(key, other_key))
    reply = post(gateway.url, f"{CHAT}?key={other_key}", GOOD, key)
    assert_refused(reply, 401, "invalid_api_key", secrets=(key, other_key))
    assert faulty.seen("fine") == []


def test_the_body_is_not_waited_for_where_the_key_is_wrong(gateway: Daemon) -> None:
    began_s = time.monotonic()
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, GOOD[:5], "sk-llmctl-wrong", "Expect: 100-continue", length=len(GOOD)))
        assert_refused(wire.reply(), 401, "invalid_api_key")  # and no "100 Continue" before it
    assert time.monotonic() - began_s < 0.4


# ---- paths and methods ----

PATHS = [
    "/",
    "/v1",
    "/v3/chat/completions",
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "//v1/chat/completions",
    "///",
    "/v1/../v1/chat/completions",
    "/v1/files/../chat/completions",
    "/v1/./chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/%76%31/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0aX-Evil:%20yes",
    "/v1/chat/completions;x=y",
    "/v1/chat/completions#fragment",
    "/V1/Chat/Completions",
    "/v1\\chat\\completions",
    "/v1/models/..%2f..%2fadmin",
    "/v1/models/../../admin",
    "/v1/models/" + "x" * 5_000,
    "/" + "x" * 60_000,
    "/metrics",
    "/readyz",
    "/llmctl",
    "/llmctl/../metrics",
    "http://evil.example/v1/chat/completions",
    "http://127.0.0.1:1/v1/chat/completions",
    "http://evil.example@gateway/v1/chat/completions",
]


@pytest.mark.parametrize("path", PATHS, ids=[path[:40] for path in PATHS])
def test_another_path_is_404_and_reaches_nobody(gateway: Daemon, faulty: Faulty, key: str, path: str) -> None:
    faulty.clear()
    assert_refused(post(gateway.url, path, GOOD, key), 404, "path_not_found", secrets=(key,))
    reply = post(gateway.url, path, GOOD, "", f"x-api-key: {key}", "anthropic-version: 2023-06-01")
    assert_refused(reply, 404, "path_not_found", path=MESSAGES, secrets=(key,))
    assert len(reply.body) < 1_000
    assert faulty.seen("fine") == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "CONNECT"])
def test_another_method_is_405(gateway: Daemon, faulty: Faulty, key: str, method: str) -> None:
    faulty.clear()
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, b"", key, method=method))
        reply = wire.reply(method)
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    if method != "HEAD":
        assert_refused(reply, 405, "method_not_allowed", secrets=(key,))
    assert faulty.seen("fine") == []


@pytest.mark.parametrize("method", ["BREW", "get", "PO ST", "P\x00ST", ""])
def test_a_method_that_nobody_knows_is_400(gateway: Daemon, key: str, method: str) -> None:
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, GOOD, key, method=method))
        assert_refused(wire.reply(), 400, "bad_request", secrets=(key,))


def test_the_gateway_is_no_tunnel(gateway: Daemon, faulty: Faulty, key: str) -> None:
    with Wire(gateway.url) as wire:
        head = f"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nAuthorization: Bearer {key}\r\n\r\n"
        wire.send(head.encode())
        reply = wire.reply()
    assert_refused(reply, 404, "path_not_found", secrets=(key,))


# ---- HTTP that is odd, and fine ----


def test_expect_100_continue_is_answered(gateway: Daemon, faulty: Faulty, key: str) -> None:
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, b"", key, "Expect: 100-continue", length=len(GOOD)))
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(GOOD)
        assert wire.reply().status == 200
    assert "expect" not in faulty.last("fine").headers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_of_http_1_0_is_served(gateway: Daemon, key: str, stream: bool) -> None:
    data = request_bytes(CHAT, ask("fine/m", stream=stream), key).replace(b"HTTP/1.1", b"HTTP/1.0")
    with Wire(gateway.url) as wire:
        wire.send(data)
        reply = wire.reply()
    assert (reply.status, reply.cut) == (200, False)
    assert "transfer-encoding" not in reply.headers
    assert reply.body.rstrip().endswith(b"[DONE]" if stream else b"}")


def test_pipelined_requests_are_answered_in_their_order(gateway: Daemon, faulty: Faulty, key: str) -> None:
    faulty.clear()
    with Wire(gateway.url) as wire:
        wire.send(
            request_bytes(CHAT, GOOD, key)
            + request_bytes(CHAT, b"not json", key)
            + request_bytes(MESSAGES, ask("fine/m", path=MESSAGES), key)
            + request_bytes("/nowhere", b"", key)
            + request_bytes(CHAT, GOOD, key, "Connection: close")
        )
        data = wire.rest()
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"400", b"200", b"404", b"200"]
    assert [seen.path for seen in faulty.seen("fine")] == [CHAT, MESSAGES, CHAT]


def test_more_pipelined_requests_than_are_kept_are_answered_all(gateway: Daemon, faulty: Faulty, key: str) -> None:
    """The first of them in two pieces: its body comes when it is under way."""
    request, more = request_bytes(CHAT, GOOD, key), 40
    head_bytes = request.index(b"\r\n\r\n") + 4
    with Wire(gateway.url) as wire:
        wire.send(request[:head_bytes])
        time.sleep(0.1)
        wire.send(request[head_bytes:] + more * request + request_bytes(CHAT, GOOD, key, "Connection: close"))
        data = wire.rest()
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200"] * (more + 2)


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_not_taken_up(gateway: Daemon, faulty: Faulty, key: str, protocol: str) -> None:
    faulty.clear()
    reply = post(gateway.url, CHAT, GOOD, key, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}")
    assert reply.status == 200
    seen = faulty.last("fine")
    assert "upgrade" not in seen.headers
    assert json.loads(seen.body)["model"] == "m"


def test_headers_beyond_ascii_do_no_harm(gateway: Daemon, faulty: Faulty, key: str) -> None:
    for value in ("caf\xe9", "caf\xc3\xa9", "\xff\xfe"):
        assert post(gateway.url, CHAT, GOOD, key, f"X-Title: {value}").status == 200
        assert faulty.last("fine").headers["x-title"].startswith(("caf", ""))


# ---- HTTP that is none ----


def malformed(key: str) -> dict[str, bytes]:
    good = request_bytes(CHAT, GOOD, key)
    no_length = request_bytes(CHAT, b"", key).replace(b"Content-Length: 0\r\n", b"").removesuffix(b"\r\n")
    return {
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/1.9": good.replace(b"HTTP/1.1", b"HTTP/1.9"),
        "HTTP/0.9": good.replace(b"HTTP/1.1", b"HTTP/0.9"),
        "HTTP/2.0": good.replace(b"HTTP/1.1", b"HTTP/2.0"),
        "a key as the first line": f"{key} {PROMPT}\r\n\r\n".encode(),
        "a header without colon": good.replace(b"Host: gateway", b"Host: gateway\r\n" + key.encode()),
        "a header with NUL": good.replace(b"Host: gateway", b"Host: gateway\r\nX-A: " + key.encode() + b"\0"),
        "a key with control characters": request_bytes(CHAT, GOOD, key[:30] + "\x01\x7f"),
        "a folded header": request_bytes(CHAT, GOOD, key, "X-A: b", " " + key),
        "a space before the colon": no_length + b"Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "bare line feeds": good.replace(b"\r\n", b"\n"),
        "no host": good.replace(b"Host: gateway\r\n", b""),
        "two hosts": request_bytes(CHAT, GOOD, key, "Host: other"),
        "an asterisk": request_bytes("*", GOOD, key),
        "500 headers": request_bytes(CHAT, GOOD, key, *(f"X-{n}: {key}" for n in range(500))),
        "a header of 200,000 bytes": request_bytes(CHAT, GOOD, key, "X-Big: " + key * 4_000),
        "a URL of 100,000 bytes": request_bytes("/" + key * 2_000, GOOD, key),
        "length and chunks": request_bytes(CHAT, GOOD, key, "Transfer-Encoding: chunked"),
        "chunks and length": good.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
        "two lengths": request_bytes(CHAT, GOOD, key, "Content-Length: 5"),
        "one length twice": request_bytes(CHAT, GOOD, key, f"Content-Length: {len(GOOD)}"),
        "a list of lengths": good.replace(b"Content-Length: ", b"Content-Length: 5, "),
        "a negative length": request_bytes(CHAT, GOOD, key, length=-1),
        "a length with a plus": good.replace(b"Content-Length: ", b"Content-Length: +"),
        "a length in hex": good.replace(b"Content-Length: ", b"Content-Length: 0x"),
        "an endless length": good.replace(b"Content-Length: ", b"Content-Length: " + b"9" * 40),
        "an unknown coding": no_length + b"Transfer-Encoding: xchunked\r\n\r\n" + GOOD,
        "chunked, not last": no_length + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + GOOD,
        "a chunk of no size": no_length + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + GOOD,
        "a chunk of endless size": no_length + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n" + GOOD,
        "chunks with bare line feeds": no_length + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    }


@pytest.mark.parametrize("case", malformed("k"))
def test_what_is_no_http_gets_an_error_that_repeats_nothing(
    gateway: Daemon, faulty: Faulty, key: str, case: str
) -> None:
    faulty.clear()
    with Wire(gateway.url) as wire:
        with suppress(ConnectionError):  # it has heard enough before we have said all
            wire.send(malformed(key)[case])
        reply = wire.reply()
        assert_refused(reply, 400, "bad_request", secrets=(key, key[:30]))
        assert wire.rest() == b""  # and the connection is closed: what follows cannot be understood
    assert faulty.seen("fine") == []


@pytest.mark.parametrize(
    "lines",
    [["Content-Encoding: identity", "Content-Encoding: br"], ["Content-Encoding: br", "Content-Encoding: identity"]],
    ids=["br-last", "br-first"],
)
def test_every_encoding_that_a_body_has_counts(gateway: Daemon, faulty: Faulty, key: str, lines: list[str]) -> None:
    faulty.clear()
    reply = post(gateway.url, CHAT, GOOD, key, *lines)
    assert_refused(reply, 400, "bad_request")
    assert "content-encoding" in reply.error["message"]
    assert faulty.seen("fine") == []


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate,chunked", "chunked, chunked"])
def test_chunks_of_what_is_packed_are_not_taken_for_the_body(
    gateway: Daemon, faulty: Faulty, key: str, coding: str
) -> None:
    faulty.clear()
    with Wire(gateway.url) as wire:
        wire.send(chunked(CHAT, GOOD, key).replace(b": chunked", b": " + coding.encode()))
        assert_refused(wire.reply(), 400, "bad_request")
    assert faulty.seen("fine") == []


def test_a_smuggled_request_is_not_served(gateway: Daemon, faulty: Faulty, key: str) -> None:
    inner = request_bytes(CHAT, GOOD, key)
    for outer in (
        request_bytes(CHAT, b"0\r\n\r\n" + inner, key, "Transfer-Encoding: chunked"),
        request_bytes(CHAT, inner, key, "Content-Length: 0"),
        request_bytes(CHAT, b"0\r\n\r\n" + inner, key, "Transfer-Encoding: identity, chunked"),
        request_bytes(CHAT, b"0\r\n\r\n" + inner, key, "Transfer-Encoding:\x0bchunked"),
        request_bytes("/nowhere", inner, key, length=len(inner) + 1),
    ):
        faulty.clear()
        with Wire(gateway.url) as wire:
            wire.send(outer)
            assert wire.reply().status in (400, 404)
            wire.rest()
        assert faulty.seen("fine") == []


def test_chunks_are_a_body_like_any_other(gateway: Daemon, faulty: Faulty, key: str) -> None:
    with Wire(gateway.url) as wire:
        wire.send(chunked(CHAT, GOOD, key))
        assert wire.reply().status == 200
    assert "transfer-encoding" not in faulty.last("fine").headers


# ---- all of it ----


def test_nothing_of_all_this_was_booked_as_a_call(gateway: Daemon, key: str) -> None:
    assert wait_until(lambda: not any(row["state"] == "open" for row in gateway.json("calls", "--limit", "5000")))
    rows = gateway.json("calls", "--limit", "5000")
    for row in rows:
        if row["state"] == "settled":
            assert (row["status"], row["usage_source"]) == (200, "reported")
        else:
            assert row["cost_usd"] in (None, "0.000000000")
            assert row["error"] in ("bad_request", "body_too_large", "body_timeout", "model_not_found")


def test_a_connection_that_says_nothing_is_closed(gateway: Daemon, silent: dict[str, Wire]) -> None:
    silent["a drip"].socket.settimeout(1)
    for byte in b"GET /v1/models HTTP/1.1\r\nX: " + b"x" * 20:
        try:
            silent["a drip"].send(bytes([byte]))
            time.sleep(0.3)
        except OSError:
            break
    else:
        pytest.fail("it listens to a drip for ever")
    for name in ("nothing", "half a head"):
        silent[name].socket.settimeout(1)
        assert silent[name].rest() == b"", name


def test_idle_connections_cost_others_nothing(gateway: Daemon, key: str) -> None:
    wires = [Wire(gateway.url) for _ in range(500)]
    try:
        assert wait_until(lambda: post(gateway.url, CHAT, GOOD, key).status == 200)
    finally:
        for wire in wires:
            wire.socket.close()
