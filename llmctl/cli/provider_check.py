"""Asks a provider for its models, with each of our credentials: is it there, does it let us in, has it our time?"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Literal

from llmctl.domain.errors import ConfigError, LlmctlError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmctl.config import Provider
    from llmctl.config.credentials.source import CredentialSource
    from llmctl.dialects.base import Dialect

ANSWER_S = 5.0
ANSWER_BYTES_MAX = 4 << 20  # lists of some hundred models


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back with one credential. `models`: how many it lists; None where it did not say."""

    provider: str
    credential: str
    state: Literal["ok", "warning", "failed"]
    text: str
    mend: str = ""
    status: int | None = None
    latency_ms: int | None = None
    models: int | None = None
    clock_off_s: int = 0


def source_name(source: CredentialSource) -> str:
    """`$OPENAI_API_KEY`, or the file: where a credential is read from."""
    place = f"${source.env}" if source.env else source.file
    return f"{place}, for tokens" if source.is_exchanged else place


def ask(provider: Provider, *, serving: bool) -> list[Answer]:
    """One answer a credential; a provider without any is asked without. `serving`: a gateway runs, so it has a variable
    that this process may lack."""
    return [_ask(provider, source, serving=serving) for source in provider.credentials or (None,)]


def _ask(provider: Provider, source: CredentialSource | None, *, serving: bool) -> Answer:
    credential = source_name(source) if source else "none"
    began_s = time.monotonic()
    try:
        status, date, models = _models(provider, source)
    except LlmctlError as error:
        if serving and source is not None and source.env:
            text = f"not asked: {source.env} is in the gateway's environment, not in this shell's"
            return Answer(provider.name, credential, "warning", text, "ask from a shell that has it too")
        return Answer(provider.name, credential, "failed", error.message, error.hint)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # of urllib's own: what it wraps
        text = f"cannot be reached: {getattr(reason, 'strerror', None) or reason}"
        return Answer(provider.name, credential, "failed", text, f"check base_url of [providers.{provider.name}]")
    latency_ms = round((time.monotonic() - began_s) * 1000)
    state: Literal["ok", "warning", "failed"] = "ok"
    text, mend = f"answers (HTTP {status})", ""
    if status in (401, 403):
        state, text = "failed", f"refuses our credential (HTTP {status})"
        mend = f"renew it, or check [providers.{provider.name}]"
    elif status >= 500:
        state, text, mend = "warning", f"answers with HTTP {status}", "look at its status page"
    return Answer(provider.name, credential, state, text, mend, status, latency_ms, models, _clock_off_s(date))


def _clock_off_s(date: str) -> int:
    """How far a provider's clock is ahead of ours; 0 where it tells no time, or none that can be read."""
    with suppress(ValueError, OverflowError):
        return round(parsedate_to_datetime(date).timestamp() - time.time())
    return 0


def _models(provider: Provider, source: CredentialSource | None) -> tuple[int, str, int | None]:
    """Status, its `Date`, number of models. Raises LlmctlError (no credential), OSError, ValueError,
    HTTPException (what answers speaks no HTTP)."""
    from llmctl.dialects import table

    dialect = table.listing_dialect(provider.base_urls)
    url = provider.base_urls[dialect.name] + dialect.models_target  # http or https: the configuration is read strictly
    shown = _shown(provider, dialect, source, url) if source else {}
    headers = {"User-Agent": "llmctl", **dialect.default_headers(), **shown}
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=ANSWER_S) as answer:  # noqa: S310
            listed = _count(dialect, answer.read(ANSWER_BYTES_MAX))
            return answer.status, answer.headers.get("Date", ""), listed
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Date", ""), None


def _shown(provider: Provider, dialect: Dialect, source: CredentialSource, url: str) -> Mapping[str, str]:
    """The headers that show our credential, or that are signed with it."""
    from llmctl.config.presets import SIGV4
    from llmctl.dialects.base import credential_headers

    if provider.auth == SIGV4:
        from llmctl.config.credentials.sigv4 import Signer

        return Signer(source.read(), provider.region).headers("GET", url, b"")
    return credential_headers(dialect, provider.auth, _secret(source))


def _secret(source: CredentialSource) -> str:
    """What the provider is shown: the credential itself, or a token that it buys."""
    from llmctl.config.credentials.oauth import read_token

    grant = source.grant()
    if grant is None:
        return source.read()
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(grant.url, grant.form(int(time.time())), ANSWER_S) as answer:
                return read_token(answer.read(ANSWER_BYTES_MAX)).value
        except urllib.error.HTTPError as error:
            with error:
                return read_token(error.read(ANSWER_BYTES_MAX)).value
    except ValueError as error:
        raise ConfigError(f"{grant.authority} gives no token: {error}", hint="check the credential") from None


def _count(dialect: Dialect, body: bytes) -> int | None:
    try:
        return len(dialect.read_models(body))
    except ValueError:
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
