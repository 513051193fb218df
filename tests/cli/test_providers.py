"""provider list and check: who is configured, and who answers us."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import ClassVar

import pytest

from .conftest import Cli


class Models(BaseHTTPRequestHandler):
    """A provider that lists two models to whoever has the right credential."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        status = 200 if self.seen[-1] == "Bearer right" else 401
        body = json.dumps({"data": [{"id": "a"}, {"id": "b"}]} if status == 200 else {"error": self.seen[-1]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider(empty: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    (empty / "config.toml").write_text(
        f"""
        [providers.near]
        dialect = "openai"
        base_url = "{address}"
        models = ["near-*"]
        credentials = [{{env = "NEAR_RIGHT"}}, {{env = "NEAR_WRONG"}}]
        [providers.sandbox]
        """
    )
    yield address
    server.shutdown()
    server.server_close()


def test_providers_are_listed_with_where_their_credentials_come_from(
    cli: Cli, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEAR_RIGHT", "right")
    near, sandbox = cli.json("provider", "list")
    assert (near["name"], near["base_urls"], near["models"]) == ("near", {"openai": provider}, ["near-*"])
    assert (near["credentials"], near["credential_there"]) == (["$NEAR_RIGHT", "$NEAR_WRONG"], False)
    assert (sandbox["credentials"], sandbox["credential_there"]) == ([], True)
    shown = cli("provider", "list").out
    assert "! near: no credential: the environment variable NEAR_WRONG" in shown
    assert "right" not in shown.replace("RIGHT", "")


def test_each_credential_of_a_provider_is_tried(cli: Cli, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEAR_RIGHT", "right")
    monkeypatch.setenv("NEAR_WRONG", "other")
    answers = json.loads(cli("provider", "check", "-o", "json", code=1).out)
    assert [(one["credential"], one["state"], one["status"], one["models"]) for one in answers] == [
        ("$NEAR_RIGHT", "ok", 200, 2),
        ("$NEAR_WRONG", "failed", 401, None),
        ("none", "ok", None, None),
    ]
    shown = cli("provider", "check", "near", code=1).out
    assert "refuses our credential (HTTP 401)" in shown
    assert "! near: renew it" in shown
    assert "other" not in shown
    cli("provider", "check", "sandbox")
    rows = cli("doctor", "-o", "json", code=1).json
    assert [row["state"] for row in rows if row["check"].startswith("provider near")] == ["ok", "failed"]


def test_an_unknown_provider_gets_a_suggestion(cli: Cli) -> None:
    expected = 'error: no provider "opnai"; did you mean "openai"?  See: llmctl provider list\n'
    assert cli("provider", "check", "opnai", code=1).err == expected
    assert cli("usage", "--provider", "opnai", code=1).err == expected


def test_a_provider_whose_requests_are_signed_is_asked_with_a_signature(
    cli: Cli, provider: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'[providers.near]\ndialect = "openai"\nbase_url = "{provider}"\nregion = "eu-west-1"\nauth = "sigv4"\n'
    (empty / "config.toml").write_text(f'{text}credential_env = "NEAR_KEY"')
    monkeypatch.setenv("NEAR_KEY", "AKIDEXAMPLE:secret")
    cli("provider", "check", code=1)
    assert Models.seen[-1].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "failed", "cannot be reached: SSH-2.0-OpenSSH_9.6"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}",
            "failed",
            "cannot be reached: IncompleteRead",
        ),
        (b"HTTP/1.1 200 OK\r\nDate: soon\r\nContent-Length: 2\r\n\r\n{}", "ok", "answers (HTTP 200)"),
    ],
)
def test_what_speaks_http_badly_is_told_of_and_no_bug_of_ours(
    cli: Cli, empty: Path, answer: bytes, state: str, text: str
) -> None:
    with create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        Thread(target=once, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        (empty / "config.toml").write_text(f'[providers.near]\ndialect = "openai"\nbase_url = "{address}"\n')
        (told,) = json.loads(cli("provider", "check", "-o", "json", code=int(state == "failed")).out)
    assert (told["state"], told["text"][: len(text)]) == (state, text)
