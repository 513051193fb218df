"""Tokens that are bought with a credential: asked for when a call needs one, kept while they live, renewed before they
end. Calls that come meanwhile go on with the old one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aiohttp

from llmctl.config.credentials.oauth import Grant, Token, read_token

logger = logging.getLogger(__name__)

RENEW_S = 300.0  # before its end: a call that starts with a token must also arrive with it
RETRY_S = 3.0  # after a failure; until then, calls are told of the last one
ANSWER_S = 10.0
ANSWER_BYTES_MAX = 64 << 10

Buy = Callable[[], Awaitable[Token]]


class TokenUnavailable(Exception):
    """Why there is no token, in words without a secret in them."""


class TokenCache:
    """One token, bought when it is needed. Belongs to the event loop."""

    def __init__(self, buy: Buy, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`buy` raises TokenUnavailable."""
        self._buy = buy
        self._clock_s = clock_s
        self._value = ""
        self._renew_at_s = self._ends_at_s = 0.0
        self._failure = ""
        self._retry_at_s = 0.0
        self._buying = asyncio.Lock()

    async def get(self) -> str:
        """A token that lives. Raises TokenUnavailable."""
        now_s = self._clock_s()
        if now_s < self._renew_at_s:
            return self._value
        if now_s < self._ends_at_s and (self._buying.locked() or now_s < self._retry_at_s):
            return self._value
        async with self._buying:
            if self._clock_s() < self._renew_at_s:  # somebody else bought it
                return self._value
            await self._renew()
        return self._value

    async def _renew(self) -> None:
        now_s = self._clock_s()
        try:
            if now_s < self._retry_at_s:
                raise TokenUnavailable(self._failure)
            token = await self._buy()
        except TokenUnavailable as error:
            if now_s >= self._retry_at_s:
                logger.error("no new token: %s", error)
                self._failure, self._retry_at_s = str(error), self._clock_s() + RETRY_S
            if self._clock_s() >= self._ends_at_s:
                raise
            return
        self._value, self._ends_at_s = token.value, now_s + token.life_s
        self._renew_at_s = self._ends_at_s - min(RENEW_S, token.life_s / 2)


def buyer(grant: Grant, connector: Callable[[], aiohttp.BaseConnector]) -> Buy:
    """Asks for one. Nothing of what is answered is told, but for the name of its error: the rest may hold secrets."""

    async def buy() -> Token:
        try:
            async with asyncio.timeout(ANSWER_S):
                body = await _post(grant.url, grant.form(int(time.time())), connector())
            return read_token(body)
        except ValueError as error:
            raise TokenUnavailable(f"{grant.authority} answers, but {error}") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TokenUnavailable(f"{grant.authority} cannot be reached ({type(error).__name__})") from None

    return buy


async def _post(url: str, form: bytes, connector: aiohttp.BaseConnector) -> bytes:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    async with (
        aiohttp.ClientSession(connector=connector, connector_owner=False, trust_env=False) as session,
        session.post(url, data=form, headers=headers, allow_redirects=False) as answer,
    ):
        return await answer.content.read(ANSWER_BYTES_MAX)
