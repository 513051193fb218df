"""Providers that fail in every way, clients that leave: a clear end for the client, the right row in the ledger."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import (
    ANSWER,
    CREDENTIAL,
    FAULTS,
    HUGE_BYTES,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    UNSOLICITED,
    Faulty,
    wait_until,
)
from tests.support.wire import CHAT, MESSAGES, PROMPT, Reply, Wire, ask, post, request_bytes

REPORTED = (INPUT_TOKENS, OUTPUT_TOKENS)
MIB = 1 << 20

# The gateway reads a stream and a whole answer in different ways, and errors have a shape in each dialect.
VARIANTS = pytest.mark.parametrize(
    ("path", "stream"),
    [(CHAT, False), (CHAT, True), (MESSAGES, False), (MESSAGES, True)],
    ids=["chat", "chat-stream", "messages", "messages-stream"],
)
TWO_VARIANTS = pytest.mark.parametrize(
    ("path", "stream"), [(CHAT, False), (MESSAGES, True)], ids=["chat", "messages-stream"]
)
STREAMS = pytest.mark.parametrize("path", [CHAT, MESSAGES], ids=["chat", "messages"])


@contextmanager
def gateway_before(directory: Path, faulty: Faulty, server: str) -> Iterator[Daemon]:
    """With prices for every model and limits that all calls fit in. At the end nothing may be open, nothing be told."""
    daemon = Daemon(directory, faulty.providers(directory), server=server)
    daemon.start()
    try:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon
        wait_until(lambda: open_holds(daemon) == 0)
        assert open_holds(daemon) == 0
        assert [row for row in daemon.json("calls", "--limit", "5000") if row["state"] == "open"] == []
    finally:
        status = daemon.stop()
    log = "".join(daemon.log)
    assert status == 0, log
    assert "Traceback" not in log
    assert CREDENTIAL not in log
    assert "sk-llmctl-" not in log
    assert PROMPT not in log
    assert ANSWER not in log


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty() as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, faulty: Faulty) -> Iterator[Daemon]:
    """Impatient with its providers."""
    server = "[server.timeouts]\nconnect_s = 0.5\nread_s = 0.3"
    with gateway_before(tmp_path_factory.mktemp("failures"), faulty, server) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    return limited_user(gateway)


@pytest.fixture(autouse=True)
def nothing_stays_held(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no call is open, and no limit holds anything for one."""
    yield
    for name, key_name in (("gateway", "key"), ("draining", "draining_key"), ("cancelling", "cancelling_key")):
        if key_name in request.fixturenames:
            daemon, key = request.getfixturevalue(name), request.getfixturevalue(key_name)
            assert wait_until(lambda daemon=daemon: open_holds(daemon) == 0, 10)
            assert [limit for limit in my_limits(daemon, key) if float(limit["held"])] == []


def limited_user(daemon: Daemon) -> str:
    key = daemon.add_user("alice", "sales")
    daemon.here("limit", "set", "--user", "alice", "--cost", "100000", "--per", "total")
    daemon.here("limit", "set", "--group", "sales", "--tokens", "1000000000", "--per", "day")
    daemon.here("limit", "set", "--org", "--concurrency", "500")
    return key


def my_limits(daemon: Daemon, key: str) -> list[dict[str, Any]]:
    limits = json.loads(daemon.get("/llmctl/me", key=key)[1])["limits"]
    assert limits
    return limits


def open_holds(daemon: Daemon) -> float:
    """-1: the daemon does not answer."""
    metrics = daemon.get("/metrics", admin=True)[1]
    return float(metrics.partition("\nllmctl_open_holds ")[2].partition("\n")[0] or -1)


def resident_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def call(daemon: Daemon, key: str, fault: str, path: str = CHAT, *, stream: bool = False, **more: Any) -> Reply:
    return post(daemon.url, path, ask(f"{fault}/m", path=path, stream=stream, **more), key)


def booked(daemon: Daemon, reply: Reply) -> dict[str, Any]:
    """The row of this call, as soon as it has ended."""
    found: list[dict[str, Any]] = []

    def ended() -> bool:
        rows = daemon.json("calls", "--limit", "50")
        found[:] = [row for row in rows if row["id"] == reply.headers["x-llmctl-call-id"] and row["state"] != "open"]
        return bool(found)

    assert wait_until(ended, 10), reply
    return found[0]


def all_booked(daemon: Daemon, fault: str, count: int) -> list[dict[str, Any]]:
    """The calls of this fault, all ended, so many: for clients that did not wait for their ids."""
    rows: list[dict[str, Any]] = []

    def ended() -> bool:
        rows[:] = daemon.json("calls", "--provider", fault)
        return len(rows) >= count and all(row["state"] != "open" for row in rows)

    assert wait_until(ended, 10), rows
    assert len(rows) == count, rows
    return rows


def cost(row: dict[str, Any]) -> float:
    return float(row["cost_usd"])


def tokens(row: dict[str, Any]) -> tuple[int, int]:
    return row["input_tokens"], row["output_tokens"]


def assert_our_error(reply: Reply, path: str, status: int, code: str) -> None:
    assert (reply.status, reply.cut) == (status, False)
    error = reply.error
    if path == MESSAGES:
        assert error["type"] == ("timeout_error" if status == 504 else "api_error")
    else:
        assert error["code"] == code
    assert CREDENTIAL.encode() not in reply.body


def assert_goes_on(daemon: Daemon, key: str) -> None:
    reply = call(daemon, key, "fine")
    assert (reply.status, ANSWER in reply.body.decode()) == (200, True)
    assert tokens(booked(daemon, reply)) == REPORTED


# ---- the provider never had the request ----


@TWO_VARIANTS
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("refused", 502, "provider_unreachable"),
        ("no_tls", 502, "provider_unreachable"),
        ("unreachable", 504, "provider_timeout"),
    ],
)
def test_a_provider_that_was_never_reached_costs_nothing(
    gateway: Daemon, key: str, fault: str, status: int, code: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert_our_error(reply, path, status, code)
    row = booked(gateway, reply)
    assert (row["state"], row["error"], cost(row), tokens(row)) == ("released", code, 0, (0, 0))


def test_a_provider_that_closes_the_door_at_once_is_booked_by_what_left(gateway: Daemon, key: str) -> None:
    for _ in range(5):
        reply = call(gateway, key, "reset_on_accept")
        assert reply.status == 502
        row = booked(gateway, reply)
        # Whether the reset comes before the request left is up to the kernel; both are said as they were.
        assert (row["state"], row["usage_source"]) in (("released", None), ("settled", "estimated"))
        assert reply.error["code"] == row["error"]


# ---- sent, and no answer ----

NO_ANSWER = {
    "reset_after_request": 502,
    "close_after_request": 502,
    "half_close": 502,
    "reset_in_headers": 502,
    "reset_after_headers": 502,
    "reset_in_body": 502,
    "stall_before_headers": 504,
    "stall_after_headers": 504,
    "stall_in_body": 504,
    "garbage": 502,
    "another_protocol": 502,
    "bad_header": 502,
    "huge_header": 502,
    "headers_without_end": 502,
    "two_lengths": 502,
    "bad_chunk": 502,
    "length_too_long": 502,
    "continue_without_end": 502,
}


@TWO_VARIANTS
@pytest.mark.parametrize("fault", NO_ANSWER)
def test_a_call_that_was_sent_and_not_answered_is_booked_at_its_hold(
    gateway: Daemon, faulty: Faulty, key: str, fault: str, path: str, stream: bool
) -> None:
    before = len(faulty.seen(fault))
    reply = call(gateway, key, fault, path, stream=stream)
    status = NO_ANSWER[fault]
    assert_our_error(reply, path, status, {502: "provider_failed", 504: "provider_timeout"}[status])
    assert reply.headers["x-should-retry"] == "false"
    assert len(faulty.seen(fault)) == before + 1  # never sent twice
    row = booked(gateway, reply)
    assert (row["state"], row["status"], row["usage_source"]) == ("settled", status, "estimated")
    assert row["input_tokens"] > 2_000
    assert row["output_tokens"] == (100 if path == MESSAGES else 4_096)
    assert cost(row) > 0


@VARIANTS
def test_usage_of_an_answer_that_breaks_off_behind_it_counts(
    gateway: Daemon, key: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, "length_too_long_with_usage", path, stream=stream)
    assert_our_error(reply, path, 502, "provider_failed")
    row = booked(gateway, reply)
    assert (row["state"], row["error"], row["usage_source"]) == ("settled", "provider_failed", "reported")
    assert tokens(row) == REPORTED


# ---- errors of the provider ----


@TWO_VARIANTS
@pytest.mark.parametrize("fault", ["moved", "temporarily_moved", "switching"])
def test_a_redirect_is_not_followed_and_costs_nothing(
    gateway: Daemon, faulty: Faulty, key: str, fault: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert_our_error(reply, path, 502, "provider_failed")
    assert "location" not in reply.headers
    row = booked(gateway, reply)
    assert (row["state"], row["status"], cost(row), tokens(row)) == ("settled", 502, 0, (0, 0))


@TWO_VARIANTS
@pytest.mark.parametrize(
    ("fault", "status", "headers"),
    [
        ("bad_request", 400, {}),
        ("not_found", 404, {}),
        ("rate_limited", 429, {"retry-after": "86400", "x-ratelimit-remaining-requests": "0"}),
        ("rate_limited_oddly", 429, {"retry-after-ms": "-1"}),
        ("server_error", 500, {"x-empty": ""}),
        ("server_error_html", 500, {}),
        ("unavailable", 503, {"retry-after": "-5"}),
        ("overloaded", 529, {}),
        ("odd_status", 799, {}),
    ],
)
def test_an_error_of_the_provider_passes_as_it_came_and_costs_nothing(
    gateway: Daemon, key: str, fault: str, status: int, headers: dict[str, str], path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert (reply.status, reply.cut) == (status, False)
    assert {name: reply.headers[name] for name in headers} == headers
    if fault == "server_error_html":
        assert reply.body == b"<html>500</html>"
    else:
        assert reply.error["message"].startswith(str(status))
    row = booked(gateway, reply)
    assert (row["state"], row["status"], row["error"]) == ("settled", status, f"provider_{status}")
    assert (cost(row), row["usage_source"], tokens(row)) == (0, None, (0, 0))


def test_errors_of_the_provider_are_counted_as_errors(gateway: Daemon, key: str) -> None:
    reply = call(gateway, key, "unavailable")
    assert booked(gateway, reply)["state"] == "settled"
    (row,) = gateway.json("usage", "--model", "unavailable/m", "--by", "model")
    assert row["errors"] == row["calls"] > 0
    assert cost(row) == 0


@TWO_VARIANTS
@pytest.mark.parametrize("fault", ["error_broken", "stall_in_error"])
def test_an_error_that_breaks_off_is_still_an_error(
    gateway: Daemon, key: str, fault: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert (reply.status, reply.cut) == (500, False)
    assert "HTTP 500" in reply.error["message"]
    row = booked(gateway, reply)
    assert (row["state"], row["status"], cost(row)) == ("settled", 500, 0)


@TWO_VARIANTS
@pytest.mark.parametrize(("fault", "error"), [("unauthorized", "provider_401"), ("forbidden", "provider_403")])
def test_a_refused_credential_is_our_error_and_echoed_nowhere(
    gateway: Daemon, key: str, fault: str, error: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert_our_error(reply, path, 502, "provider_credential")
    assert CREDENTIAL not in str(reply.headers)
    row = booked(gateway, reply)
    assert (row["state"], row["error"], cost(row)) == ("settled", error, 0)


@TWO_VARIANTS
def test_a_credential_in_another_error_is_masked(gateway: Daemon, key: str, path: str, stream: bool) -> None:
    reply = call(gateway, key, "rate_limited_echoing", path, stream=stream)
    assert reply.status == 429
    assert reply.error["message"].startswith("Incorrect API key provided: ")
    assert CREDENTIAL.encode() not in reply.body
    assert CREDENTIAL not in str(reply.headers)


# ---- answers that are none, or not what they say ----


@TWO_VARIANTS
@pytest.mark.parametrize("fault", ["html", "empty"])
def test_a_200_that_is_no_answer_passes_and_is_estimated(
    gateway: Daemon, key: str, fault: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert (reply.status, reply.cut) == (200, False)
    assert reply.body == {"html": b"<html><body>Welcome to nginx</body></html>", "empty": b""}[fault]
    row = booked(gateway, reply)
    assert (row["state"], row["status"], row["usage_source"]) == ("settled", 200, "estimated")
    assert row["input_tokens"] > 0 and row["output_tokens"] > 0
    assert cost(row) > 0


@VARIANTS
def test_an_answer_without_usage_is_estimated(gateway: Daemon, key: str, path: str, stream: bool) -> None:
    reply = call(gateway, key, "no_usage", path, stream=stream)
    assert (reply.status, reply.cut) == (200, False)
    row = booked(gateway, reply)
    assert (row["state"], row["error"], row["usage_source"]) == ("settled", None, "estimated")
    assert 4 <= row["input_tokens"] <= 40
    assert len(ANSWER.split()) <= row["output_tokens"] <= 20


@TWO_VARIANTS
@pytest.mark.parametrize("fault", ["broken_gzip", "broken_gzip_stream"])
def test_an_answer_that_cannot_be_unpacked_passes_and_is_booked_at_its_hold(
    gateway: Daemon, key: str, fault: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, fault, path, stream=stream)
    assert (reply.status, reply.cut, reply.headers["content-encoding"]) == (200, False, "gzip")
    assert reply.body.startswith(b"\x1f\x8b")
    row = booked(gateway, reply)
    assert (row["state"], row["error"], row["usage_source"]) == ("settled", "answer_unreadable", "estimated")
    assert row["output_tokens"] == (100 if path == MESSAGES else 4_096)


@TWO_VARIANTS
def test_control_characters_in_a_providers_header_do_not_cost_the_answer(
    gateway: Daemon, key: str, path: str, stream: bool
) -> None:
    reply = call(gateway, key, "control_characters", path, stream=stream)
    assert (reply.status, reply.cut, reply.body) == (200, False, b"{}")
    assert reply.headers["x-good"] == "a\tb"
    assert "x-bad" not in reply.headers and "x-worse" not in reply.headers
    assert booked(gateway, reply)["state"] == "settled"


def test_what_a_provider_sends_too_much_reaches_nobody(gateway: Daemon, faulty: Faulty, key: str) -> None:
    for fault in ("unsolicited", "length_too_short"):
        for _ in range(3):
            reply = call(gateway, key, fault)
            # Who says that an answer is shorter than it is may be taken at their word, or be found lying in time.
            assert reply.status in ((200,) if fault == "unsolicited" else (200, 502))
            assert (ANSWER.encode() in reply.body) == (reply.status == 200)
            assert UNSOLICITED not in reply.body
            time.sleep(0.25)  # the rest comes when the connection is kept for the next request


@STREAMS
def test_cookies_of_the_provider_do_not_reach_the_client(gateway: Daemon, key: str, path: str) -> None:
    for stream in (False, True):
        reply = call(gateway, key, "fine", path, stream=stream)
        assert "set-cookie" not in reply.headers
        assert reply.headers["x-request-id"] == "req-provider"


# ---- streams ----


@STREAMS
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset_in_event", "provider_failed"),
        ("stream_cut_short", "provider_failed"),
        ("stall_in_stream", "provider_timeout"),
    ],
)
def test_a_stream_that_breaks_never_looks_whole(gateway: Daemon, key: str, fault: str, error: str, path: str) -> None:
    reply = call(gateway, key, fault, path, stream=True)
    assert (reply.status, reply.cut) == (200, True)
    row = booked(gateway, reply)
    assert (row["state"], row["status"], row["error"]) == ("settled", None, error)
    assert row["usage_source"] == "estimated"
    # Anthropic says the input's usage at the start: that much is known.
    assert row["input_tokens"] == INPUT_TOKENS if path == MESSAGES else row["input_tokens"] > 0
    assert 2 <= row["output_tokens"] <= 10  # of the words that were seen


@STREAMS
def test_usage_seen_before_a_stream_broke_counts(gateway: Daemon, key: str, path: str) -> None:
    reply = call(gateway, key, "reset_after_usage", path, stream=True)
    assert (reply.status, reply.cut) == (200, True)
    row = booked(gateway, reply)
    assert (row["error"], row["usage_source"], tokens(row)) == ("provider_failed", "reported", REPORTED)


@STREAMS
def test_an_error_event_passes_and_is_noted(gateway: Daemon, key: str, path: str) -> None:
    reply = call(gateway, key, "error_event", path, stream=True)
    assert (reply.status, reply.cut) == (200, False)
    assert b"the model fell over" in reply.body
    row = booked(gateway, reply)
    assert row["error"] == ("overloaded_error" if path == MESSAGES else "server_error")
    assert row["input_tokens"] > 0 and row["output_tokens"] > 0
    assert cost(row) > 0


@STREAMS
def test_an_event_of_20_megabytes_passes_in_bounded_memory(gateway: Daemon, key: str, path: str) -> None:
    call(gateway, key, "fine", path, stream=True)
    before = resident_bytes(gateway)
    reply = call(gateway, key, "huge_event", path, stream=True)
    assert (reply.status, reply.cut) == (200, False)
    assert reply.body.count(b"x" * HUGE_BYTES) == 1
    assert tokens(booked(gateway, reply)) == REPORTED
    assert resident_bytes(gateway) - before < 100 * MIB


def test_all_faults_at_once_leave_the_others_alone(gateway: Daemon, key: str) -> None:
    noisy = [name for name in FAULTS if name not in ("endless", "flood", "huge_event", "slow")]
    failing = [
        threading.Thread(target=call, args=(gateway, key, name, path), kwargs={"stream": path == MESSAGES})
        for name in noisy
        for path in (CHAT, MESSAGES)
    ]
    for thread in failing:
        thread.start()
    for _ in range(20):
        assert_goes_on(gateway, key)
    for thread in failing:
        thread.join()


# ---- clients that leave ----


@pytest.fixture(scope="module")
def draining(tmp_path_factory: pytest.TempPathFactory, faulty: Faulty) -> Iterator[Daemon]:
    server = 'on_disconnect = "drain"\n[server.timeouts]\ndrain_s_max = 3\nclient_write_stall_s = 1'
    with gateway_before(tmp_path_factory.mktemp("draining"), faulty, server) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def draining_key(draining: Daemon) -> str:
    return limited_user(draining)


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory: pytest.TempPathFactory, faulty: Faulty) -> Iterator[Daemon]:
    server = 'on_disconnect = "cancel"\n[server.timeouts]\nconnect_s = 5\nclient_write_stall_s = 1'
    with gateway_before(tmp_path_factory.mktemp("cancelling"), faulty, server) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def cancelling_key(cancelling: Daemon) -> str:
    return limited_user(cancelling)


def leave(daemon: Daemon, faulty: Faulty, key: str, fault: str, *, path: str = CHAT) -> None:
    """Asks, waits for the first bytes of a stream or for the request's arrival, and goes."""
    stream = fault in ("slow", "endless", "stall_in_stream")
    with Wire(daemon.url) as wire:
        wire.send(request_bytes(path, ask(f"{fault}/m", path=path, stream=stream), key))
        faulty.last(fault)
        if stream:
            assert wire.socket.recv(1 << 16)
        wire.reset()


def test_drained_a_call_is_booked_with_its_reported_usage(draining: Daemon, faulty: Faulty, draining_key: str) -> None:
    faulty.clear()
    for fault in ("slow", "slow_whole"):
        for path in (CHAT, MESSAGES):
            leave(draining, faulty, draining_key, fault, path=path)
    for fault in ("slow", "slow_whole"):
        rows = all_booked(draining, fault, 2)
        assert {row["dialect"] for row in rows} == {"openai", "anthropic"}
        for row in rows:
            assert (row["state"], row["status"], row["usage_source"]) == ("settled", None, "reported")
            assert tokens(row) == REPORTED


def test_draining_has_an_end(draining: Daemon, faulty: Faulty, draining_key: str) -> None:
    faulty.clear()
    leave(draining, faulty, draining_key, "endless")
    began_s = time.monotonic()
    assert faulty.last("endless").hung_up.wait(8)
    assert 2 < time.monotonic() - began_s < 6  # drain_s_max = 3, looked at each second
    (row,) = all_booked(draining, "endless", 1)
    assert (row["state"], row["status"], row["error"]) == ("settled", None, "client_gone")
    assert row["usage_source"] == "estimated"
    assert row["output_tokens"] > 0


def test_a_client_that_stops_reading_is_cut_off_and_does_not_fill_the_memory(
    draining: Daemon, cancelling: Daemon, faulty: Faulty, draining_key: str, cancelling_key: str
) -> None:
    faulty.clear()
    both = ((draining, draining_key), (cancelling, cancelling_key))
    for daemon, key in both:
        booked(daemon, call(daemon, key, "no_usage", stream=True))  # loads the vocabulary that estimates take
    before = [resident_bytes(daemon) for daemon, _ in both]
    wires = [Wire(daemon.url, receive_bytes=4096) for daemon, _ in both]
    for wire, (_, key) in zip(wires, both, strict=True):
        wire.send(request_bytes(CHAT, ask("flood/m", stream=True), key))
        assert wire.socket.recv(1)
    assert wait_until(lambda: len(faulty.seen("flood")) == 2)
    assert all(seen.hung_up.wait(10) for seen in faulty.seen("flood"))
    for (daemon, _), resident in zip(both, before, strict=True):
        assert resident_bytes(daemon) - resident < 64 * MIB
        (row,) = all_booked(daemon, "flood", 1)
        assert (row["state"], row["status"], row["usage_source"]) == ("settled", None, "estimated")
        assert (row["error"], row["output_tokens"]) == ("client_gone", 4_096)  # its first event is too long to count
    for wire in wires:
        wire.socket.close()


def test_cancelled_a_call_ends_at_the_provider_too(cancelling: Daemon, faulty: Faulty, cancelling_key: str) -> None:
    faulty.clear()
    faults = ("endless", "stall_in_stream", "stall_before_headers", "stall_after_headers", "stall_in_error")
    for fault in faults:
        leave(cancelling, faulty, cancelling_key, fault)
    for fault in faults:
        assert faulty.last(fault).hung_up.wait(4), fault
        (row,) = all_booked(cancelling, fault, 1)
        assert row["state"] == "settled", fault
        if fault == "stall_in_error":
            assert (row["error"], cost(row)) == ("provider_500", 0)
            continue
        assert (row["status"], row["error"], row["usage_source"]) == (None, "client_gone", "estimated"), fault
        assert row["output_tokens"] == 4_096 if "headers" in fault else row["output_tokens"] > 0, fault
        assert cost(row) > 0


def test_cancelled_while_the_provider_is_not_reached_a_call_costs_nothing(
    cancelling: Daemon, cancelling_key: str
) -> None:
    with Wire(cancelling.url) as wire:
        wire.send(request_bytes(CHAT, ask("unreachable/m"), cancelling_key))
        time.sleep(0.3)
        wire.reset()
    (row,) = all_booked(cancelling, "unreachable", 1)
    assert (row["state"], row["error"], cost(row)) == ("released", "client_gone", 0)


def test_cancelled_before_it_was_sent_a_call_is_not_sent(
    cancelling: Daemon, faulty: Faulty, cancelling_key: str
) -> None:
    before = len(faulty.seen("fine"))
    with Path(f"{cancelling.database}.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that it waits for the ledger
        with Wire(cancelling.url) as wire:
            wire.send(request_bytes(CHAT, ask("fine/m", user="gone"), cancelling_key))
            time.sleep(0.3)
            wire.reset()
        time.sleep(0.1)

    def released() -> list[dict[str, Any]]:
        return [row for row in cancelling.json("calls", "--provider", "fine") if row["state"] == "released"]

    assert wait_until(released)
    assert [(row["error"], cost(row)) for row in released()] == [("client_gone", 0)]
    assert len(faulty.seen("fine")) == before


def test_many_clients_that_leave_at_once_are_all_booked(
    cancelling: Daemon, draining: Daemon, faulty: Faulty, cancelling_key: str, draining_key: str
) -> None:
    faulty.clear()
    for daemon, key in ((draining, draining_key), (cancelling, cancelling_key)):
        wires = [Wire(daemon.url) for _ in range(50)]
        for wire in wires:
            wire.send(request_bytes(CHAT, ask("slow/m", stream=True), key))
        for wire in wires[::2]:
            wire.socket.recv(10)
        for wire in wires:
            wire.reset()
    for daemon in (draining, cancelling):
        assert wait_until(lambda daemon=daemon: open_holds(daemon) == 0, 10)
    # A client that left before its call was admitted may have been noticed in time, but what was sent is booked.
    rows = [row for daemon in (draining, cancelling) for row in daemon.json("calls", "--provider", "slow")]
    settled = [row for row in rows if row["state"] == "settled"]
    assert len(settled) >= len(faulty.seen("slow")) >= 50
    assert all(cost(row) > 0 for row in settled)
