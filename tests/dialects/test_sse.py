"""Cutting a byte stream into events, wherever the chunks end."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.wire import sse
from llmctl.dialects.wire.sse import Event, Splitter

NEWLINES = [b"\n", b"\r\n", b"\r"]


def cut(body: bytes, sizes: list[int]) -> list[Event]:
    splitter, events, position = Splitter(), [], 0
    for size in [*sizes, len(body)]:
        events += splitter.feed(body[position : position + size])
        position += size
    return events + splitter.close()


@settings(deadline=None)
@given(st.sampled_from(NEWLINES), st.lists(st.integers(1, 9), max_size=80), st.booleans())
def test_events_are_whole_wherever_chunks_end(newline: bytes, sizes: list[int], last_blank_line: bool) -> None:
    lines = [
        b": comment",
        b"",
        b"event: tick",
        b"data: a",
        b"data: b",
        b"",
        "data: é€😀".encode(),
        b"",
        b"data: [DONE]",
    ]
    body = newline.join([*lines, b"", b""] if last_blank_line else lines)
    events = cut(body, sizes)
    assert b"".join(event.raw for event in events) == body
    read = [(event.name, event.data) for event in events if event.raw.strip()]
    assert read == [(b"", b""), (b"tick", b"a\nb"), (b"", "é€😀".encode()), (b"", b"[DONE]")]


@settings(deadline=None, max_examples=300)
@given(st.text("ab\r\n:", max_size=40).map(str.encode), st.lists(st.integers(1, 5), max_size=40))
def test_no_byte_is_lost_and_chunks_do_not_matter(body: bytes, sizes: list[int]) -> None:
    events = cut(body, sizes)
    assert b"".join(event.raw for event in events) == body
    assert [event.raw for event in events] == [event.raw for event in cut(body, [])]


def test_fields_are_read_as_the_standard_says() -> None:
    event = Event(b"\xef\xbb\xbfdata:x\ndata\nid: 7\nevent: a\ndata:  y\nevent:b\n\n")
    assert event.data == b"x\n\n y"
    assert event.name == b"b"
    assert Event(b'error: {"code":1}\n\n').error == b'{"code":1}'
    assert Event(b": only a comment\n\n").data == b""


def test_an_event_beyond_the_bound_passes_in_pieces_that_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 1000)
    body = b"data: " + b"x" * 5000 + b"\r\n\r\ndata: y\n\n"
    for size in (1, 7, 999, 1001, len(body)):
        splitter = Splitter()
        events = []
        for start in range(0, len(body), size):
            events += splitter.feed(body[start : start + size])
            assert splitter.held <= 1000 + size
        events += splitter.close()
        assert b"".join(event.raw for event in events) == body
        assert all(event.oversized for event in events[:-1])
        assert (events[-1].oversized, events[-1].data) == (False, b"y")


def test_time_grows_with_the_bytes_and_not_with_their_square() -> None:
    def seconds(size: int) -> float:
        started = time.perf_counter()
        events = cut(b"data: " + b"x" * size + b"\n\n", [1] * size)
        assert len(events) == 1
        return time.perf_counter() - started

    seconds(1_000)
    assert seconds(200_000) < 100 * max(seconds(10_000), 0.005)  # its square would be 400 times


def test_the_pattern_for_line_ends_never_splits_crlf() -> None:
    assert sse._END.search(b"a\r\nb\r\n") is None
    assert re.fullmatch(sse._END, b"\r\n\r\n")
