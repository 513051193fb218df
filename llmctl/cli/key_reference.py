"""Which key is meant: by its id, by name, by how its secret begins, or by a secret that is read from stdin."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageMistake

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.keys import Key, Secret

LINE_CHARS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Named:
    """A key as it was named on the command line; for `-`, by the secret that came on standard input."""

    reference: str
    secret: str  # "" unless the reference is -

    def find(self, tx: Tx, *, revoked: bool = False) -> tuple[Key, Secret | None]:
        """The key, and which of its secrets it was found by, if by one. Raises NotFound."""
        from llmctl.store import keys

        if self.secret:
            key, secret = keys.of_secret(tx, self.secret)
            return keys.get(tx, key.id, revoked=revoked), secret
        key = keys.get(tx, self.reference, revoked=revoked)
        begins = [one for one in keys.secrets_of(tx, key) if one.prefix == self.reference]
        return key, begins[0] if begins else None


def named(reference: str) -> Named:
    """Reads stdin for `-`: before a transaction, not in it. The daemon cannot wait for somebody who is typing."""
    return Named(reference, _secret_from_stdin() if reference == "-" else "")


def _secret_from_stdin() -> str:
    """The secret in the first line, also amid other text: people paste `OPENAI_API_KEY=sk-llmctl-...`."""
    from llmctl.store.secrets import PREFIX, SECRET_CHARS

    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("Secret (not shown): ", stream=sys.stderr)
    else:
        text = sys.stdin.readline(LINE_CHARS_MAX)
    start = text.find(PREFIX)
    secret = text[start : start + SECRET_CHARS] if start >= 0 else text.strip()
    if not secret:
        raise UsageMistake("no secret on stdin", hint="llmctl key show - < FILE, or paste it and press Enter")
    return secret
