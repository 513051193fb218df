"""A TOML table that is read key by key, so that each mistake can be named with its line, key and what to write.

What is read is kept in named tuples: each command defines them as it starts, and a frozen dataclass takes five times as
long for that (0.65 ms).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from llmctl.domain.errors import ConfigError

NOTHING: Mapping[str, Any] = MappingProxyType({})  # the table that is not there

_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")  # in capitals: a credential that was pasted here by mistake is not repeated
_KEY = re.compile(r""""[^"]*"|'[^']*'|[\w-]+""")
_PLACE = re.compile(rf"\s*(\[*)\s*((?:{_KEY.pattern})(?:\s*\.\s*(?:{_KEY.pattern}))*)\s*[\]=]")


class Table:
    """A TOML table that is read key by key, so that what nobody read is a mistake that can be named."""

    def __init__(self, values: Mapping[str, object], name: str, path: Path, text: str) -> None:
        self._values = values
        self._name = name
        self._read: set[str] = set()
        self.path = path
        self._text = text

    def names(self) -> list[str]:
        return list(self._values)

    def string(self, key: str, default: str) -> str:
        value = self._take(key, default)
        if isinstance(value, dict) and value:
            name = f"{key}.{next(iter(value))}"  # gpt-4.1 = "..." is a table to TOML
            raise self.error(key, "a name with a dot in it needs quotes", f'"{name}" = "..."')
        if not isinstance(value, str):
            raise self.error(key, "must be text in quotes", f'{key} = "{default}"')
        return value

    def env_name(self, key: str) -> str:
        name = self.string(key, "")
        if name and not _ENV_NAME.fullmatch(name):
            raise self.error(key, "must be the name of a variable, in capitals", f'{key} = "OPENAI_API_KEY"')
        return name

    def file(self, key: str, default: str) -> str:
        """A path, absolute; relative ones start beside the configuration file. "" stays ""."""
        name = self.string(key, default)
        try:
            if "\0" in name or (default and not name):
                raise ValueError
            return str(self.path.absolute().parent / Path(name).expanduser()) if name else ""
        except (ValueError, RuntimeError):  # ~nobody/
            raise self.error(key, f"{name!r} is not a path", f'{key} = "{default or "/etc/llmctl/NAME"}"') from None

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._take(key, default)
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "must be text or a list of texts", f'{key} = ["...", "..."]')
        return tuple(value)

    def integer(self, key: str, default: int, *, least: int = 0, most: int = 1 << 40) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, f"must be a whole number from {least} to {most}", f"{key} = {default}")
        return value

    def integers(self, key: str, default: tuple[int, ...], *, least: int, most: int) -> tuple[int, ...]:
        value = self._take(key, default)
        right = isinstance(value, (list, tuple)) and all(type(one) is int and least <= one <= most for one in value)
        if not isinstance(value, (list, tuple)) or not right:
            raise self.error(key, f"must be a list of whole numbers from {least} to {most}", f"{key} = {list(default)}")
        return tuple(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false", f"{key} = {str(default).lower()}")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86_400:
            raise self.error(key, "must be seconds, from more than 0 to 86400", f"{key} = {default:g}")
        return float(value)

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.string(key, default)
        if value not in choices:
            raise self.error(key, f"{value!r} is not possible", f"write one of {', '.join(choices)}")
        return value

    def table(self, key: str) -> Table:
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "must be a table", f"[{self._path_of(key)}]")
        return Table(value, self._path_of(key), self.path, self._text)

    def tables(self, key: str) -> list[Table]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "must be a list of tables", f"{key} = [{{ ... }}]")
        return [Table(item, self._path_of(key), self.path, self._text) for item in value]

    def finish(self) -> None:
        """Raises ConfigError for a key that nobody read."""
        for key in self._values:
            if key not in self._read:
                close = difflib.get_close_matches(key, self._read, n=1)
                mend = f'write "{close[0]}"' if close else f"known here: {', '.join(sorted(self._read))}"
                raise self.error(key, f'unknown key "{key}"', mend)

    def error(self, key: str, message: str, mend: str) -> ConfigError:
        """`config.toml:14: providers.openai.models: must be ...; write ...`"""
        place = self._path_of(key) if key else self._name
        what = message if message.startswith("unknown key") else f"{place}: {message}"
        return ConfigError(f"{self.path.name}:{self._line(key)}: {what}", hint=mend)

    def _take(self, key: str, default: object) -> object:
        self._read.add(key)
        return self._values.get(key, default)

    def _path_of(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _line(self, key: str) -> int:
        """The line of this key, or of the closest thing around it. tomllib does not tell: the text is searched."""
        wanted = f"{self._path_of(key) if key else self._name}."
        header, closest, line_of_it = "", "", 1
        for number, line in enumerate(self._text.split("\n"), 1):
            found = _PLACE.match(line)
            if found is None:
                continue
            place = ".".join(part.strip("\"'") for part in _KEY.findall(found[2])) + "."
            if found[1]:
                header = place
            else:
                place = header + place
            if place.startswith(wanted):
                return number
            if wanted.startswith(place) and len(place) > len(closest):
                closest, line_of_it = place, number
        return line_of_it


def parsed(path: Path, text: str) -> Table:
    """The whole file. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets nested as deeply
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="mend that line") from None
    return Table(values, "", path, text)


def is_base_url(text: str) -> bool:
    """An address that paths are put behind: without user, query or fragment, which might hold a secret."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and text.isascii() and text.isprintable() and not re.search(r"[\s?#@\\]", text)
