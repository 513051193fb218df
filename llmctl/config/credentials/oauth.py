"""Tokens that a credential is exchanged for (RFC 6749, 5.1): what is posted where, and what comes back. Whoever calls
this sends it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

LIFE_S_MAX = 86_400
_ERROR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Token(NamedTuple):
    value: str
    life_s: int


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """How a token is asked for: `form`, made at a time in seconds, is posted to `url` as
    application/x-www-form-urlencoded. No repr: it holds a secret."""

    url: str
    form: Callable[[int], bytes]

    @property
    def authority(self) -> str:
        """Who gives the token."""
        return urlsplit(self.url).netloc


def read_token(body: bytes) -> Token:
    """Raises ValueError, with a text that tells what is wrong and no secret."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(answer, dict):
        raise ValueError("it is no token")
    value, life_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        error = answer.get("error")
        raise ValueError(error if isinstance(error, str) and _ERROR.fullmatch(error) else "it holds no token")
    if isinstance(life_s, str) and life_s.isdigit():
        life_s = int(life_s)
    if not isinstance(life_s, int) or life_s <= 0:
        raise ValueError("it does not say how long its token lives")
    return Token(value, min(life_s, LIFE_S_MAX))
