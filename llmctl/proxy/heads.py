"""What the head of a request says, but for how long its body is. An SDK begins all requests of a connection alike: they
are read once."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp.web import BaseRequest
from msgspec import Struct

from llmctl.dialects import table
from llmctl.dialects.endpoint import Match
from llmctl.store.secrets import hash_of

from .headers import OwnHeaders, RawHeaders, client_secret, passing_upstream, upstream_headers
from .server import Connection

BYTES_MAX = 8 << 10  # of a head that is remembered: as long as its connection, which may rest for minutes
SENT_MAX = 4  # a credential each; of some the tokens change by the hour
_LENGTH = frozenset((b"Content-Length", b"content-length"))
_OF_THE_BODY = ("content-encoding", "transfer-encoding", "expect")


class Head(Struct, frozen=True, eq=False):
    method: str
    target: str  # path and query, as sent
    lines: RawHeaders
    match: Match
    secret: str
    digest: bytes  # of the secret, as the database keeps it
    user_agent: str
    passing: Mapping[bytes, bytes]  # lines for the provider, by name in lower case
    plain_body: bool  # nothing is said of how the body comes, but its length
    sent: dict[tuple[OwnHeaders, bool, bool], bytes] = {}  # with what was added

    __repr__ = object.__repr__  # secrets must not slip into a log or a traceback

    def upstream(self, own: OwnHeaders, *, json: bool, identity: bool) -> bytes:
        """As `upstream_headers`."""
        lines = self.sent.get((own, json, identity))
        if lines is None:
            if len(self.sent) >= SENT_MAX:
                self.sent.clear()
            lines = upstream_headers(self.passing, own, json=json, identity=identity)
            self.sent[own, json, identity] = lines
        return lines

    def is_of(self, http: BaseRequest, lines: RawHeaders) -> bool:
        return self.lines == lines and self.target == http.raw_path and self.method == http.method


def head_of(http: BaseRequest) -> Head:
    """Raises Refused: there is no such path, or not one key in it."""
    connection = http.protocol
    assert isinstance(connection, Connection)
    lines = tuple([line for line in http.raw_headers if line[0] not in _LENGTH])
    head = connection.head
    if head is None or not head.is_of(http, lines):
        head = _read(http, lines)
        connection.head = head if sum([len(name) + len(value) for name, value in lines]) <= BYTES_MAX else None
    return head


def _read(http: BaseRequest, lines: RawHeaders) -> Head:
    path, _, query = http.raw_path.partition("?")
    match = table.lookup(http.method, path, http.headers, query)
    secret = client_secret(http.headers, query)
    return Head(
        method=http.method,
        target=http.raw_path,
        lines=lines,
        match=match,
        secret=secret,
        digest=hash_of(secret),
        user_agent=http.headers.get("User-Agent", ""),
        passing=passing_upstream(lines),
        plain_body=not any(name in http.headers for name in _OF_THE_BODY),
    )
