"""A JSON text without what its long strings hold: an image or a document is gone through once, instead of once for
every level that it is nested in. What was left out is found again by the mark that stands in its place.

Quotes alone say where strings begin and end, in every reading of JSON; nothing in a long string is a name, a type or a
number. So what is judged by the short text is judged of the whole one; but for control characters that JSON does not
allow in strings: where a long one has no escapes, nobody looks for them, and the provider refuses them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

TEXT_BYTES_MIN = 16 << 10  # a shorter text is read as it is
STRING_BYTES_MIN = 4 << 10
BEGINNING_BYTES = 256  # of a long string stay: "data:image/png;base64,..."
# So many quotes are looked for: where they stand closer (code, JSON in a string), that costs more than it saves.
QUOTES_FREE, BYTES_A_QUOTE = 64, 1 << 10
BACKSLASH = ord("\\")
BACKSLASHES_MAX = 32  # in a row, before a quote

_TOKEN = secrets.token_hex(16).encode()  # nobody can write a mark who does not know it
_check = Decoder(Raw).decode
_MARK = re.compile(rb"<%b:(\d+):(\d+)>" % _TOKEN)  # what is left out: where it begins, and where it ends


def shortened(text: bytes) -> bytes:
    """The same JSON, if it is JSON at all, with short strings; `text` itself if it has no long ones."""
    if len(text) < TEXT_BYTES_MIN:
        return text
    pieces: list[bytes] = []
    kept_to = 0
    for begin, end in _long_strings(text):
        cut = _cut(text, begin)
        pieces += (text[kept_to:cut], b"<%b:%d:%d>" % (_TOKEN, cut, end))
        kept_to = end
    return b"".join((*pieces, text[kept_to:])) if pieces else text


def restored(short: bytes, text: bytes) -> bytes:
    """With everything that was left out of `text`."""
    pieces: list[bytes | memoryview] = []
    position, view = 0, memoryview(text)
    for mark in _MARK.finditer(short):
        pieces += (short[position : mark.start()], view[int(mark[1]) : int(mark[2])])
        position = mark.end()
    return b"".join((*pieces, short[position:])) if pieces else short


def full_size(value: Raw | bytes) -> int:
    """How many bytes it has with what was left out."""
    size = len(value)
    if size > len(_TOKEN):
        for mark in _MARK.finditer(bytes(value)):
            size += int(mark[2]) - int(mark[1]) - len(mark[0])
    return size


def _long_strings(text: bytes) -> Iterator[tuple[int, int]]:
    """Where they begin and end, without their quotes; as far as quotes stand far enough apart."""
    begin, position, view = 0, 0, memoryview(text)  # begin 0: outside of a string
    for _ in range(QUOTES_FREE + len(text) // BYTES_A_QUOTE):
        quote = text.find(b'"', position)
        if quote < 0:
            return
        position = quote + 1
        if not begin:
            begin = position
            continue
        if text[quote - 1] == BACKSLASH and quote > begin:
            run = text[max(begin, quote - BACKSLASHES_MAX) : quote]
            backslashes = len(run) - len(run.rstrip(b"\\"))
            if backslashes == BACKSLASHES_MAX:
                return
            if backslashes % 2:
                continue  # it is part of the string
        if quote - begin >= STRING_BYTES_MIN:
            if text.find(b"\\", begin, quote) >= 0:
                try:
                    _check(view[begin - 1 : position])  # nobody does so again: an escape that is none may hide a quote
                except DecodeError:
                    return
            yield begin, quote
        begin = 0


def _cut(text: bytes, begin: int) -> int:
    """Where the beginning of a long string ends: before its first escape, and not inside a character."""
    cut = begin + BEGINNING_BYTES
    escape = text.find(b"\\", begin, cut)
    if escape >= 0:
        return escape
    while cut > begin and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut
