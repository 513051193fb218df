"""What reads an answer beside its way from the provider to the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from llmctl.dialects.stored import first_id
from llmctl.domain.call import Reading

from .compression import Decoder, Unreadable, decoded, decoder

WHOLE_BYTES_MAX = 1 << 20  # an answer up to this size is sent in one piece, with its length
ANSWER_BYTES_MAX = 64 << 20  # beyond it a body that is not a stream passes, but is no longer kept for reading
FIRST_BYTES_MAX = 16 << 10  # of a stream, in which its id is looked for
UNREADABLE = "answer_unreadable"  # something was answered, and how much of it is not known


class AnswerReader(Protocol):
    """What a dialect reads from an answer while it passes."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes what came and returns what the client is to get now."""

    def close(self) -> tuple[bytes, Reading]:
        """The rest for the client, and what was read."""


class WholeReader:
    """An answer that is one JSON body: kept until it is whole."""

    def __init__(self, read_answer: Callable[[bytes], Reading], encoding: str) -> None:
        self._read_answer = read_answer
        self._encoding = encoding
        self._chunks: list[bytes] = []
        self._size = 0
        self._sent = 0

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= ANSWER_BYTES_MAX:
            self._chunks.append(chunk)
        if self._size <= WHOLE_BYTES_MAX:
            return b""
        if self._sent == 0:
            self._sent = self._size
            return b"".join(self._chunks)
        self._sent = self._size
        return chunk

    def close(self) -> tuple[bytes, Reading]:
        body = b"".join(self._chunks)
        rest = body if self._sent == 0 else b""
        plain = b"" if self._size > ANSWER_BYTES_MAX else decoded(body, self._encoding)
        if body and not plain:
            return rest, Reading(error=UNREADABLE)
        return rest, self._read_answer(plain)


class NotingReader:
    """A stream that can be asked for again: its id is told as soon as it is seen."""

    def __init__(self, reader: AnswerReader, note: Callable[[str], None]) -> None:
        self._reader = reader
        self._note = note
        self._beginning = b""
        self._looking = True

    def feed(self, chunk: bytes) -> bytes:
        if self._looking:
            self._beginning += chunk
            if found := first_id(self._beginning):
                self._note(found)
            if found or len(self._beginning) > FIRST_BYTES_MAX:
                self._looking, self._beginning = False, b""
        return self._reader.feed(chunk)

    def close(self) -> tuple[bytes, Reading]:
        return self._reader.close()


class DecodingReader:
    """A compressed stream: the client gets the bytes as they came, the dialect's reader the plain ones."""

    def __init__(self, reader: AnswerReader, encoding: str) -> None:
        self._reader = reader
        self._decoder: Decoder | None = decoder(encoding)

    def feed(self, chunk: bytes) -> bytes:
        if self._decoder is not None:
            try:
                self._reader.feed(self._decoder.feed(chunk))
            except Unreadable:
                self._decoder = None
        return chunk

    def close(self) -> tuple[bytes, Reading]:
        _, reading = self._reader.close()
        return b"", reading if self._decoder is not None else reading._replace(error=UNREADABLE)


def masked(data: bytes, secret: bytes) -> bytes:
    """What a provider says, without our credential, should it repeat it."""
    return data.replace(secret, b"***") if secret and secret in data else data


class Kept:
    """An answer's first bytes, as they came."""

    __slots__ = ("_left", "chunks", "encoding")

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self.chunks: list[bytes] = []
        self.encoding = ""

    def take(self, chunk: bytes) -> None:
        if self._left > 0:
            self.chunks.append(chunk[: self._left])
            self._left -= len(chunk)

    @property
    def is_cut(self) -> bool:
        return self._left < 0
