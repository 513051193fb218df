"""Google's service accounts: with their key, requests for an access token are signed.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from llmctl.domain.errors import ConfigError

from .oauth import Grant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # what Vertex AI asks for
LIFE_S = 3_600  # the most that Google grants
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True, repr=False)
class ServiceAccount:
    """Whose tokens are asked for, and where. No repr: it holds a private key."""

    email: str
    key_id: str
    url: str
    key: RSAPrivateKey

    def grant(self) -> Grant:
        return Grant(self.url, self._form)

    def _form(self, now_s: int) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        head = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        claims = {"iss": self.email, "scope": SCOPE, "aud": self.url, "iat": now_s, "exp": now_s + LIFE_S}
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        signature = self.key.sign(signed.encode(), PKCS1v15(), SHA256())
        return urlencode({"grant_type": _GRANT, "assertion": f"{signed}.{_base64(signature)}"}).encode()


def read_account(text: str, place: str) -> ServiceAccount:
    """The account whose key file holds `text`. Raises ConfigError, without anything of the key."""
    try:
        document = json.loads(text)
        email, pem, url = (str(document[name]) for name in ("client_email", "private_key", "token_uri"))
    except (ValueError, KeyError, TypeError):
        what, hint = "is not the key file of a service account", "make one in Google's console, as JSON"
        raise ConfigError(f"{place} {what}", hint=hint) from None
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError(f"{place}: its token_uri is no address", hint="take it as Google made it")
    return ServiceAccount(email, str(document.get("private_key_id", "")), url, _key(pem, place))


def _key(pem: str, place: str) -> RSAPrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        hint = "pip install 'llmctl[vertex]'"
        raise ConfigError("a service account needs the package cryptography", hint=hint) from None
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"{place} holds no private key of RSA", hint="take it as Google made it")
    return key


def _base64(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()
