"""Microsoft Entra ID: a client's secret is exchanged for a token that lives for an hour or so. Here is what is sent and
what comes back; whoever calls this sends it.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

AUTHORITY = "https://login.microsoftonline.com"  # other clouds have one of their own
SCOPE = "https://cognitiveservices.azure.com/.default"  # of all that Azure OpenAI serves
LIFE_S_MAX = 86_400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Token(NamedTuple):
    value: str
    life_s: int


@dataclass(frozen=True, slots=True)
class Entra:
    """Whose tokens, and for what."""

    authority: str
    tenant_id: str
    client_id: str
    scope: str

    @property
    def url(self) -> str:
        return f"{self.authority}/{self.tenant_id}/oauth2/v2.0/token"

    def form(self, secret: str) -> bytes:
        """What is posted there, as application/x-www-form-urlencoded."""
        fields = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": secret,
            "scope": self.scope,
        }
        return urlencode(fields).encode()


def is_name(text: str) -> bool:
    """Whether this can be a tenant or a client: it becomes part of an address."""
    return _NAME.fullmatch(text) is not None


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
        raise ValueError(error if isinstance(error, str) and _NAME.fullmatch(error) else "it holds no token")
    if isinstance(life_s, str) and life_s.isdigit():
        life_s = int(life_s)
    if not isinstance(life_s, int) or life_s <= 0:
        raise ValueError("it does not say how long its token lives")
    return Token(value, min(life_s, LIFE_S_MAX))
