"""multipart/form-data, read while it passes and as strictly as JSON: what was judged is what is sent, so a form that
two readers may read differently is refused. Files pass uncounted but for their size; fields are small, and kept.

RFC 7578, RFC 2046 section 5.1.1; as browsers and SDKs write it: https://html.spec.whatwg.org/#multipart-form-data
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from .fields import bad_request

PARTS_MAX = 256
HEAD_BYTES_MAX = 4 << 10  # of one part
FIELD_BYTES_MAX = 256 << 10  # a prompt of 32,000 characters, in any script
FIELDS_BYTES_MAX = 1 << 20
BEGINNING_BYTES = 64  # of a file: enough to see what it is
NAME_CHARACTERS_SHOWN = 60

_BOUNDARY = re.compile(
    r"""multipart/form-data\s*;\s*boundary=(?:"([\w'()+,./:=? -]{1,70})"|([\w'+.-]{1,70}))\s*""", re.A
)
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*;\s*({_WORD})\s*=\s*(?:"([^"\\\r\n]*)"|({_WORD}))')
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}(?:\[\w{0,32}\])?", re.A)
_HEADER = re.compile(rf"({_WORD}):[ \t]*([^\r\n]*?)[ \t]*", re.A)
_PLAIN_ENCODINGS = frozenset({"binary", "8bit", "7bit"})
_CHARSETS = frozenset({"", "utf-8", "us-ascii"})


class FormField(NamedTuple):
    """A part without a file. `start`, `end`: where its value stands in the body."""

    name: str
    value: bytes
    start: int
    end: int


class FormFile(NamedTuple):
    name: str
    filename: str
    size: int
    beginning: bytes


class Form(NamedTuple):
    fields: tuple[FormField, ...]
    files: tuple[FormFile, ...]


class FormReader:
    """Takes a form's bytes in pieces of any size."""

    def __init__(self, content_type: str) -> None:
        """Raises Refused: it is no form."""
        found = _BOUNDARY.fullmatch(content_type)
        if found is None:
            raise bad_request("the form's Content-Type names no boundary, or more than one", hint=_HINT)
        self._dash = b"--" + (found[1] or found[2]).encode()
        self._delimiter = b"\r\n" + self._dash
        self._buffer = bytearray(b"\r\n")  # before the first boundary, as before the others
        self._offset = -2  # of the buffer, in the body
        self._read = self._preamble
        self._fields: list[FormField] = []
        self._files: list[FormFile] = []
        self._fields_bytes = 0
        self._part = _Part("", None)
        self._value = bytearray()  # of a field; of a file, its beginning
        self._start = self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Raises Refused: it is none, or too much."""
        self._buffer += chunk
        while self._read():
            pass

    def close(self) -> Form:
        """After the last piece. Raises Refused: it broke off."""
        if self._read != self._epilogue or bytes(self._buffer) not in (b"", b"\r\n"):
            _wrong("does not end with its last boundary")
        return Form(tuple(self._fields), tuple(self._files))

    def _preamble(self) -> bool:
        if len(self._buffer) < len(self._delimiter) + 2:
            return False
        if not self._buffer.startswith(self._delimiter):
            _wrong("does not begin with its boundary")
        return self._take_delimiter(0)

    def _take_delimiter(self, at: int) -> bool:
        """What follows the boundary that stands there: a part, or the end."""
        after = at + len(self._delimiter)
        ending = bytes(self._buffer[after : after + 2])
        if ending not in (b"\r\n", b"--"):
            _wrong("has something behind a boundary")
        self._drop(after + 2)
        self._read = self._head if ending == b"\r\n" else self._epilogue
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(self._buffer) >= HEAD_BYTES_MAX:
                _wrong("has a part with too long a head")
            return False
        if len(self._fields) + len(self._files) >= PARTS_MAX:
            _wrong(f"has more than {PARTS_MAX} parts")
        self._part = _part(bytes(self._buffer[:end]))
        # The boundary may follow at once: its line end is that of the head.
        self._drop(end + 2)
        self._start, self._size, self._value = self._offset + 2, -2, bytearray()
        self._read = self._body
        return True

    def _body(self) -> bool:
        buffer = self._buffer
        at = buffer.find(self._delimiter, 0 if self._size >= 0 else 2)
        if at < 0:
            safe = len(buffer) - len(self._delimiter) + 1
            if safe > 2:
                self._keep(safe)
            return False
        if len(buffer) < at + len(self._delimiter) + 2:
            return False
        self._keep(at)
        self._end_part()
        return self._take_delimiter(0)

    def _keep(self, count: int) -> None:
        """The first `count` bytes of the buffer belong to the part; the first two of all, to the end of its head."""
        skipped = max(0, -self._size)
        self._size += count
        room = (FIELD_BYTES_MAX + 1 if self._part.filename is None else BEGINNING_BYTES) - len(self._value)
        if room > 0:
            self._value += self._buffer[skipped : min(count, skipped + room)]
        if self._part.filename is None and self._size > FIELD_BYTES_MAX:
            _wrong(f"has a field of more than {FIELD_BYTES_MAX:,} bytes: {self._part.name}")
        self._drop(count)

    def _end_part(self) -> None:
        part, value = self._part, bytes(self._value)
        if part.filename is not None:
            self._files.append(FormFile(part.name, part.filename, self._size, value))
            return
        self._fields_bytes += len(value)
        if self._fields_bytes > FIELDS_BYTES_MAX:
            _wrong(f"has fields of more than {FIELDS_BYTES_MAX:,} bytes together")
        self._fields.append(FormField(part.name, value, self._start, self._start + self._size))

    def _epilogue(self) -> bool:
        if len(self._buffer) > 2:
            _wrong("goes on behind its last boundary")
        return False

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count


class FormFields:
    """The fields of a form by name, as `Fields` gives those of an object; empty ones count as absent."""

    def __init__(self, form: Form, known: frozenset[str]) -> None:
        """`known`: names that decide something: none twice, in another case, as a list or as a file. Raises Refused."""
        self.form = form
        self._fields: dict[str, FormField] = {}
        for field in form.fields:
            if field.name in self._fields and field.name in known:
                _wrong(f"has the field {_shown(field.name)} twice")
            self._fields.setdefault(field.name, field)
        _refuse_variants((field.name for field in form.fields), known)
        _refuse_variants((file.name for file in form.files), known)
        for file in form.files:
            if file.name in known:
                _wrong(f"has a file where the field {_shown(file.name)} should be")

    def __contains__(self, name: str) -> bool:
        return self.string(name) is not None

    def field(self, name: str) -> FormField | None:
        return self._fields.get(name)

    def string(self, name: str) -> str | None:
        field = self._fields.get(name)
        if field is None or not field.value:
            return None
        try:
            return field.value.decode()
        except UnicodeDecodeError:
            raise bad_request(f"{name} is not valid UTF-8", param=name) from None

    def integer(self, name: str, *, least: int = 0, most: int = 1_000_000_000) -> int | None:
        text = self.string(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or not least <= (number := int(text)) <= most:
            raise bad_request(f"{name} must be an integer from {least} to {most}", param=name)
        return number

    def boolean(self, name: str) -> bool | None:
        text = self.string(name)
        if text is None:
            return None
        if text not in ("true", "false", "True", "False"):
            raise bad_request(f"{name} must be true or false", param=name)
        return text in ("true", "True")

    @property
    def size(self) -> int:
        """Bytes of all values together."""
        return sum(len(field.value) for field in self.form.fields)


class _Part(NamedTuple):
    name: str
    filename: str | None


_HINT = "let your HTTP library write the form"


def _part(head: bytes) -> _Part:
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        _wrong("has a head that is not valid UTF-8")
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            _wrong("has a part whose head cannot be read")
        headers[found[1].lower()] = found[2]
    part = _disposition(headers.get("content-disposition", ""))
    if headers.get("content-transfer-encoding", "binary").lower() not in _PLAIN_ENCODINGS:
        _wrong(f"has the part {_shown(part.name)} in an encoding of its own")
    charset = headers.get("content-type", "").lower().partition("charset=")[2].strip('" ')
    if part.filename is None and charset not in _CHARSETS:
        _wrong(f"has the field {_shown(part.name)} in another character set than UTF-8")
    return part


def _disposition(text: str) -> _Part:
    kind, separator, _ = text.partition(";")
    values: dict[str, str] = {}
    position = len(kind)
    while separator and position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None or (name := found[1].lower()) in values or name not in ("name", "filename", "filename*"):
            _wrong("has a part that is named oddly")
        values[name] = found[2] if found[2] is not None else found[3]
        position = found.end()
    name = values.get("name", "")
    if kind.strip().lower() != "form-data" or not _NAME.fullmatch(name) or name.lower() == "_charset_":
        _wrong("has a part that is named oddly")
    filename = values.get("filename", values.get("filename*"))
    if filename == "":
        _wrong(f"has the part {_shown(name)} with an empty file name")
    return _Part(name, filename)


def _refuse_variants(names: Iterable[str], known: frozenset[str]) -> None:
    """`MODEL`, `model[]`, `model[0]`: some servers take these for `model`."""
    for name in names:
        plain = name.partition("[")[0].lower()
        if name not in known and plain in known:
            _wrong(f"has a field {_shown(name)}; write {plain}")


def _shown(name: str) -> str:
    return name[:NAME_CHARACTERS_SHOWN]


def _wrong(what: str) -> NoReturn:
    raise bad_request(f"the form {what}", hint=_HINT)
