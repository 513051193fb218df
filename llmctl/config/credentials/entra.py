"""Microsoft Entra ID: a client's secret is exchanged for a token that lives for an hour or so.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlencode

from .oauth import Grant

AUTHORITY = "https://login.microsoftonline.com"  # other clouds have one of their own
SCOPE = "https://cognitiveservices.azure.com/.default"  # of all that Azure OpenAI serves
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Entra(NamedTuple):
    """Whose tokens, and for what."""

    authority: str
    tenant_id: str
    client_id: str
    scope: str

    @property
    def url(self) -> str:
        return f"{self.authority}/{self.tenant_id}/oauth2/v2.0/token"

    def grant(self, secret: str) -> Grant:
        fields = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": secret,
            "scope": self.scope,
        }
        form = urlencode(fields).encode()
        return Grant(self.url, lambda now_s: form)


def is_name(text: str) -> bool:
    """Whether this can be a tenant or a client: it becomes part of an address."""
    return _NAME.fullmatch(text) is not None
