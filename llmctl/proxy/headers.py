"""Which headers pass, and which do not. Everything that is not named here passes, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from multidict import CIMultiDictProxy, istr

from llmctl.domain.errors import Refused

from .compression import ENCODINGS

RawHeaders = tuple[tuple[bytes, bytes], ...]  # as they came

# RFC 9110, 7.6.1, and what older proxies send.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade".split()
)
KEY_HEADERS = (istr("x-api-key"), istr("api-key"), istr("x-goog-api-key"))
_AUTHORIZATION = istr("authorization")
# Towards the provider: client keys, and whatever would bill or identify an account other than ours.
_NOT_UPSTREAM = HOP_BY_HOP | frozenset(
    b"authorization x-api-key api-key x-goog-api-key cookie openai-organization openai-project x-goog-user-project "
    b"x-amz-date x-amz-security-token x-amz-content-sha256 "
    b"anthropic-organization-id anthropic-workspace-id anthropic-user-profile-id "
    b"cookie2 host content-length expect forwarded via "
    b"x-real-ip x-client-ip x-cluster-client-ip x-original-forwarded-for true-client-ip fastly-client-ip "
    b"cf-connecting-ip cf-connecting-ipv6 cf-ipcountry cf-ray cf-visitor".split()
)
# Google's: what would hide the usage from us, turn the request into another, or have it served in a dearer tier than
# the body says (https://docs.cloud.google.com/apis/docs/system-parameters, Vertex AI's "Priority PayGo").
_NOT_UPSTREAM |= frozenset(b"x-goog-fieldmask x-http-method-override x-vertex-ai-llm-shared-request-type".split())
# Towards the client: what identifies the organisation at its provider, and what belongs to that connection alone.
_NOT_DOWNSTREAM = HOP_BY_HOP | frozenset(
    b"set-cookie set-cookie2 content-length openai-organization openai-project anthropic-organization-id "
    b"alt-svc strict-transport-security".split()
)
_HIDDEN = (b"x-llmctl-", b"x-forwarded-")  # ours, and what proxies say of a client's address
_PLAIN = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])  # what a value is made of: no control characters
_JSON_KINDS = (b"application/json", b"text/json")
_IDENTITY = b"Accept-Encoding: identity\r\n"
_DEFAULTS = {  # where the client sends none
    b"user-agent": b"User-Agent: llmctl\r\n",
    b"accept": b"Accept: */*\r\n",
    b"content-type": b"Content-Type: application/json\r\n",
}


def client_secret(headers: CIMultiDictProxy[str], query: str) -> str:
    """The one key that a client shows, wherever its SDK puts it. Raises Refused: none, or two different ones."""
    found = set()
    for value in headers.getall(_AUTHORIZATION, ()):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            found.add(token.strip())
        elif scheme.startswith("AWS4-"):
            raise Refused(
                "invalid_api_key",
                "a request signed with AWS keys cannot be checked here",
                hint="leave them out, and set AWS_BEARER_TOKEN_BEDROCK to your key of this gateway (sk-llmctl-...)",
            )
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


class OwnHeaders:
    """What the gateway adds: its credential in place of the client's key, and defaults where the client sent none."""

    def __init__(self, credential: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self.credential = _lines(credential)
        self.defaults = {**_DEFAULTS, **_lines(defaults)}

    def alone(self) -> bytes:
        """For a request of the gateway's own."""
        return b"".join((*self.defaults.values(), *self.credential.values(), _IDENTITY))


def upstream_headers(client: RawHeaders, own: OwnHeaders, *, json: bool, identity: bool) -> bytes:
    """`json`: its body was judged as JSON in UTF-8, and is to be read so. `identity`: the answer must come
    uncompressed."""
    passing = _passing(client, _NOT_UPSTREAM)
    if json and (said := passing.get(b"content-type")) is not None and not _says_json(said):
        del passing[b"content-type"]
    encodings = passing.pop(b"accept-encoding", b"")
    coding = _IDENTITY if identity else _acceptable(encodings)
    return b"".join((*{**own.defaults, **passing, **own.credential}.values(), coding))


def downstream_headers(upstream: RawHeaders, *, without: frozenset[bytes] = frozenset()) -> bytes:
    """The provider's headers as the client gets them."""
    return b"".join(_passing(upstream, _NOT_DOWNSTREAM | without if without else _NOT_DOWNSTREAM).values())


def _lines(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): f"{name}: {value}\r\n".encode() for name, value in headers.items()}


def _passing(headers: RawHeaders, dropped: frozenset[bytes]) -> dict[bytes, bytes]:
    """By name in lower case, the lines of those that pass: one, or more of a header that came more than once."""
    lines: dict[bytes, bytes] = {}
    hop_by_hop: list[bytes] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in dropped:
            if lowered == b"connection":  # names more that belong to this connection alone
                hop_by_hop += value.lower().split(b",")
            continue
        if lowered.startswith(_HIDDEN) or value.translate(None, _PLAIN):
            continue
        line = b"%b: %b\r\n" % (name, value)
        lines[lowered] = lines[lowered] + line if lowered in lines else line
    for one in hop_by_hop:
        lines.pop(one.strip(), None)
    return lines


@lru_cache(maxsize=256)
def _says_json(line: bytes) -> bool:
    """And nothing else: some servers read a body by the charset that stands here, or as a form."""
    kind, *parameters = line.partition(b":")[2].strip().lower().split(b";")
    values = [parameter.replace(b" ", b"").replace(b'"', b"") for parameter in parameters]
    charsets = {value for value in values if value.startswith(b"charset")}
    return kind.strip() in _JSON_KINDS and charsets <= {b"charset=utf-8"}


@lru_cache(maxsize=256)
def _acceptable(lines: bytes) -> bytes:
    """Those of the client's encodings that we can read beside it."""
    values = [line.partition(":")[2] for line in lines.decode("latin-1").splitlines()]
    offered = {part.split(";")[0].strip().lower() for value in values for part in value.split(",")}
    common = [name for name in ENCODINGS if name in offered or "*" in offered]
    return f"Accept-Encoding: {', '.join(common) or 'identity'}\r\n".encode()
