"""The way to the providers: one connection pool, our credentials, and no surprises (no redirects, proxies, cookies)."""

from __future__ import annotations

import asyncio
import random
import select
import socket
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from llmctl.config import Config, Provider, Timeouts
from llmctl.dialects.base import Dialect
from llmctl.domain.errors import Refused

KEEPALIVE_S = 10.0  # shorter than any provider's: a connection that they close first costs a failed call
FIELD_BYTES_MAX = 64 << 10
READ_BUFFER_BYTES = 64 << 10
REST_S = 0.005  # a kept connection's, before its next request; costs a few more connections, no time
STALE_TRIES = 3  # kept connections that turn out closed; each is dropped from the pool
_HANG_UP = getattr(select, "POLLRDHUP", 0)  # the peer ended its side; POLLHUP and POLLERR are always told


class UpstreamFailure(Exception):
    """The provider gave no answer that a client could use. `sent`: the request may have reached it; `answered`: it said
    something, and that it did not generate. What was sent and not answered may be billed."""

    def __init__(self, refused: Refused, *, sent: bool, answered: bool = False) -> None:
        super().__init__(refused.message)
        self.refused = refused
        self.sent = sent
        self.answered = answered


class Body(aiohttp.BytesPayload):
    """A request's body. `sent`: the first byte of the request may have left."""

    sent = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if _hung_up(getattr(writer, "transport", None)):
            raise aiohttp.ClientConnectionResetError("closed by the provider while it was kept")
        self.sent = True
        await super().write_with_length(writer, content_length)


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A provider's secret. No repr: it must not slip into a log or a traceback."""

    secret: str
    weight: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider with its credentials, ready to be called."""

    provider: Provider
    base_url: str
    credentials: tuple[Credential, ...]

    def credential(self) -> Credential | None:
        if len(self.credentials) < 2:
            return self.credentials[0] if self.credentials else None
        weights = [credential.weight for credential in self.credentials]
        return random.choices(self.credentials, weights)[0]  # noqa: S311 - spreads load, hides nothing


class Upstream:
    """Sends requests to the configured providers."""

    def __init__(self, config: Config, *, sandbox: tuple[str, str] | None = None) -> None:
        """`sandbox` is base URL and credential of the built-in provider, if it runs. Raises ConfigError."""
        self._timeouts = config.server.timeouts
        self._endpoints = {provider.name: _endpoint(provider, sandbox) for provider in config.providers.values()}
        self._urls: dict[tuple[str, str], URL] = {}

    async def start(self) -> None:
        connector = Connector(
            limit=0,  # calls are limited by limits, not by sockets
            keepalive_timeout=KEEPALIVE_S,
            family=socket.AF_UNSPEC,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # bytes pass as they come
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_client_timeout(self._timeouts),
            max_field_size=FIELD_BYTES_MAX,
            max_line_size=FIELD_BYTES_MAX,
            read_bufsize=READ_BUFFER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    def credential(self, provider: Provider) -> Credential | None:
        return self._endpoints[provider.name].credential()

    def own_headers(self, provider: Provider, dialect: Dialect) -> CIMultiDict[str]:
        """For requests of the gateway itself."""
        credential = self.credential(provider)
        headers = CIMultiDict(dialect.default_headers())
        headers["Accept-Encoding"] = "identity"
        if credential is not None:
            headers.update(dialect.credential_headers(credential.secret))
        return headers

    async def send(
        self, provider: Provider, path: str, headers: CIMultiDict[str], body: Body | None, *, method: str = "POST"
    ) -> aiohttp.ClientResponse:
        """One request, once. Raises UpstreamFailure."""
        url = self._url(provider.name, path)
        try:
            response = await self._request(method, url, headers, body)
        except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError, TimeoutError) as error:
            connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
            what = "did not answer in time" if connected else "could not be reached in time"
            raise _failure("provider_timeout", provider, what, sent=_sent(body)) from None
        except aiohttp.ClientConnectorError:
            raise _failure("provider_unreachable", provider, "cannot be reached", sent=False) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise _failure("provider_failed", provider, "broke the connection", sent=_sent(body)) from None
        if not 200 <= response.status < 300 and response.status < 400:
            response.close()
            what = f"answered with HTTP {response.status}: a wrong base_url?"
            raise _failure("provider_failed", provider, what, sent=True, answered=True)
        return response

    async def _request(
        self, method: str, url: URL, headers: CIMultiDict[str], body: Body | None
    ) -> aiohttp.ClientResponse:
        """Again on another connection where a kept one had been closed before the first byte left: some providers hang
        up after each stream. Nothing is ever sent twice."""
        for _ in range(STALE_TRIES):
            try:
                return await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if body is None or body.sent:
                    raise
        return await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)

    def _url(self, name: str, path: str) -> URL:
        url = self._urls.get((name, path))
        if url is None:
            url = self._urls[name, path] = URL(self._endpoints[name].base_url + path, encoded=True)
        return url


class Connector(aiohttp.TCPConnector):
    """Keeps connections for the next request, but for those on which something came after the answer: it would be
    taken for the answer to that request, and be handed to somebody whom it does not belong to. And each rests first:
    providers that hang up after an answer do so a moment later, and a request sent into that moment is lost."""

    async def _get(self, key: Any, traces: Any) -> Any:
        kept = self._conns.get(key)
        if kept and time.monotonic() - kept[0][1] < REST_S:  # the one that was kept longest
            return None
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                break
            connection.close()
        return connection


def _hung_up(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the peer has closed this connection, be it that the event loop has not noticed yet."""
    if transport is None or transport.is_closing():
        return True
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket"), _HANG_UP)
    return bool(waiting.poll(0))


def _sent(body: Body | None) -> bool:
    return body is not None and body.sent


def _failure(code: str, provider: Provider, what: str, *, sent: bool, answered: bool = False) -> UpstreamFailure:
    refused = Refused(code, f"provider {provider.name} {what}", hint="ask your admin if it stays so")
    return UpstreamFailure(refused, sent=sent, answered=answered)


def _endpoint(provider: Provider, sandbox: tuple[str, str] | None) -> Endpoint:
    if provider.is_sandbox and sandbox is not None:
        return Endpoint(provider, sandbox[0], (Credential(sandbox[1], 1),))
    credentials = tuple(Credential(source.read(), source.weight) for source in provider.credentials)
    return Endpoint(provider, provider.base_url, credentials)


def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, connect=None, sock_connect=timeouts.connect_s, sock_read=timeouts.read_s, ceil_threshold=60
    )
