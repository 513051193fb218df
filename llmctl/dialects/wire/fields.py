"""Strict reading of a JSON request: only the top level is taken apart, nested values stay bytes.

What was judged must be what is sent, so every way in which two readers of one body may differ is refused: duplicate
names, case variants of names that decide money (Go's encoding/json takes `MAX_TOKENS` for `max_tokens`), wrong types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import NoReturn

import msgspec
from msgspec import Raw

from ...domain.errors import Refused
from ...domain.usage import COUNT_MAX
from .shortened import restored, shortened

# Taking apart costs about 170 bytes of memory a member. No context window holds so many members or objects.
STRINGS_MAX = 250_000
OBJECTS_MAX = 100_000
FOUND_MAX = 100  # so often it is looked for, one by one, before all are counted
BYTES_UNCOUNTED = 500_000  # a shorter text cannot hold more of them than that
NAME_CHARACTERS_SHOWN = 100
NOTHING: frozenset[str] = frozenset()
_NULL = b"null"
_TRUE = b"true"
_FALSE = b"false"
_BOM = b"\xef\xbb\xbf"

# One member's name, from the comma or brace before it to its value. Possessive: a long name costs no backtracking.
_NAME = re.compile(rb'[ \t\r\n]*+[{,][ \t\r\n]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_BACKSLASH = ord("\\")
# A letter, digit or underscore written as an escape: looked for as such first, and then whether it is one.
_LETTER = re.compile(rb"\\u00(?:3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9Aa])")
_ESCAPED_LETTER = re.compile(rb"(?<!\\)(?:\\\\)*+" + _LETTER.pattern)
_START = re.compile(rb"[ \t\r\n]*+(?=\{)")
_END = re.compile(rb"[ \t\r\n]*+\}")

_members: Callable[[bytes | Raw], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
_objects: Callable[[Raw], list[dict[str, Raw]]] = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_items: Callable[[Raw], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode
_text: Callable[[bytes | Raw], str] = msgspec.json.Decoder(str).decode

bad_request = partial(Refused, "bad_request")


def read_object(body: bytes, known: frozenset[str] = NOTHING) -> Fields:
    """The members of the JSON object `body`. `known`: names that decide money; their variants in case are refused."""
    text = shortened(body)
    # Each string opens with a quote that no backslash escapes.
    quotes_max = 2 * STRINGS_MAX
    if has_more(text, b'"', quotes_max) and text.count(b'"') - text.count(b'\\"') > quotes_max:
        raise bad_request(f"the request body has more than {STRINGS_MAX:,} strings")
    try:
        values = _members(text)
        if not body.isascii():
            body.decode()  # msgspec does not look at the UTF-8 of values that it skips
    except msgspec.ValidationError:
        raise bad_request("the request body must be a JSON object") from None
    except RecursionError:
        raise bad_request("the request body is nested too deeply") from None
    except UnicodeDecodeError:
        raise bad_request("the request body is not valid UTF-8") from None
    except ValueError as error:
        if body.startswith(_BOM):
            raise bad_request("the request body starts with a byte order mark; send plain UTF-8") from None
        raise bad_request(f"the request body is not valid JSON: {_said_of(body, error)}") from None
    fields = Fields(body, text, values, len(text), "", None)
    fields.refuse_variants(known)
    return fields


class Fields:
    """The members of one JSON object inside a body. They are read from its short text, in which spans count; null
    counts as absent."""

    __slots__ = ("_parent", "_starts", "body", "path", "text", "values")

    def __init__(
        self,
        body: bytes,
        text: bytes,
        values: dict[str, Raw],
        size: int,
        path: str,
        parent: tuple[Fields, str] | None,
    ) -> None:
        """`size`: of the object, as it stands in `text`."""
        self.body = body
        self.text = text
        self.values = values
        self.path = path  # "stream_options." inside that object
        self._parent = parent
        self._starts: dict[str, int] | None = None
        if not holds_no_more(values, size):
            self._walk()

    def __contains__(self, name: str) -> bool:
        return self.raw(name) is not None

    def raw(self, name: str) -> Raw | None:
        """As it stands in the short text: its kind and its members can be read; how long it is, `full_size` says."""
        value = self.values.get(name)
        return value if value is not None and (len(value) != 4 or bytes(value) != _NULL) else None

    def string(self, name: str) -> str | None:
        value = self.raw(name)
        if value is None:
            return None
        try:
            return _text(value if self.text is self.body else restored(bytes(value), self.body))
        except msgspec.DecodeError:
            self._wrong(name, "must be a string")

    def integer(self, name: str, *, least: int = 0, most: int = COUNT_MAX) -> int | None:
        """Digits only: 1.0, 1e3, true and "1" are refused, since servers disagree about them."""
        value = self.raw(name)
        if value is None:
            return None
        digits = bytes(value)
        if not digits.isdigit() or len(digits) > 18 or not least <= (number := int(digits)) <= most:
            self._wrong(name, f"must be an integer from {least} to {most}")
        return number

    def boolean(self, name: str) -> bool | None:
        value = self.raw(name)
        if value is None:
            return None
        word = bytes(value)
        if word not in (_TRUE, _FALSE):
            self._wrong(name, "must be true or false")
        return word == _TRUE

    def object(self, name: str, known: frozenset[str] = NOTHING) -> Fields | None:
        value = self.raw(name)
        if value is None:
            return None
        try:
            values = _members(value)
        except msgspec.ValidationError:
            self._wrong(name, "must be an object")
        fields = Fields(self.body, self.text, values, len(value), f"{self.path}{name}.", (self, name))
        fields.refuse_variants(known)
        return fields

    def span(self, name: str) -> tuple[int, int]:
        """Where the value of `name` (which must be there) stands in the text."""
        starts = self._starts if self._starts is not None else self._walk()
        return starts[name], starts[name] + len(self.values[name])

    @property
    def start(self) -> int:
        """Where the object's opening brace stands in the text."""
        if self._parent is not None:
            fields, name = self._parent
            return fields.span(name)[0]
        found = _START.match(self.text)
        assert found is not None
        return found.end()

    def refuse_variants(self, known: frozenset[str]) -> None:
        """Refuses `MAX_TOKENS`, `Max_tokens`, also with the letters that Unicode folds to ASCII (U+017F, U+212A), and
        what C takes for the end of a name."""
        if not known or known.issuperset(self.values):
            return
        folded = _folded(frozenset(known))
        for name in self.values:
            if name not in known and (meant := folded.get(name.partition("\0")[0].casefold())):
                self._wrong(name, f"is not the name of a field; write {meant}")

    def _walk(self) -> dict[str, int]:
        """Finds each value in the text. The members of a valid object are found in the order of `values`, unless a
        name stands there twice: the walk stumbles over that one."""
        text, position, starts, last = self.text, self.start, {}, ""
        for name, value in self.values.items():
            found = _NAME.match(text, position)
            if found is None:  # the value of `last` that stands here is longer than the one that counts
                self._wrong(last, "appears twice")
            if (written := decode_name(found[1])) != name:
                self._wrong(written, "appears twice")
            position = found.end()
            if not text.startswith(value, position):
                self._wrong(name, "appears twice")
            starts[name] = position
            position += len(value)
            last = name
        if found := _NAME.match(text, position):
            self._wrong(decode_name(found[1]), "appears twice")
        if starts and not _END.match(text, position):
            self._wrong(last, "appears twice")
        self._starts = starts
        return starts

    def _wrong(self, name: str, what: str) -> NoReturn:
        name = self.path + (name if name.isprintable() else ascii(name))[:NAME_CHARACTERS_SHOWN]
        raise bad_request(f"{name} {what}", param=name)


def _said_of(body: bytes, error: ValueError) -> ValueError:
    """The place that it names is to be one of the body, not of its short text."""
    try:
        _members(body)
    except ValueError as whole:
        return whole
    return error


@lru_cache
def _folded(known: frozenset[str]) -> Mapping[str, str]:
    """Each name by itself without case."""
    return {name.casefold(): name for name in known}


def compact_size(values: Mapping[str, Raw]) -> int:
    """The bytes that an object with these members takes at least: without spaces, names without escapes."""
    return 1 + len("".join(values)) + sum(map(len, values.values())) + 4 * len(values) + (not values)


def holds_no_more(values: Mapping[str, Raw], size: int) -> bool:
    """Whether `size` bytes leave no room for a name that stands there twice: `"n":1,` takes five and its letters.
    False says nothing."""
    room = size - compact_size(values)
    return room < 5 or room < 5 + min(map(len, values), default=0)


def has_more(text: bytes | Raw, mark: bytes, most: int) -> bool:
    """Whether a byte stands in a long text more often. What is mostly one string, as an image is, costs no counting."""
    if len(text) <= BYTES_UNCOUNTED:
        return False
    text, position = bytes(text), -1
    for _ in range(FOUND_MAX):
        position = text.find(mark, position + 1)
        if position < 0:
            return False
    return text.count(mark) > most


def read_objects(value: Raw, path: str, *, counted: bool = False) -> list[dict[str, Raw]] | None:
    """The members of each object in a JSON list, without duplicates; None if `value` is anything else, or too long.
    `counted`: it is part of one that was not."""
    if not counted and has_more(value, b"{", OBJECTS_MAX):
        return None
    try:
        objects = _objects(value)
    except (msgspec.ValidationError, RecursionError):
        return None
    if len(value) != len(objects) + 1 + sum(map(compact_size, objects)):
        for index, item in enumerate(_items(value)):
            if not holds_no_more(objects[index], len(item)):
                check_members(bytes(item), objects[index], f"{path}[{index}].")
    return objects


def read_one(value: Raw, path: str) -> list[dict[str, Raw]] | None:
    """As read_objects, for one object instead of a list."""
    try:
        values = _members(value)
    except (msgspec.ValidationError, RecursionError):
        return None
    if not holds_no_more(values, len(value)):
        check_members(bytes(value), values, f"{path}.")
    return [values]


def check_members(text: bytes, values: dict[str, Raw], path: str) -> None:
    """Refuses an object in which a name stands twice."""
    Fields(text, text, values, len(text), path, None)


def is_obscure(text: bytes) -> bool:
    """Whether letters in this JSON are written as escapes. Nobody does so for a good reason: any word may be there."""
    # A byte alone is found at once, and as a number sooner still.
    return _BACKSLASH in text and _LETTER.search(text) is not None and _ESCAPED_LETTER.search(text) is not None


def may_say(value: bytes | Raw, word: bytes) -> bool:
    """Whether `word` stands in this JSON, in one spelling or another."""
    text = bytes(value)
    return word in text or is_obscure(text)


def decode_name(name: bytes) -> str:
    return name.decode() if b"\\" not in name else _text(b'"%b"' % name)
