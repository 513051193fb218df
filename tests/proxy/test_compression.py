"""Compressed answers, read beside their way."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest

from llmctl.proxy import compression
from llmctl.proxy.compression import PIECE_BYTES_MAX, Unreadable, decoded, decoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = "".join(f'data: {{"delta": "wörd {number}"}}\n\n' for number in range(2_000)).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("gzip", lambda data: gzip.compress(data[:777]) + gzip.compress(data[777:])),
    "gzip with padding": ("x-gzip", lambda data: gzip.compress(data) + b"\0" * 12),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd of two frames": ("zstd", lambda data: zstd.compress(data[:777]) + zstd.compress(data[777:])),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_whatever_way_it_is_cut_the_plain_text_is_read(packer: str) -> None:
    encoding, pack = PACKERS[packer]
    packed = pack(TEXT)
    assert decoded(packed, encoding) == TEXT
    for chance in (None, random.Random(1), random.Random(2)):
        one, plain, position = decoder(encoding), b"", 0
        assert one is not None
        while position < len(packed):
            size = 1 if chance is None else chance.choice([1, 3, 40, 1400])
            plain += one.feed(packed[position : position + size])
            position += size
        assert plain == TEXT


@pytest.mark.parametrize("encoding", compression.ENCODINGS)
def test_what_is_not_what_it_says_is_unreadable(encoding: str) -> None:
    one = decoder(encoding)
    assert one is not None
    with pytest.raises(Unreadable):
        one.feed(b"\x1f\x8bnothing of the kind" * 100)
    assert decoded(b"nothing of the kind" * 100, encoding) == b""


@pytest.mark.parametrize("packer", ["gzip", "deflate", "brotli", "zstd"])
def test_a_bomb_is_unreadable_and_takes_bounded_memory(packer: str) -> None:
    encoding, pack = PACKERS[packer]
    bomb = pack(b" " * (PIECE_BYTES_MAX + (1 << 20)))
    assert len(bomb) < 1 << 20
    assert decoded(bomb, encoding) == b""


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_a_bomb_of_many_members_is_one_too(packer: str) -> None:
    encoding, pack = PACKERS[packer]
    member = pack(b" " * (1 << 20))
    most = PIECE_BYTES_MAX >> 20
    assert len(decoded(member * most, encoding)) == PIECE_BYTES_MAX
    assert decoded(member * (most + 1), encoding) == b""


def test_an_encoding_that_nobody_knows_is_unreadable() -> None:
    assert decoder("compress") is None
    assert decoded(b"x", "compress") == b""
    assert decoded(b"x", "identity") == decoded(b"x", "") == b"x"
