"""Tokens that are bought: once, before the old one ends, and nobody waits for what is not needed yet."""

from __future__ import annotations

import asyncio

import pytest

from llmctl.config.credentials.oauth import Token, read_token
from llmctl.proxy.tokens import RENEW_S, RETRY_S, TokenCache, TokenUnavailable


class Shop:
    """Sells numbered tokens that live for an hour; `now_s` is its clock."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.sold = 0
        self.closed = False
        self.cache = TokenCache(self.buy, clock_s=lambda: self.now_s)

    async def buy(self) -> Token:
        await asyncio.sleep(0)
        if self.closed:
            raise TokenUnavailable("closed")
        self.sold += 1
        return Token(f"token-{self.sold}", 3600)


async def test_calls_that_come_together_wait_for_one_token() -> None:
    shop = Shop()
    assert set(await asyncio.gather(*(shop.cache.get() for _ in range(50)))) == {"token-1"}
    shop.now_s += 3600 - RENEW_S - 1
    assert await shop.cache.get() == "token-1"
    assert shop.sold == 1


async def test_it_is_renewed_before_its_end_and_others_go_on_with_the_old_one() -> None:
    shop = Shop()
    await shop.cache.get()
    shop.now_s += 3600 - RENEW_S + 1
    renewing = asyncio.create_task(shop.cache.get())
    await asyncio.sleep(0)
    assert await shop.cache.get() == "token-1"
    assert await renewing == "token-2"
    assert await shop.cache.get() == "token-2"


async def test_while_none_is_sold_the_old_one_serves_to_its_end() -> None:
    shop = Shop()
    await shop.cache.get()
    shop.closed = True
    shop.now_s += 3600 - RENEW_S + 1
    assert await shop.cache.get() == "token-1"
    shop.now_s += RENEW_S
    with pytest.raises(TokenUnavailable, match="closed"):
        await shop.cache.get()
    shop.closed = False
    with pytest.raises(TokenUnavailable, match="closed"):  # not asked again at once
        await shop.cache.get()
    shop.now_s += RETRY_S
    assert await shop.cache.get() == "token-2"


def test_what_is_sold_is_read() -> None:
    assert read_token(b'{"access_token": "ya29.x", "expires_in": 3599}') == Token("ya29.x", 3599)
    assert read_token(b'{"access_token": "ya29.x", "expires_in": "60"}') == Token("ya29.x", 60)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>", "no JSON"),
        (b"[]", "no token"),
        (b'{"error": "invalid_grant", "error_description": "secret"}', "invalid_grant"),
        (b'{"error": "a b\\nsecret"}', "holds no token"),
        (b'{"access_token": "a b", "expires_in": 5}', "holds no token"),
        (b'{"access_token": "a"}', "how long"),
        (b'{"access_token": "a", "expires_in": -5}', "how long"),
    ],
)
def test_what_is_no_token_is_named_without_a_secret(body: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        read_token(body)
    assert "secret" not in str(caught.value)
