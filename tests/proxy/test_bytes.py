"""Answers pass byte for byte, whatever the provider sends, and are metered beside it."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Answer, Daemon
from tests.support.faulty import wait_until

from .recorder import Recorder

CHAT = "/v1/chat/completions"
EVENTS = "text/event-stream"

HELLO = (
    '{"id":"1","model":"echo-1","choices":[{"index":0,"delta":{"content":"naïve 😀"},"finish_reason":null}]}'.encode()
)
STOP = b'{"id":"1","model":"echo-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}'
FILTER = b'{"id":"","model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}'  # Azure's first chunk
USAGE = (
    b'{"id":"1","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,'
    b'"prompt_tokens_details":{"cached_tokens":900}}}'
)
BOOKED = (1000, 900, 50)


def stream(usage: bytes, *, end: bytes = b"\n", data: bytes = b"data: ", last: bytes | None = None) -> bytes:
    """A chat stream; `usage` goes where its event belongs, `last` after [DONE]."""
    events = [FILTER, HELLO, STOP]
    head = b"".join(data + event + end * 2 for event in events)
    return head + usage + data + b"[DONE]" + (end * 2 if last is None else last)


def usage_event(end: bytes = b"\n", data: bytes = b"data: ") -> bytes:
    return data + USAGE + end * 2


# name -> (the stream with the usage event, that event's bytes)
ODD_STREAMS: dict[str, tuple[bytes, bytes]] = {
    "plain": (stream(usage_event()), usage_event()),
    "CRLF": (stream(usage_event(b"\r\n"), end=b"\r\n"), usage_event(b"\r\n")),
    "CR": (stream(usage_event(b"\r"), end=b"\r"), usage_event(b"\r")),
    "no blank after the colon": (stream(usage_event(data=b"data:"), data=b"data:"), usage_event(data=b"data:")),
    "comments": (b": hello\n\n" + stream(usage_event() + b":keep-alive\n\n") + b": bye\n\n", usage_event()),
    "ids and retry": (b"id: 1\nretry: 500\n" + stream(usage_event()), usage_event()),
    "no last blank line": (stream(usage_event(), last=b"\n"), usage_event()),
    "no last line end": (stream(usage_event(), last=b""), usage_event()),
    "usage without a blank line at the end": (b"data: %b\n\ndata: %b" % (HELLO, USAGE), b"data: " + USAGE),
    "a BOM": (b"\xef\xbb\xbf" + stream(usage_event()), usage_event()),
    "data in two lines": (
        stream(b"data: " + USAGE.replace(b",", b",\ndata: ", 1) + b"\n\n"),
        b"data: " + USAGE.replace(b",", b",\ndata: ", 1) + b"\n\n",
    ),
    "an unknown line": (b"garbage\n\n" + stream(usage_event()), usage_event()),
}
EACH_ODD = pytest.mark.parametrize("name", ODD_STREAMS)
CUTS = pytest.mark.parametrize("cut", ["whole", "cut up"])


def ask(gateway: Daemon, key: str, *, include_usage: bool, **headers: str) -> Answer:
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 60}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return gateway.send(CHAT, body, key=key, headers={name.replace("_", "-"): value for name, value in headers.items()})


def pieces(text: bytes, cut: str) -> list[bytes]:
    """`cut up`: inside a character, inside CRLF, between the line ends that end an event, inside USAGE."""
    if cut == "whole":
        return [text]
    places = {text.find("😀".encode()) + 2, text.find(b"\r\n") + 1, text.find(b"\n\n") + 1, text.find(b'"usage":{') + 4}
    places |= {place + len(USAGE) for place in [text.find(USAGE)] if place >= 0} | {len(text) - 1}
    edges = [0, *sorted(place for place in places if place > 1), len(text)]
    return [text[start:end] for start, end in pairwise(edges) if start < end]


def counts(row: dict[str, int]) -> tuple[int, int, int]:
    return row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]


@EACH_ODD
@CUTS
def test_a_stream_whose_usage_was_asked_for_passes_untouched(
    gateway: Daemon, key: str, recorder: Recorder, name: str, cut: str
) -> None:
    text, _ = ODD_STREAMS[name]
    recorder.reply(*pieces(text, cut), content_type=EVENTS)
    assert ask(gateway, key, include_usage=True).body == text


@EACH_ODD
@CUTS
def test_of_a_stream_whose_usage_was_injected_only_the_usage_event_is_missing(
    gateway: Daemon, key: str, recorder: Recorder, name: str, cut: str
) -> None:
    text, event = ODD_STREAMS[name]
    recorder.reply(*pieces(text, cut), content_type=EVENTS)
    assert text.count(event) == 1
    assert ask(gateway, key, include_usage=False).body == text.replace(event, b"")


def test_every_odd_stream_is_metered(gateway: Daemon, recorder: Recorder) -> None:
    key = gateway.add_user("odd")
    for name, (text, _) in ODD_STREAMS.items():
        for cut in ("whole", "cut up"):
            for include_usage in (True, False):
                recorder.reply(*pieces(text, cut), content_type=EVENTS)
                assert ask(gateway, key, include_usage=include_usage).status == 200, name
    rows = gateway.calls("--user", "odd", "--limit", "1000", count=4 * len(ODD_STREAMS))
    assert {(row["usage_source"], row["state"], counts(row)) for row in rows} == {("reported", "settled", BOOKED)}


def test_a_stream_passes_as_it_comes_not_when_it_is_whole(gateway: Daemon, key: str, recorder: Recorder) -> None:
    text, _ = ODD_STREAMS["plain"]
    recorder.reply(b"data: %b\n\n" % HELLO, *[b": wait\n\n"] * 60, text, content_type=EVENTS)
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
    body = json.dumps({"model": "echo-1", "messages": [], "stream": True})
    connection.request("POST", CHAT, body, {"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    first = response.read1()
    assert first.startswith(b"data: %b\n\n" % HELLO)
    assert b"[DONE]" not in first
    rest = response.read()
    connection.close()
    assert b"[DONE]" in rest


ODD_WHOLE = (
    b'\n { "usage" : {"completion_tokens": 50,"prompt_tokens":1000, "prompt_tokens_details":{"cached_tokens":900}},\r\n'
    b'"choices":[{"index":0,"message":{"content":"\\u00e9 \xf0\x9f\x98\x80"}}], "model":"echo-1-2026" , "new":1.50 } \n'
)


@pytest.mark.parametrize("cut", [(), (1, 40, 41, 150)], ids=["whole", "cut up"])
def test_a_whole_answer_passes_byte_for_byte(
    gateway: Daemon, key: str, recorder: Recorder, cut: tuple[int, ...]
) -> None:
    edges = [0, *cut, len(ODD_WHOLE)]
    recorder.reply(*(ODD_WHOLE[start:end] for start, end in pairwise(edges)), content_type="application/json")
    answer = gateway.send(CHAT, {"model": "echo-1", "messages": []}, key=key)
    assert answer.body == ODD_WHOLE
    row = gateway.call(answer.call_id)
    assert (counts(row), row["response_model"]) == (BOOKED, "echo-1-2026")


def test_a_compressed_answer_passes_compressed_and_is_metered(gateway: Daemon, key: str, recorder: Recorder) -> None:
    for encoding, packed in (("gzip", gzip.compress(ODD_WHOLE)), ("deflate", zlib.compress(ODD_WHOLE))):
        recorder.reply(packed, content_type="application/json", content_encoding=encoding)
        answer = gateway.send(
            CHAT, {"model": "echo-1", "messages": []}, key=key, headers={"Accept-Encoding": "gzip, deflate, dcb"}
        )
        assert "dcb" not in recorder.last.headers["Accept-Encoding"]  # metering could not read it
        assert answer.headers["Content-Encoding"] == encoding
        assert answer.body == packed
        row = gateway.call(answer.call_id)
        assert (row["usage_source"], counts(row)) == ("reported", BOOKED)


def test_a_compressed_stream_passes_compressed_and_is_metered(gateway: Daemon, key: str, recorder: Recorder) -> None:
    packed = gzip.compress(ODD_STREAMS["plain"][0])
    recorder.reply(packed[:11], packed[11:90], packed[90:], content_type=EVENTS, content_encoding="gzip")
    answer = ask(gateway, key, include_usage=True, accept_encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.body == packed
    row = gateway.call(answer.call_id)
    assert (row["usage_source"], counts(row)) == ("reported", BOOKED)


def test_a_stream_that_is_compressed_although_nobody_wanted_it_is_unpacked_for_what_was_injected(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    whole, injected = ODD_STREAMS["plain"]
    packed = gzip.compress(whole)
    recorder.reply(packed[:11], packed[11:90], packed[90:], content_type=EVENTS, content_encoding="gzip")
    answer = ask(gateway, key, include_usage=False, accept_encoding="gzip")
    assert recorder.last.headers["Accept-Encoding"] == "identity"
    assert "Content-Encoding" not in answer.headers
    assert answer.body == whole.replace(injected, b"")
    row = gateway.call(answer.call_id)
    assert (row["usage_source"], counts(row)) == ("reported", BOOKED)


def test_such_a_stream_that_cannot_be_unpacked_is_cut_and_booked_at_its_hold(
    gateway: Daemon, key: str, recorder: Recorder
) -> None:
    packed = gzip.compress(ODD_STREAMS["plain"][0])
    recorder.reply(packed[:90], b"\xff" * 100, content_type=EVENTS, content_encoding="gzip")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(gateway, key, include_usage=False)
    assert wait_until(lambda: gateway.json("calls", "--limit", "1")[0]["state"] != "open")
    (row,) = gateway.json("calls", "--limit", "1")
    assert (row["state"], row["error"], row["usage_source"]) == ("settled", "provider_failed", "estimated")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_streams_that_always_tell_usage_pass_untouched(
    gateway: Daemon, key: str, recorder: Recorder, path: str, end: bytes
) -> None:
    if path == "/v1/responses":
        events = [
            b'event: response.created\ndata: {"type":"response.created","response":{"model":"echo-1"}}\n\n',
            b': ping\n\nevent: response.completed\ndata: {"type":"response.completed","response":{"model":"echo-1",',
            b'"usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":900},"output_tokens":50}}}\n\n',
        ]
    else:
        events = [
            b'event: message_start\ndata: {"type":"message_start","message":{"model":"echo-1","usage":{"input_tokens":',
            b'100,"cache_read_input_tokens":900,"output_tokens":1}}}\n\nevent: ping\ndata: {"type":"ping"}\n\n',
            b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":50}}\n\n',
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ]
    sent = [event.replace(b"\n", end) for event in events]
    recorder.reply(*sent, content_type=EVENTS)
    body = {"model": "echo-1", "input": "x", "messages": [], "max_tokens": 60, "stream": True}
    answer = gateway.send(path, body, key=key)
    assert answer.body == b"".join(sent)
    row = gateway.call(answer.call_id)
    assert (row["usage_source"], counts(row)) == ("reported", BOOKED)
