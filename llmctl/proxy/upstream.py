"""The way to the providers: their connections, our credentials, and no surprises (no redirects, proxies, cookies)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import aiohttp
from yarl import URL

from llmctl.config import Config, Provider
from llmctl.config.credentials.sigv4 import Signer
from llmctl.config.credentials.source import CredentialSource
from llmctl.config.presets import SIGV4
from llmctl.dialects.base import Dialect, credential_headers
from llmctl.domain.errors import Refused

from .connections import KEEPALIVE_PLAIN_S, ConnectionBroken, Outgoing, Pool, ProviderAnswer, let_go
from .credentials import Credential, Credentials, fingerprint
from .headers import OwnHeaders
from .receiver import Connector
from .tokens import TokenCache, TokenUnavailable, buyer
from .uploads import Edited

REQUEST_LINES_MAX = 10_000  # some dialects have the model in the path, and clients name it
OWN_HEADERS_MAX = 1_000  # tokens change by the hour


class UpstreamFailure(Exception):
    """The provider gave no answer that a client could use. `sent`: the request may have reached it; `answered`: it said
    something, and that it did not generate. What was sent and not answered may be billed. `credential`: the number of
    the one that did not do, where that is why."""

    def __init__(self, refused: Refused, *, sent: bool, answered: bool = False, credential: int = 0) -> None:
        super().__init__(refused.message)
        self.refused = refused
        self.credential = credential
        self.sent = sent
        self.answered = answered


@dataclass(frozen=True, slots=True)
class Account:
    """A provider with its credentials, ready to be called."""

    provider: Provider
    base_urls: Mapping[str, str]
    credentials: Credentials


class Upstream:
    """Sends requests to the configured providers."""

    def __init__(self, config: Config, *, sandbox: tuple[str, str] | None = None) -> None:
        """`sandbox` is base URL and credential of the built-in provider, if it runs. Raises ConfigError."""
        self._accounts = {provider.name: _account(provider, sandbox) for provider in config.providers.values()}
        self._signers = {
            (provider.name, number): Signer(source.read(), provider.region)
            for provider in config.providers.values()
            for number, source in enumerate(provider.credentials)
            if provider.auth == SIGV4
        }
        self._request_lines: dict[tuple[str, str, str, str], bytes] = {}
        self._own_headers: dict[tuple[str, str, str], OwnHeaders] = {}
        self._tokens = {
            (provider.name, number): TokenCache(buyer(grant, lambda: self._connector))
            for provider in config.providers.values()
            for number, source in enumerate(provider.credentials)
            if (grant := source.grant()) is not None
        }

    async def start(self) -> None:
        self._connector = Connector()
        self._pools = {
            name: Pool(
                self._connector,
                URL(next(iter(account.base_urls.values()))),
                connect_s=account.provider.timeouts.connect_s,
            )
            for name, account in self._accounts.items()
        }
        self._pruning = asyncio.create_task(self._prune())

    def take_over(self, before: Upstream) -> None:
        """Which credentials rest, of those of the configuration before."""
        for name, account in self._accounts.items():
            if name in before._accounts:
                account.credentials.take_over(before._accounts[name].credentials)

    async def close(self) -> None:
        self._pruning.cancel()
        for pool in self._pools.values():
            pool.close()
        await self._connector.close()

    def credentials(self, provider: Provider) -> Credentials:
        return self._accounts[provider.name].credentials

    def choose(self, provider: Provider, tried: Collection[int] = (), *, fingerprint: str = "") -> Credential | None:
        """One of the provider's credentials; the one with this fingerprint, if it is said."""
        credentials = self._accounts[provider.name].credentials
        return credentials.known(fingerprint) if fingerprint else credentials.choose(tried)

    async def shown(self, provider: Provider, credential: Credential) -> Credential:
        """As it is shown to the provider: some are exchanged for a token. Raises UpstreamFailure."""
        tokens = self._tokens.get((provider.name, credential.number))
        if tokens is None:
            return credential
        try:
            return replace(credential, secret=await tokens.get())
        except TokenUnavailable:
            what, number = "gives the gateway no token", credential.number
            raise _failure("provider_credential", provider, what, sent=False, credential=number) from None

    def outgoing(
        self,
        provider: Provider,
        dialect: Dialect,
        target: str,
        headers: bytes,
        body: bytes | Edited,
        *,
        method: str = "POST",
        credential: Credential | None = None,
    ) -> Outgoing:
        """A request to `target` below the provider's base URL; `headers` are lines, each with its end. `credential`:
        what it is signed with, where the provider wants that."""
        line = self._request_lines.get((provider.name, dialect.name, method, target))
        if line is None:
            line = self._request_line(provider.name, dialect.name, method, target)
        if self._signers and credential is not None and isinstance(body, bytes):
            signer = self._signers.get((provider.name, credential.number))
            if signer is not None:
                signed = signer.headers(method, provider.base_urls[dialect.name] + target, body)
                headers += "".join(f"{name}: {value}\r\n" for name, value in signed.items()).encode()
        length = b"Content-Length: %d\r\n\r\n" % len(body) if method == "POST" else b"\r\n"
        if isinstance(body, Edited):
            return Outgoing(line + headers + length, b"", body)
        return Outgoing(line + headers + length, body)

    async def own(self, provider: Provider, target: str, dialect: Dialect, *, fingerprint: str = "") -> Outgoing:
        """A GET of the gateway itself."""
        credential = self.choose(provider, fingerprint=fingerprint)
        if credential is not None:
            credential = await self.shown(provider, credential)
        headers = self.own_headers(provider, dialect, credential).alone()
        return self.outgoing(provider, dialect, target, headers, b"", method="GET", credential=credential)

    def own_headers(self, provider: Provider, dialect: Dialect, credential: Credential | None) -> OwnHeaders:
        """What is added to a request in this dialect."""
        secret = credential.secret if credential else ""
        found = self._own_headers.get((provider.auth, dialect.name, secret))
        if found is None:
            if len(self._own_headers) >= OWN_HEADERS_MAX:
                self._own_headers.clear()
            shown = credential_headers(dialect, provider.auth, secret) if secret else {}
            found = self._own_headers[provider.auth, dialect.name, secret] = OwnHeaders(
                shown, dialect.default_headers()
            )
        return found

    async def send(self, provider: Provider, outgoing: Outgoing) -> ProviderAnswer:
        """One request, once. Raises UpstreamFailure."""
        pool = self._pools[provider.name]
        try:
            connection = pool.take() or await pool.connect()
        except TimeoutError as error:
            let_go(error)
            raise _failure("provider_timeout", provider, "could not be reached in time", sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            let_go(error)
            raise _failure("provider_unreachable", provider, "cannot be reached", sent=False) from None
        try:
            answer = await connection.ask(outgoing)
        except (aiohttp.ClientError, OSError, ConnectionBroken) as error:
            let_go(error)
            raise _failure("provider_failed", provider, "broke the connection", sent=True) from None
        if not 200 <= answer.status < 300 and answer.status < 400:
            answer.close()
            what = f"answered with HTTP {answer.status}: a wrong base_url?"
            raise _failure("provider_failed", provider, what, sent=True, answered=True)
        return answer

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_PLAIN_S)
            for pool in self._pools.values():
                pool.prune()

    def _request_line(self, name: str, dialect: str, method: str, target: str) -> bytes:
        """Also says which host is meant."""
        url = URL(self._accounts[name].base_urls[dialect] + target, encoded=True)
        if len(self._request_lines) >= REQUEST_LINES_MAX:
            self._request_lines.clear()
        line = f"{method} {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n".encode()
        self._request_lines[name, dialect, method, target] = line
        return line


def too_late(provider: Provider) -> UpstreamFailure:
    """It took the request, and said nothing for too long."""
    return _failure("provider_timeout", provider, "did not answer in time", sent=True)


def _failure(
    code: str, provider: Provider, what: str, *, sent: bool, answered: bool = False, credential: int = 0
) -> UpstreamFailure:
    refused = Refused(code, f"provider {provider.name} {what}", hint="ask your admin if it stays so")
    return UpstreamFailure(refused, sent=sent, answered=answered, credential=credential)


def _account(provider: Provider, sandbox: tuple[str, str] | None) -> Account:
    if provider.is_sandbox and sandbox is not None:
        base_urls = dict.fromkeys(provider.base_urls, sandbox[0])
        return Account(provider, base_urls, Credentials([Credential(sandbox[1], fingerprint=provider.name)]))
    credentials = [_credential(source, number) for number, source in enumerate(provider.credentials)]
    return Account(provider, provider.base_urls, Credentials(credentials))


def _credential(source: CredentialSource, number: int) -> Credential:
    if source.is_exchanged:  # what it is exchanged for changes from hour to hour
        return Credential("", source.weight, number, fingerprint(repr(source)))
    secret = source.read()
    return Credential(secret, source.weight, number, fingerprint(secret))
