"""What an admin sees of a daemon that serves."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.daemon import Daemon

from .recorder import Recorder

CHAT = "/v1/chat/completions"
HELLO = {"model": "echo-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def test_status_and_top_see_the_gateway_and_its_calls(gateway: Daemon, recorder: Recorder) -> None:
    key = gateway.add_user("watched")
    answer = gateway.send(CHAT, HELLO, key=key)
    gateway.send(CHAT, {**HELLO, "model": "nowhere/none"}, key=key)
    gateway.call(answer.call_id)
    status = gateway.json("status")
    assert isinstance(status, dict)
    assert (status["gateway"], status["workers"]) == ("ready", 1)
    assert status["since"].endswith("Z")
    assert status["today"]["calls"] >= 1
    now = gateway.json("top")
    assert isinstance(now, dict)
    assert [user["calls"] for user in now["users"] if user["user"] == "watched"] == [1]
    assert "model_not_found" in [failure["error"] for failure in now["failures"]]


def test_status_says_why_a_gateway_is_not_ready(tmp_path: Path, recorder: Recorder) -> None:
    from .conftest import gateway_before

    with gateway_before(tmp_path, recorder) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            said = daemon.llmctl("status").stdout
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        assert f"not ready (no answer from {daemon.admin_url}/readyz)" in said
