"""Connections that one side closes at an awkward moment: no call fails by it, is sent twice, or is booked wrong."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon

from .conftest import provider
from .recorder import Recorder

CHAT = "/v1/chat/completions"
BODY = {"model": "curt/m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
ANSWER = b'{"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


class Curt:
    """A provider that offers to keep each connection and hangs up after the answer, as llama.cpp does after streams."""

    def __init__(self) -> None:
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            while True:
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    return
                pool.submit(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            length = 0
            while (line := reader.readline()).strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            if reader.read(length):
                self.requests += 1
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nKeep-Alive: timeout=60\r\n"
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)


@pytest.fixture(scope="module")
def curt() -> Iterator[Curt]:
    curt = Curt()
    yield curt
    curt.close()


@pytest.fixture(scope="module")
def before_curt(tmp_path_factory: pytest.TempPathFactory, curt: Curt) -> Iterator[Daemon]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    with Daemon(directory, provider(directory, "curt", curt.base_url, "sk-curt", ["openai"], [])) as daemon:
        yield daemon


def test_a_provider_that_hangs_up_after_each_answer_costs_no_call(before_curt: Daemon, curt: Curt) -> None:
    key = before_curt.add_user("busy")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: before_curt.send(CHAT, BODY, key=key), range(200)))
    assert [answer.json["error"]["message"] for answer in answers if answer.status != 200] == []
    assert curt.requests == 200  # none was sent twice
    rows = before_curt.calls("--limit", "1000", count=200)
    assert {(row["state"], row["usage_source"], row["input_tokens"], row["output_tokens"]) for row in rows} == {
        ("settled", "reported", 3, 2)
    }


@pytest.mark.parametrize("include_usage", [True, False], ids=["asked", "injected"])
def test_a_client_that_hangs_up_at_the_end_mark_has_had_its_answer(
    gateway: Daemon, key: str, recorder: Recorder, include_usage: bool
) -> None:
    usage = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    recorder.reply(usage + b"data: [DONE]\n\n", *[b""] * 5, content_type="text/event-stream")
    body = {"model": "echo-1", "messages": [], "stream": True, "stream_options": {"include_usage": include_usage}}
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        text = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(text)}\r\n\r\n"
        client.sendall(head.encode() + text)
        got = b""
        while b"[DONE]" not in got:
            got += client.recv(65536)
    call_id = next(line for line in got.decode().split("\r\n") if line.startswith("x-llmctl-call-id")).split()[1]
    row = gateway.call(call_id)
    assert (row["status"], row["error"], row["output_tokens"]) == (200, None, 2)
