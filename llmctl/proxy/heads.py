"""What the head of a request says, but for how long its body is. An SDK begins all requests of a connection alike: they
are read once."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp.web import BaseRequest
from msgspec import Struct

from llmctl.dialects import table
from llmctl.dialects.endpoint import Match
from llmctl.store.secrets import hash_of

from .headers import RawHeaders, client_secret, passing_upstream
from .server import Connection

_OF_THE_BODY = frozenset((b"Content-Length", b"content-length"))


class Head(Struct, frozen=True, eq=False):
    method: str
    target: str  # path and query, as sent
    lines: RawHeaders
    match: Match
    secret: str
    digest: bytes  # of the secret, as the database keeps it
    user_agent: str
    passing: Mapping[bytes, bytes]  # lines for the provider, by name in lower case

    def is_of(self, http: BaseRequest, lines: RawHeaders) -> bool:
        return self.lines == lines and self.target == http.raw_path and self.method == http.method


def head_of(http: BaseRequest) -> Head:
    """Raises Refused: there is no such path, or not one key in it."""
    connection = http.protocol
    assert isinstance(connection, Connection)
    lines = tuple([line for line in http.raw_headers if line[0] not in _OF_THE_BODY])
    head = connection.head
    if head is None or not head.is_of(http, lines):
        head = connection.head = _read(http, lines)
    return head


def _read(http: BaseRequest, lines: RawHeaders) -> Head:
    path, _, query = http.raw_path.partition("?")
    match = table.lookup(http.method, path, http.headers, query)
    secret = client_secret(http.headers, query)
    agent = http.headers.get("User-Agent", "")
    return Head(http.method, http.raw_path, lines, match, secret, hash_of(secret), agent, passing_upstream(lines))
