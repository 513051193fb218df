"""Near the end of a limit the daemon lowers the output maximum, says so, and the provider really gets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import Answer, Daemon

from .conftest import gateway_before
from .recorder import Recorder

CAPPED = "x-llmctl-output-capped"
WANTED = 100_000
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}]},
}
FIELDS = {"/v1/responses": "max_output_tokens"}
EACH_PATH = pytest.mark.parametrize("path", BODIES)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder) -> Iterator[Daemon]:
    """Of its own: what other tests' answers teach it about the recorder's models would be held here too."""
    with gateway_before(tmp_path_factory.mktemp("capped"), running_recorder) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    """Of a user without limits."""
    return gateway.add_user("alice", "sales")


@pytest.fixture(scope="module")
def poor(gateway: Daemon) -> str:
    """A key with USD 0.10 left: a call may take a quarter of it, some 11,000 output tokens at USD 2 per million."""
    secret = gateway.add_user("poor")
    gateway.here("limit", "set", "--user", "poor", "--cost", "0.10", "--per", "total")
    return secret


def ask(gateway: Daemon, key: str, path: str, **more: Any) -> Answer:
    answer = gateway.send(path, {"model": "echo-1", **BODIES[path], **more}, key=key)
    assert answer.status == 200, answer.body
    return answer


@EACH_PATH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_maximum_is_lowered_to_what_fits_and_the_answer_says_so(
    gateway: Daemon, poor: str, recorder: Recorder, path: str, stream: bool
) -> None:
    field = FIELDS.get(path, "max_tokens")
    answer = ask(gateway, poor, path, **{field: WANTED, "stream": stream})
    sent = recorder.last.json[field]
    assert 256 <= sent < WANTED
    assert answer.headers[CAPPED] == str(sent)
    row = gateway.call(answer.call_id)
    assert float(row["held_usd"]) <= 0.025  # the share of what is left
    assert float(row["held_usd"]) >= sent * 2 / 1_000_000


def test_each_field_that_is_too_high_is_lowered_and_no_other_is_touched(
    gateway: Daemon, poor: str, recorder: Recorder
) -> None:
    path = "/v1/chat/completions"
    answer = ask(gateway, poor, path, max_completion_tokens=WANTED)
    assert "max_tokens" not in recorder.last.json
    assert recorder.last.json["max_completion_tokens"] == int(answer.headers[CAPPED])
    answer = ask(gateway, poor, path, max_completion_tokens=WANTED, max_tokens=500)
    assert recorder.last.json["max_completion_tokens"] == int(answer.headers[CAPPED])
    assert recorder.last.json["max_tokens"] == 500
    answer = ask(gateway, poor, path, max_completion_tokens=WANTED, max_tokens=WANTED)
    assert (
        recorder.last.json["max_completion_tokens"] == recorder.last.json["max_tokens"] == int(answer.headers[CAPPED])
    )


def test_the_maximum_is_per_choice(gateway: Daemon, poor: str, recorder: Recorder) -> None:
    one = ask(gateway, poor, "/v1/chat/completions", max_tokens=WANTED)
    four = ask(gateway, poor, "/v1/chat/completions", max_tokens=WANTED, n=4)
    assert int(four.headers[CAPPED]) * 4 <= int(one.headers[CAPPED]) + 4


@EACH_PATH
def test_what_fits_is_not_touched(gateway: Daemon, poor: str, recorder: Recorder, path: str) -> None:
    field = FIELDS.get(path, "max_tokens")
    answer = ask(gateway, poor, path, **{field: 1_000})
    assert CAPPED not in answer.headers
    assert recorder.last.json == {"model": "echo-1", **BODIES[path], field: 1_000}


@EACH_PATH
def test_a_call_without_a_maximum_gets_one_under_a_limit_and_none_without(
    gateway: Daemon, poor: str, key: str, recorder: Recorder, path: str
) -> None:
    field = FIELDS.get(path, "max_tokens")
    answer = ask(gateway, poor, path)
    assert recorder.last.json[field] == 4_096  # output_tokens_default: nothing is known of this model
    assert CAPPED not in answer.headers
    ask(gateway, key, path)
    assert recorder.last.json == {"model": "echo-1", **BODIES[path]}


def test_a_thinking_budget_is_never_cut(gateway: Daemon, poor: str, recorder: Recorder) -> None:
    thinking = {"type": "enabled", "budget_tokens": 20_000}
    answer = ask(gateway, poor, "/v1/messages", max_tokens=WANTED, thinking=thinking)
    assert recorder.last.json["thinking"] == thinking
    assert recorder.last.json["max_tokens"] == int(answer.headers[CAPPED]) > 20_000
    refused = gateway.send(
        "/v1/messages",
        {"model": "echo-1", "max_tokens": WANTED, "messages": [], "thinking": {**thinking, "budget_tokens": 60_000}},
        key=poor,
    )
    assert refused.status == 400
    assert "exceeds limit" in refused.json["error"]["message"]


def test_a_limit_on_tokens_lowers_the_maximum_too(gateway: Daemon, recorder: Recorder) -> None:
    secret = gateway.add_user("counted")
    gateway.here("limit", "set", "--user", "counted", "--tokens", "20000", "--per", "total")
    answer = ask(gateway, secret, "/v1/chat/completions", max_tokens=WANTED)
    assert 256 <= recorder.last.json["max_tokens"] == int(answer.headers[CAPPED]) <= 5_000


def test_the_last_useful_answer_passes_at_the_minimum_and_the_next_is_refused(
    gateway: Daemon, recorder: Recorder
) -> None:
    secret = gateway.add_user("last")
    gateway.here("limit", "set", "--user", "last", "--tokens", "2500", "--per", "total")
    answer = ask(gateway, secret, "/v1/chat/completions", max_tokens=WANTED)
    assert answer.headers[CAPPED] == "256"
    body = {"model": "echo-1", **BODIES["/v1/chat/completions"], "max_tokens": WANTED}
    refused = gateway.send("/v1/chat/completions", body, key=secret)
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
    assert len(recorder.sent) == 1
