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
    b"connection close keep-alive proxy-authenticate proxy-authorization proxy-connection "
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
_NAMES_NONE = (b"", b",keep-alive", b",close")
_SPELLINGS_MAX = 1_000  # of names that are remembered: clients and providers make them up
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


PASSES, STAYS, NAMES_OTHERS = "passes", "stays", "names others"  # that belong to a connection alone


class _Fates(dict[bytes, str]):
    """What becomes of a header in one direction, by its name in any spelling."""

    def __init__(self, dropped: frozenset[bytes]) -> None:
        super().__init__()
        self._dropped = dropped

    def __missing__(self, name: bytes) -> str:
        lowered = name.lower()
        if lowered == b"connection":
            fate = NAMES_OTHERS
        else:
            fate = STAYS if lowered in self._dropped or lowered.startswith(_HIDDEN) else PASSES
        if len(self) >= _SPELLINGS_MAX:
            self.clear()
        self[name] = fate
        return fate


_UPSTREAM, _DOWNSTREAM = _Fates(_NOT_UPSTREAM), _Fates(_NOT_DOWNSTREAM)


class OwnHeaders:
    """What the gateway adds: its credential in place of the client's key, and defaults where the client sent none."""

    def __init__(self, credential: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self.credential = _lines(credential)
        self.defaults = {**_DEFAULTS, **_lines(defaults)}

    def alone(self) -> bytes:
        """For a request of the gateway's own."""
        return b"".join((*self.defaults.values(), *self.credential.values(), _IDENTITY))


def passing_upstream(client: RawHeaders) -> dict[bytes, bytes]:
    """By name in lower case, the client's lines that pass: one, or more of a header that came more than once."""
    lines: dict[bytes, bytes] = {}
    for name, value in _passing(client, _UPSTREAM):
        lowered = name.lower()
        lines[lowered] = b"%b%b: %b\r\n" % (lines.get(lowered, b""), name, value)
    return lines


def upstream_headers(passing: Mapping[bytes, bytes], own: OwnHeaders, *, json: bool, identity: bool) -> bytes:
    """`json`: its body was judged as JSON in UTF-8, and is to be read so. `identity`: the answer must come
    uncompressed."""
    lines = {**own.defaults, **passing, **own.credential}
    if json and not _says_json(lines[b"content-type"]):
        lines[b"content-type"] = own.defaults[b"content-type"]
    encodings = lines.pop(b"accept-encoding", b"")
    return b"".join((*lines.values(), _IDENTITY if identity else _acceptable(encodings)))


def downstream_headers(upstream: RawHeaders, *, without: frozenset[bytes] = frozenset()) -> bytes:
    """The provider's headers as the client gets them."""
    passing = _passing(upstream, _DOWNSTREAM)
    if without:
        passing = [line for line in passing if line[0].lower() not in without]
    return b"".join([part for name, value in passing for part in (name, b": ", value, b"\r\n")])


def _lines(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): f"{name}: {value}\r\n".encode() for name, value in headers.items()}


def _passing(headers: RawHeaders, fates: _Fates) -> list[tuple[bytes, bytes]]:
    passing, hop_by_hop = [], b""
    for line in headers:
        fate = fates[line[0]]
        if fate == PASSES:
            passing.append(line)
        elif fate == NAMES_OTHERS:
            hop_by_hop += b"," + line[1].lower()
    if b"".join([value for _, value in passing]).translate(None, _PLAIN):
        passing = [line for line in passing if not line[1].translate(None, _PLAIN)]
    if hop_by_hop not in _NAMES_NONE:
        named = {name.strip() for name in hop_by_hop.split(b",")}
        passing = [line for line in passing if line[0].lower() not in named]
    return passing


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
