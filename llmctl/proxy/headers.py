"""Which headers pass, and which do not. Everything that is not named here passes, in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy

from llmctl.domain.errors import Refused

# RFC 9110, 7.6.1, and what older proxies send.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection "
    "te trailer transfer-encoding upgrade".split()
)
KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
# Towards the provider: client keys, and whatever would bill or identify an account other than ours.
_NOT_UPSTREAM = HOP_BY_HOP | {
    "authorization",
    *KEY_HEADERS,
    "cookie",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "host",
    "content-length",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
}
# Towards the client: what identifies the organisation at its provider, and what belongs to that connection alone.
_NOT_DOWNSTREAM = HOP_BY_HOP | {
    "set-cookie",
    "content-length",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "alt-svc",
    "strict-transport-security",
}
_DECODABLE = ("gzip", "deflate")  # what metering can read without another library
OURS = "x-llmctl-"
_CONTROLS = re.compile(r"[^\t\x20-\x7e\x80-\U0010ffff]")  # aiohttp reads them in headers, and refuses to write them
# Where the client sends none: aiohttp would add its own.
_DEFAULTS = {"User-Agent": "llmctl", "Accept": "*/*", "Content-Type": "application/json"}


def client_secret(headers: CIMultiDictProxy[str], query: str) -> str:
    """The one key that a client shows, wherever its SDK puts it. Raises Refused: none, or two different ones."""
    found = set()
    for value in headers.getall("authorization", ()):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            found.add(token.strip())
    for name in KEY_HEADERS:
        found.update(value.strip() for value in headers.getall(name, ()) if value.strip())
    if "key=" in query:
        found.update(value for name, value in parse_qsl(query) if name == "key" and value)
    if len(found) == 1:
        return found.pop()
    if found:
        raise Refused("invalid_api_key", "two different keys in one request", hint="send one")
    raise Refused(
        "invalid_api_key",
        "no key in this request",
        hint='send yours as "Authorization: Bearer sk-llmctl-..." or x-api-key',
    )


def upstream_headers(
    client: CIMultiDictProxy[str], credential: Mapping[str, str], defaults: Mapping[str, str], *, identity: bool
) -> CIMultiDict[str]:
    """The client's headers with our credential in place of its key, and `defaults` where it sent none.

    `identity`: the answer must come uncompressed.
    """
    dropped = _NOT_UPSTREAM
    if "connection" in client:
        dropped = dropped | {name.strip().lower() for value in client.getall("connection") for name in value.split(",")}
    passed: CIMultiDict[str] = CIMultiDict()
    encodings = ""
    for name, value in client.items():
        lowered = name.lower()
        if lowered in dropped or lowered.startswith(OURS):
            continue
        if lowered == "accept-encoding":
            encodings += f",{value}"
            continue
        passed.add(name, value)
    passed["Accept-Encoding"] = "identity" if identity else _acceptable(encodings)
    passed.update(credential)
    for name, value in (*_DEFAULTS.items(), *defaults.items()):
        passed.setdefault(name, value)
    return passed


def downstream_headers(upstream: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The provider's headers as the client gets them."""
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in upstream.items():
        lowered = name.lower()
        if lowered in _NOT_DOWNSTREAM or lowered.startswith(OURS):
            continue
        if value.isprintable() or not _CONTROLS.search(value):
            passed.add(name, value)
    return passed


@lru_cache(maxsize=256)
def _acceptable(encodings: str) -> str:
    """Those of the client's encodings that we can read beside it."""
    offered = {part.split(";")[0].strip().lower() for part in encodings.split(",")}
    common = [name for name in _DECODABLE if name in offered or "*" in offered]
    return ", ".join(common) or "identity"
