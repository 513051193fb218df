"""What reads an answer beside its way from the provider to the client."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from llmctl.dialects.base import AnswerReader
from llmctl.dialects.stored import first_id
from llmctl.domain.call import Reading

from .compression import Decoder, Unreadable, decoded, decoder

WHOLE_BYTES_MAX = 1 << 20  # an answer up to this size is sent in one piece, with its length
ANSWER_BYTES_MAX = 64 << 20  # beyond it a body that is not a stream passes, but is no longer kept for reading
FIRST_BYTES_MAX = 16 << 10  # of a stream, in which its id is looked for
SECRET_CHARS_MIN = 12  # a shorter one is a placeholder for a server that wants none, and a word of other texts
LINE_END = ord("\n")
UNREADABLE = "answer_unreadable"  # something was answered, and how much of it is not known


class WholeReader(Struct, eq=False):
    """An answer that is one JSON body: kept until it is whole."""

    _read_answer: Callable[[bytes], Reading]
    _encoding: str
    first_output: bool = False
    _chunks: list[bytes] = []
    _body: bytes = b""
    _size: int = 0
    _sent: int = 0

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

    def close(self) -> bytes:
        self._body = b"".join(self._chunks)
        return self._body if self._sent == 0 else b""

    def reading(self) -> Reading:
        plain = b"" if self._size > ANSWER_BYTES_MAX else decoded(self._body, self._encoding)
        if self._body and not plain:
            return Reading(error=UNREADABLE)
        return self._read_answer(plain)


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

    @property
    def first_output(self) -> bool:
        return self._reader.first_output

    def close(self) -> bytes:
        return self._reader.close()

    def reading(self) -> Reading:
        return self._reader.reading()


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

    @property
    def first_output(self) -> bool:
        return self._reader.first_output

    def close(self) -> bytes:
        self._reader.close()
        return b""

    def reading(self) -> Reading:
        reading = self._reader.reading()
        return reading if self._decoder is not None else replace(reading, error=UNREADABLE)


class UnpackingReader:
    """A stream that was compressed although we asked for none, as there is something of ours in it to take out: the
    client gets plain bytes. `feed` raises Unreadable."""

    def __init__(self, reader: AnswerReader, decoder: Decoder) -> None:
        self._reader = reader
        self._decoder = decoder

    def feed(self, chunk: bytes) -> bytes:
        plain = self._decoder.feed(chunk)
        return self._reader.feed(plain) if plain else b""

    @property
    def first_output(self) -> bool:
        return self._reader.first_output

    def close(self) -> bytes:
        return self._reader.close()

    def reading(self) -> Reading:
        return self._reader.reading()


class Mask:
    """What a provider says, without our credential, should it repeat it: as it is, or as JSON may spell it; also where
    it is cut in two by the end of a chunk. `secrets`: what it is made of."""

    def __init__(self, *secrets: str) -> None:
        self._spellings = _spellings(secrets)
        self._held = b""

    def whole(self, data: bytes) -> bytes:
        """What is there as a whole."""
        for secret in self._spellings:
            data = data.replace(secret, b"***")
        return data

    def feed(self, chunk: bytes) -> bytes:
        """The next chunk, without what may be the beginning of a secret at its end."""
        data = self.whole(self._held + chunk) if self._held else self.whole(chunk)
        if not data or data[-1] == LINE_END or not self._spellings:  # most often: an event is there as a whole
            self._held = b""
            return data
        begun = max(_begun(data, secret) for secret in self._spellings)
        self._held = data[len(data) - begun :]
        return data[: len(data) - begun]

    def close(self, rest: bytes) -> bytes:
        """What is left, with the end of the answer."""
        return self.whole(self._held + rest)


@lru_cache(maxsize=64)
def _spellings(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    found = [_spelled(secret) for secret in secrets if len(secret) >= SECRET_CHARS_MIN]
    return tuple(spelling for spellings in found for spelling in spellings)


def _spelled(secret: str) -> set[bytes]:
    """Slashes as PHP writes them, and what .NET and Gson do not leave as it is."""
    dotnet = "".join(f"\\u{ord(char):04X}" if char in "+&<>'`" else char for char in secret)
    gson = "".join(f"\\u{ord(char):04x}" if char in "=&<>'" else char for char in secret)
    slashed = [
        text.replace("/", slash) for text in (secret, dotnet, gson) for slash in ("/", "\\/", "\\u002F", "\\u002f")
    ]
    return {text.encode() for text in slashed}


def _begun(data: bytes, secret: bytes) -> int:
    """How many bytes at the end may be the beginning of it."""
    if data[-1] not in secret:
        return 0
    longest = min(len(data), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if secret.startswith(data[-size:])), 0)


class KeptAnswer:
    """An answer's first bytes, as they came."""

    __slots__ = ("_left", "chunks", "encoding", "mask", "texts")

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self.chunks: list[bytes] = []
        self.encoding = ""
        self.mask = Mask()
        self.texts: Callable[[bytes], list[str]] | None = None  # reads a stream: there, a text comes in many pieces

    def take(self, chunk: bytes) -> None:
        if self._left > 0:
            self.chunks.append(chunk[: self._left])
            self._left -= len(chunk)

    def plain(self) -> bytes:
        """Without our credential, also where it is cut off in the middle of it."""
        masked = self.mask.feed(decoded(b"".join(self.chunks), self.encoding))
        return masked if self.is_cut else masked + self.mask.close(b"")

    @property
    def is_cut(self) -> bool:
        return self._left < 0
