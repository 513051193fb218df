"""Names in Gemini's requests. Google reads JSON as protobuf does: `maxOutputTokens` and `max_output_tokens` are one
field, and a list of one item may be written as the item (https://protobuf.dev/programming-guides/json)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Raw

from ..wire.fields import Fields, bad_request, read_objects, read_one

_CAPITAL = re.compile("[A-Z]")

Known = Mapping[str, tuple[str, str]]  # a name without case and underscores -> its two spellings


def known(*names: str) -> Known:
    """Names of fields, in camelCase, as `Spelled` looks them up."""
    return {flat(name): (name, _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)) for name in names}


def flat(name: str) -> str:
    return name.replace("_", "").casefold()


class Spelled:
    """An object's members by their names in camelCase, whichever of its two spellings each has. Those that decide money
    may be there once, and in no third spelling: servers disagree about which one counts."""

    __slots__ = ("_names", "fields")

    def __init__(self, fields: Fields, known: Known) -> None:
        self.fields = fields
        self._names: dict[str, str] = {}
        for name in fields.values:
            spellings = known.get(flat(name))
            if spellings is None:
                continue
            if name not in spellings:
                raise bad_request(f"{_shown(fields, name)} is not the name of a field; write {spellings[0]}")
            if spellings[0] in self._names:
                raise bad_request(f"{_shown(fields, name)} appears twice, in two spellings", param=spellings[0])
            self._names[spellings[0]] = name

    def __contains__(self, name: str) -> bool:
        return self.raw(name) is not None

    def written(self, name: str) -> str:
        """How the body spells `name`; where it has none, as it is."""
        return self._names.get(name, name)

    def raw(self, name: str) -> Raw | None:
        return self.fields.raw(self.written(name))

    def string(self, name: str) -> str | None:
        return self.fields.string(self.written(name))

    def integer(self, name: str, *, most: int | None = None) -> int | None:
        written = self.written(name)
        return self.fields.integer(written) if most is None else self.fields.integer(written, most=most)

    def object(self, name: str, known: Known) -> Spelled | None:
        fields = self.fields.object(self.written(name))
        return Spelled(fields, known) if fields is not None else None


def objects_in(value: Raw, path: str) -> list[dict[str, Raw]] | None:
    """The objects of a repeated field: a list of them, or a single one; None if it is anything else."""
    return read_objects(value, path) if memoryview(value)[0] == ord("[") else read_one(value, path)


def _shown(fields: Fields, name: str) -> str:
    return fields.path + (name if name.isprintable() else ascii(name))[:100]
