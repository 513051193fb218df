"""What the daemon says: text for people, JSON for machines, and no secret to either."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmctl.proxy.logs import JsonLines, Text, masked
from tests.support.daemon import LLMCTL, Daemon
from tests.support.faulty import CREDENTIAL, FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty({"fine": FAULTS["fine"]}) as running:
        yield running


@pytest.fixture
def daemon(tmp_path: Path, faulty: Faulty) -> Daemon:
    return Daemon(tmp_path, faulty.providers(tmp_path))


def lines(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.log]


@pytest.mark.parametrize("workers", ["1", "2"], ids=["one-worker", "two-workers"])
def test_the_access_log_names_the_call_and_no_secret(daemon: Daemon, workers: str) -> None:
    daemon.args = ["--workers", workers]
    key = daemon.add_user("alice")
    with daemon:
        post(daemon.url, CHAT, ask("fine/m"), key)
        assert not any(line.get("path") for line in lines(daemon))  # not unless it is wanted
        daemon.config.write_text(daemon.config.read_text().replace("[server]", "[server]\naccess_log = true"))
        assert daemon.llmctl("reload").returncode == 0
        assert post(daemon.url, f"{CHAT}?key={key}", ask("fine/m"), "").status == 200
        assert post(daemon.url, "/v1/nowhere", ask("fine/m"), key).status == 404
        assert post(daemon.url, CHAT, ask("fine/m"), "sk-llmctl-wrong").status == 401
        noted = lambda: [line for line in lines(daemon) if line.get("path")]  # noqa: E731
        assert wait_until(lambda: len(noted()) == 3)
        call = daemon.calls(count=2)[0]
        first, second, third = sorted(noted(), key=lambda line: [200, 404, 401].index(line["status"]))
        assert (first["call"], first["path"], first["status"]) == (call["id"], CHAT, 200)
        assert (first["user"], first["key"], first["model"]) == ("alice", call["key_id"], "fine/m")
        assert (first["address"], first["method"]) == ("127.0.0.1", "POST") and first["duration_ms"] >= 0
        assert (second["path"], second["status"], third["status"]) == ("/v1/nowhere", 404, 401)
    assert {line["level"] for line in lines(daemon)} <= {"info", "warning"}
    log = "".join(daemon.log)
    assert key not in log and "key=" not in log and CREDENTIAL not in log and "PROMPT" not in log


def test_on_a_terminal_it_is_text(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(LLMCTL), "serve"], env=daemon.environ, cwd=daemon.directory, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    said = ""
    try:
        while "listens on" not in said:
            said += os.read(ours, 4096).decode()
        assert said.startswith("llmctl listens on http://127.0.0.1:")
        time.sleep(0.5)
        process.send_signal(signal.SIGHUP)
        while "took over the configuration" not in said:
            said += os.read(ours, 4096).decode()
        assert "{" not in said
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        os.close(ours)


def test_it_can_be_chosen(daemon: Daemon) -> None:
    daemon.config.write_text(daemon.config.read_text().replace("[server]", '[server]\nlog = "text"'))
    with daemon:
        assert daemon.log[0].startswith("llmctl listens on")


SECRETS = ["sk-llmctl-4mTq8ZbV0sKd2RfXh6YpLw9c", "sk-proj-4mTq8ZbV0sKd2RfXh6YpLw9c", "sk-ant-api03-4mTq8ZbV0sKd2RfX"]
SECRETS += ["AIzaSyD4mTq8ZbV0sKd2RfXh6YpLw9c0123456", "gsk_4mTq8ZbV0sKd2RfXh6YpLw9c", "ya29.a0AfH6SMB4mTq8ZbV0"]
SECRETS += [
    f"{beginning}{'4mTq8ZbV0sKd2RfXh6Yp' * 2}" for beginning in ("ABSK", "hf_", "nvapi-", "github_pat_", "xai-")
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("text", ["key {} is wrong", "GET /x?a=b&key={} HTTP/1.1", "Authorization: Bearer {}", "'{}'"])
def test_whatever_looks_like_a_secret_is_masked(secret: str, text: str) -> None:
    found = masked(text.format(secret))
    assert secret not in found and secret[-12:] not in found


def test_words_are_not_secrets() -> None:
    for text in (
        "took over the configuration",
        "task-4 of disk-usage-report",
        "provider key_rotation is slow",
        "[X509: KEY_VALUES_MISMATCH] key values mismatch",
        "c_056HHZGV8WC0",
    ):
        assert masked(text) == text


def test_a_traceback_is_one_line_of_json_and_keeps_no_secret() -> None:
    try:
        raise ValueError(f"bad header {SECRETS[0]}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "call %s failed", ("c_056HHZGV8WC0",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line and SECRETS[0] not in line
    assert json.loads(line)["call"] == "c_056HHZGV8WC0"
    assert "ValueError" in json.loads(line)["exception"]
    assert SECRETS[0] not in Text("%(message)s").format(record)
