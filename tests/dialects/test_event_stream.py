"""Binary event streams: whole frames out of chunks that end anywhere, and nothing out of damaged ones."""

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.wire.event_stream import Damaged, Frame, FrameSplitter
from tests.support.frames import event, exception, frame

STREAM = event("messageStart", role="assistant") + event("metadata", usage={"inputTokens": 1}) + exception("x", "boom")
FRAMES = [
    Frame("event", "messageStart", b'{"role": "assistant"}'),
    Frame("event", "metadata", b'{"usage": {"inputTokens": 1}}'),
    Frame("exception", "x", b'{"message": "boom"}'),
]


def split(chunks: list[bytes]) -> list[Frame]:
    splitter = FrameSplitter()
    return [found for chunk in chunks for found in splitter.feed(chunk)]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=20))
@settings(max_examples=100)
def test_frames_are_found_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(STREAM)]
    assert split([STREAM[a:b] for a, b in pairwise(places)]) == FRAMES


def test_what_has_not_ended_is_held() -> None:
    splitter = FrameSplitter()
    assert list(splitter.feed(STREAM[:-1])) == FRAMES[:2]
    assert splitter.held > 0
    assert list(splitter.feed(STREAM[-1:])) == FRAMES[2:]
    assert splitter.held == 0


@pytest.mark.parametrize("place", range(0, len(FRAMES[0].payload) + 30, 3))
def test_a_changed_byte_is_found(place: int) -> None:
    damaged = bytearray(STREAM)
    damaged[place] ^= 1
    with pytest.raises(Damaged):
        split([bytes(damaged)])


def test_lengths_that_cannot_be_are_refused_at_once() -> None:
    for size, headers_size in ((8, 0), (1 << 31, 0), (40, 39)):
        lengths = struct.pack("!II", size, headers_size)
        with pytest.raises(Damaged):
            split([lengths + struct.pack("!I", zlib.crc32(lengths))])


def test_headers_of_other_types_are_skipped() -> None:
    block = (
        b"\x01a\x00" + b"\x01b\x04\0\0\0\1" + b"\x01c\x06\0\2xy" + b"\x01d\x08" + bytes(8) + b"\x01e\x09" + bytes(16)
    )
    block += b"\x0b:event-type\x07\0\4chat"
    prelude = struct.pack("!II", 16 + len(block), len(block))
    body = prelude + struct.pack("!I", zlib.crc32(prelude)) + block
    assert split([body + struct.pack("!I", zlib.crc32(body))]) == [Frame("event", "chat", b"")]


def test_a_frame_without_headers_is_an_event_without_a_name() -> None:
    assert split([frame(b"x")]) == [Frame("event", "", b"x")]
