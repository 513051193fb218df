"""Names that admins give: their form, and what to say when one is not there."""

from __future__ import annotations

import difflib
import re
import sqlite3
from collections.abc import Iterable

from llmctl.domain.errors import BadInput, NotFound

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}", re.IGNORECASE)


def check_name(noun: str, name: str) -> str:
    """The name, or BadInput. Names go into paths, tables and headers: a small alphabet keeps all of them safe."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a {noun} name",
            hint="use up to 64 letters, digits and . _ @ + -, starting with a letter or digit",
        )
    return name


def unknown(noun: str, name: str, known: Iterable[str]) -> NotFound:
    """`no group "slaes"; did you mean "sales"?  See: llmctl group list`"""
    close = difflib.get_close_matches(name.lower(), [other.lower() for other in known], n=1)
    suggestion = f'did you mean "{close[0]}"?  ' if close else ""
    return NotFound(f'no {noun} "{name}"', hint=f"{suggestion}See: llmctl {noun} list")


def column(tx: sqlite3.Connection, sql: str, *parameters: object) -> list[str]:
    return [row[0] for row in tx.execute(sql, parameters)]
