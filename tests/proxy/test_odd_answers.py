"""Answers that say less than they should, or more: what they used is booked, and our credential stays here."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import CREDENTIAL, Faulty, Line
from tests.support.wire import CHAT, MESSAGES, Reply, Wire, ask, post, request_bytes

WORDS = "word " * 400
LONG = "x" * 1_500_000
THINKING_S = 0.3
ENOUGH = threading.Event()  # streams that were begun may end


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}], **more}


def usage(output_tokens: int | None) -> dict[str, Any]:
    return {"prompt_tokens": 11, "completion_tokens": output_tokens, "total_tokens": 11 + (output_tokens or 0)}


async def ends_early(line: Line) -> None:
    """What it used so far was 0, says its first event; there is no other."""
    await line.request()
    await line.start_stream()
    await line.send_event(chunk("", usage=usage(0)))
    await line.send_event(chunk(WORDS))
    await line.end_stream()


async def fails_on_its_way(line: Line) -> None:
    await line.request()
    await line.start_stream()
    message = {"id": "1", "model": "m", "usage": {"input_tokens": 11, "output_tokens": 1}}
    await line.send_event({"type": "message_start", "message": message})
    delta = {"type": "text_delta", "text": WORDS}
    await line.send_event({"type": "content_block_delta", "index": 0, "delta": delta})
    await line.send_event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    await line.end_stream()


async def states_nothing_usable(line: Line) -> None:
    await line.request()
    answer = {"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": WORDS}}], "usage": usage(None)}
    await line.send_whole(json.dumps(answer).encode())


async def repeats_the_credential(line: Line) -> None:
    seen = await line.request()
    text = f"your key {CREDENTIAL} is odd"
    if seen.stream:
        await line.start_stream(f"x-echo: {CREDENTIAL}")
        await line.send_event(chunk(text, usage=usage(3)))
        await line.send_event(b"[DONE]")
        await line.end_stream()
    else:
        body = {"id": "1", "model": "m", "choices": [], "usage": usage(3), "note": text}
        await line.send_whole(json.dumps(body).encode(), f"x-echo: {CREDENTIAL}")


async def takes_no_option(line: Line) -> None:
    seen = await line.request()
    if b"stream_options" in seen.body:
        error = {"error": {"message": "Unrecognized request argument supplied: stream_options"}}
        await line.send_whole(json.dumps(error).encode(), status="400 Bad Request")
        return
    await line.start_stream()
    await line.send_event(chunk(WORDS))
    await line.send_event(b"[DONE]")
    await line.end_stream()


async def takes_no_option_and_goes_on(line: Line) -> None:
    if b"stream_options" in (await line.request()).body:
        await line.send_whole(b'{"error": {"message": "stream_options: unknown"}}', status="400 Bad Request")
        return
    await line.start_stream()
    await line.send_event(chunk(WORDS))
    await asyncio.to_thread(ENOUGH.wait, 10)
    await line.end_stream()


async def states_no_input(line: Line) -> None:
    seen = await line.request()
    stated = {"completion_tokens": 70}
    if seen.stream:
        await line.start_stream()
        await line.send_event(chunk(WORDS))
        await line.send_event({**chunk(""), "choices": [], "usage": stated})
        await line.send_event(b"[DONE]")
        await line.end_stream()
    else:
        message = {"role": "assistant", "content": WORDS}
        body = {"id": "1", "model": "m", "choices": [{"index": 0, "message": message}], "usage": stated}
        await line.send_whole(json.dumps(body).encode())


async def refuses_the_role(line: Line) -> None:
    """As OpenAI does: it repeats what it was sent. A stream states usage if asked."""
    seen = await line.request()
    if b'"role"' not in seen.body or b"whatever" in seen.body:
        error = {"error": {"message": f"Invalid value: {seen.body.decode()}"}}
        await line.send_whole(json.dumps(error).encode(), status="400 Bad Request")
        return
    await line.start_stream()
    await line.send_event(chunk(WORDS))
    if b"include_usage" in seen.body:
        await line.send_event({**chunk(""), "choices": [], "usage": usage(20_007)})
    await line.send_event(b"[DONE]")
    await line.end_stream()


async def fails_and_bills(line: Line) -> None:
    await line.request()
    error = {"error": {"message": "content filter"}, "usage": usage(5)}
    await line.send_whole(json.dumps(error).encode(), status="400 Bad Request")


async def explains_at_length(line: Line) -> None:
    await line.request()
    await line.send_whole(json.dumps({"error": {"message": LONG}}).encode(), status="400 Bad Request")


async def thinks_first(line: Line) -> None:
    """And says at once that it does."""
    await line.request()
    await line.start_stream()
    await line.send_event(chunk(""))
    await asyncio.sleep(THINKING_S)
    await line.send_event(chunk("word", usage=usage(1)))
    await line.send_event(b"[DONE]")
    await line.end_stream()


FAULTS = {
    "thinking": thinks_first,
    "early": ends_early,
    "failing": fails_on_its_way,
    "unstated": states_nothing_usable,
    "echo": repeats_the_credential,
    "plain": takes_no_option,
    "going": takes_no_option_and_goes_on,
    "choosy": refuses_the_role,
    "inputless": states_no_input,
    "billing": fails_and_bills,
    "long": explains_at_length,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty(FAULTS) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(running: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("odd")
    with Daemon(directory, running.providers(directory)) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    return gateway.add_user("alice")


def booked(gateway: Daemon, reply: Reply) -> dict[str, Any]:
    row: dict[str, Any] = gateway.call(reply.headers["x-llmctl-call-id"])
    return row


def test_the_first_token_is_not_the_event_that_announces_it(gateway: Daemon, key: str) -> None:
    row = booked(gateway, post(gateway.url, CHAT, ask("thinking/m", stream=True), key))
    assert 1_000 * THINKING_S <= row["ttft_ms"] <= row["latency_ms"]


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [(CHAT, "early/m", True), (MESSAGES, "failing/m", True), (CHAT, "unstated/m", False)],
    ids=["early-end", "error-event", "no-figure"],
)
def test_the_text_counts_where_usage_is_that_of_a_part(
    gateway: Daemon, key: str, path: str, model: str, stream: bool
) -> None:
    reply = post(gateway.url, path, ask(model, stream=stream, max_tokens=2_000), key)
    assert reply.status == 200 and b"word word" in reply.body
    row = booked(gateway, reply)
    assert (row["usage_source"], row["input_tokens"]) == ("estimated", 11)
    assert 350 <= row["output_tokens"] <= 900


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_our_credential_passes_in_no_answer(gateway: Daemon, key: str, stream: bool) -> None:
    reply = post(gateway.url, CHAT, ask("echo/m", stream=stream), key)
    assert reply.status == 200
    assert b"your key *** is odd" in reply.body
    assert reply.headers["x-echo"] == "***"
    assert booked(gateway, reply)["output_tokens"] == 3


def test_a_provider_that_takes_no_stream_options_is_asked_without(gateway: Daemon, key: str, faulty: Faulty) -> None:
    replies = [post(gateway.url, CHAT, ask("plain/m", stream=True, max_tokens=2_000), key) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert [b"stream_options" in seen.body for seen in faulty.seen("plain")] == [True, False, False]
    rows = [booked(gateway, reply) for reply in replies]
    assert [row["usage_source"] for row in rows] == ["estimated", "estimated"]
    first = gateway.call(rows[0]["attempt_of"])
    assert (first["state"], float(first["cost_usd"] or 0)) == ("released", 0)
    # A client's own option is the client's affair.
    asked = ask("plain/m", stream=True) | {"stream_options": {"include_usage": True}}
    assert post(gateway.url, CHAT, asked, key).status == 400


def test_that_it_takes_none_holds_from_the_first_byte_of_its_answer_on(
    gateway: Daemon, key: str, faulty: Faulty
) -> None:
    with Wire(gateway.url) as first, Wire(gateway.url) as second:
        for wire in (first, second):
            wire.send(request_bytes(CHAT, ask("going/m", stream=True), key))
            begun = b""
            while b"data:" not in begun:
                begun += wire.socket.recv(1 << 16)
        assert [b"stream_options" in seen.body for seen in faulty.seen("going")] == [True, False, False]
        ENOUGH.set()


@pytest.mark.parametrize("words", ["stream_options", "stream\\u005foptions", "whatever"])
def test_nobody_can_have_others_streams_counted_by_their_text(
    gateway: Daemon, key: str, faulty: Faulty, words: str
) -> None:
    """The error repeats the word because the client wrote it, or because the gateway did: leaving it out helps not."""
    body = ask("choosy/m", stream=True, max_tokens=30_000)
    wrong = json.dumps({**body, "messages": [{"role": "whatever", "content": words}]}).replace("\\\\u", "\\u")
    reply = post(gateway.url, CHAT, wrong.encode(), key)
    assert (reply.status, reply.cut) == (400, False)
    row = booked(gateway, post(gateway.url, CHAT, body, key))
    assert (row["usage_source"], row["output_tokens"]) == ("reported", 20_007)
    assert b"include_usage" in faulty.seen("choosy")[-1].body


@pytest.mark.parametrize("stream", [False, True])
def test_of_a_usage_that_leaves_out_the_input_it_is_estimated(gateway: Daemon, key: str, stream: bool) -> None:
    row = booked(gateway, post(gateway.url, CHAT, ask("inputless/m", stream=stream), key))
    assert (row["usage_source"], row["input_tokens"] > 0) == ("estimated", True)
    assert row["output_tokens"] >= 70


def test_an_error_that_states_usage_is_booked(gateway: Daemon, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("billing/m"), key)
    assert reply.status == 400
    row = booked(gateway, reply)
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("reported", 11, 5)
    assert (row["error"], float(row["cost_usd"])) == ("provider_400", 0.000061)


def test_a_long_error_passes_whole(gateway: Daemon, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("long/m"), key)
    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, LONG)
