"""From where a request comes: the one place that believes, or does not believe, what a proxy says of its client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from aiohttp.web import BaseRequest

from llmctl.config.server import TrustedProxies
from llmctl.domain.errors import Refused
from llmctl.domain.network import address_of, is_within, networks_of
from llmctl.domain.principal import Caller

FORWARDED_CHARS_MAX = 2_000  # from the end: what the nearest proxy wrote


class Proxies:
    """Those that are trusted to say for whom they connect."""

    def __init__(self, trusted: TrustedProxies, header: str) -> None:
        """`header` is the one that they write; the other may be the client's own invention, passed on as it came."""
        self._trusted = trusted
        self._trusts_nobody = trusted == TrustedProxies()
        self._header = header

    def client_of(self, http: BaseRequest) -> str:
        """The client's address as text; "": it is not known."""
        peer = http.remote or ""
        if self._trusts_nobody:
            return peer
        written = http.headers.getall(self._header, ())
        if not written:
            return peer
        return _client_of(peer, ",".join(written)[-FORWARDED_CHARS_MAX:], self._header, self._trusted)


def check_allowed(caller: Caller, address: str) -> None:
    """Raises Refused: one of the lists on the key, its user's group or a group above does not have this address."""
    if not caller.allowed_from:
        return
    known = address_of(address)
    if not all(is_within(known, networks_of(kept)) for kept in caller.allowed_from):
        raise Refused(
            "address_not_allowed",
            f"key {caller.key_public_id} may not be used from {address or 'an unknown address'}",
            hint="use it where it is meant to be used, or ask your admin",
        )


@lru_cache(maxsize=4096)
def _client_of(peer: str, written: str, header: str, trusted: TrustedProxies) -> str:
    """From the nearest to the farthest: each trusted one is believed about who connected to it."""
    if not (is_within(address_of(peer), trusted.networks) if peer else trusted.unix):
        return peer
    client = peer
    for hop in _hops(written, header):
        address = address_of(hop)
        if address is None:
            return ""  # "unknown", an obfuscated name: nobody can tell
        client = str(address)
        if not is_within(address, trusted.networks):
            break
    return client


def _hops(written: str, header: str) -> Iterator[str]:
    """The nearest first. Forwarded: RFC 7239, `for=192.0.2.60;proto=http, for="[2001:db8::1]:4711"`."""
    for element in reversed(written.split(",")):
        if header != "forwarded":
            yield element
            continue
        pairs = (pair.partition("=") for pair in element.split(";"))
        yield next((value for name, _, value in pairs if name.strip().lower() == "for"), "")
