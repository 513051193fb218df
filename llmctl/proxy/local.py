"""What the gateway answers by itself: which models a key may use, and how much is left for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import aiohttp
import msgspec

from llmctl.config import Config, Provider
from llmctl.dialects import table
from llmctl.dialects.endpoint import Match
from llmctl.dialects.model_list import model_body, models_body
from llmctl.domain import access
from llmctl.domain.errors import Refused
from llmctl.domain.limit import Standing
from llmctl.domain.moment import rfc3339
from llmctl.domain.money import usd_plain
from llmctl.domain.principal import Caller
from llmctl.store.own_usage import OwnUsage
from llmctl.store.reader import Reader

from .directory import Directory
from .upstream import Upstream, UpstreamFailure

logger = logging.getLogger(__name__)

LISTING_FRESH_S = 60.0
LISTING_TIMEOUT_S = 5.0
LISTING_BYTES_MAX = 8 << 20
OLLAMA_VERSION = "0.12.0"  # clients look here for what they may send; the servers behind us may be of several


class NotListed(Exception):
    """What a provider answered instead of its models."""


class Served(NamedTuple):
    """The models of a provider. A pattern is none: it tells of models whose names are not known."""

    names: list[str]
    patterns: tuple[str, ...] = ()

    def has(self, model: str) -> bool:
        return model in self.names or any(access.matches_name(one, model) for one in self.patterns)


class Local:
    """`/v1/models` and `/llmctl/me`."""

    def __init__(self, config: Config, directory: Directory, reader: Reader, upstream: Upstream) -> None:
        self._config = config
        self._reader = reader
        self._directory = directory
        self._upstream = upstream
        self._listed: dict[str, tuple[float, Served]] = {}

    async def answer(self, match: Match, caller: Caller) -> bytes:
        """The JSON body. Raises Refused: a model that this key may not use."""
        if match.endpoint.name == "me":
            return msgspec.json.encode(await self.me(caller))
        if match.endpoint.name == "version":
            return msgspec.json.encode({"version": OLLAMA_VERSION})
        dialect = match.endpoint.dialect.name
        if match.endpoint.name == "models":
            return models_body(dialect, await self.models(caller, dialect))
        if not await self._has(caller, match.model, dialect):
            raise Refused("model_not_found", f"model {match.model!r} does not exist here, or not for this key")
        return model_body(dialect, match.model)

    async def models(self, caller: Caller, dialect: str) -> list[str]:
        """Names that this caller may send as `model` through this dialect, aliases first."""
        names = list(self._config.aliases)
        asked = [provider for provider in self._config.providers.values() if dialect in provider.dialects]
        # All at once: those that do not answer cost LISTING_TIMEOUT_S together, not each.
        for provider, served in zip(asked, await asyncio.gather(*map(self._served, asked)), strict=True):
            names.extend(self._reachable(provider, served.names, dialect))
        return [name for name in dict.fromkeys(names) if self._allowed(caller, name, dialect)]

    async def me(self, caller: Caller) -> dict[str, object]:
        """The key holder's own limits, what is used of them, and what their user has used in all."""
        now_s = int(time.time())
        standings = await self._reader.standings(caller.limits, user_id=caller.user_id, now_s=now_s)
        today, month = await self._reader.own_usage(caller.user_id, caller.zone, now_s)
        return {
            "key": {"id": caller.key_public_id, "name": caller.key_name, "expires_at": rfc3339(caller.expires_at_s)},
            "user": caller.user_name,
            "group": caller.group_name or None,
            "limits": [_standing(one) for one in standings],
            "usage": {"timezone": caller.zone, "today": _used(today), "month": _used(month)},
        }

    async def _has(self, caller: Caller, name: str, dialect: str) -> bool:
        """Whether this is a model to this caller: an alias, or one that the provider that it leads to has."""
        if not self._allowed(caller, name, dialect):
            return False
        provider, model = self._directory.route(name, dialect)
        return name in self._config.aliases or (await self._served(provider)).has(model)

    async def _served(self, provider: Provider) -> Served:
        """What the provider itself lists; where it does not answer, what the price list and the configuration know."""
        known = self._listed.get(provider.name)
        if known is not None and time.monotonic() - known[0] < LISTING_FRESH_S:
            return known[1]
        try:
            served = Served(await asyncio.wait_for(self._ask(provider), LISTING_TIMEOUT_S))
        except (UpstreamFailure, NotListed, aiohttp.ClientError, TimeoutError, ValueError) as error:
            said = isinstance(error, NotListed | UpstreamFailure)  # the others' words may repeat what was sent
            reason = str(error) if said else type(error).__name__
            logger.warning("provider %s does not list its models: %s", provider.name, reason)
            served = _known(provider, await self._reader.priced_models({provider.name, provider.catalogue} - {""}))
        self._listed[provider.name] = (time.monotonic(), served)
        return served

    async def _ask(self, provider: Provider) -> list[str]:
        dialect = table.listing_dialect(provider.base_urls)
        asked = await self._upstream.own(provider, dialect.models_target, dialect)
        answer = await self._upstream.send(provider, asked)
        try:
            body = await answer.whole(LISTING_BYTES_MAX)
            if body is None or answer.status != 200:
                raise NotListed("the list is too long" if answer.status == 200 else f"HTTP {answer.status}")
        finally:
            answer.close()
        return dialect.read_models(body)

    def _reachable(self, provider: Provider, names: Iterable[str], dialect: str) -> Iterable[str]:
        """Each name as a client must send it to get there: bare where that routes here, else `provider/name`."""
        for name in names:
            try:
                direct = self._directory.route(name, dialect)
            except Refused:
                direct = None
            yield name if direct == (provider, name) else f"{provider.name}/{name}"

    def _allowed(self, caller: Caller, name: str, dialect: str) -> bool:
        try:
            provider, model = self._directory.route(name, dialect)
        except Refused:
            return False
        return self._directory.allows(caller, provider, model)


def _known(provider: Provider, priced: Sequence[str]) -> Served:
    """The models of a provider that does not list them."""
    known = dict.fromkeys([*priced, *provider.models])
    return Served([one for one in known if not access.is_pattern(one)], tuple(filter(access.is_pattern, known)))


def _used(usage: OwnUsage) -> dict[str, object]:
    # Where not one call has a price, nothing is known of the cost.
    is_known = usage.unpriced_calls < usage.calls or not usage.calls
    return {
        "calls": usage.calls,
        "unpriced_calls": usage.unpriced_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usd_plain(usage.cost_nano_usd) if is_known else None,
    }


def _standing(standing: Standing) -> dict[str, object]:
    limit = standing.limit

    def shown(amount: int) -> str | int:
        return usd_plain(amount) if limit.measure == "cost" else amount

    resets = standing.window_end_s
    return {
        "id": f"l{limit.id}",
        "on": limit.on,
        "measure": limit.measure,
        "unit": "USD" if limit.measure == "cost" else limit.measure,
        "window": limit.window,
        "models": limit.model_pattern or None,
        "soft": limit.soft,
        "amount": shown(standing.amount),
        "spent": shown(standing.settled),
        "held": shown(standing.held),
        "left": shown(max(0, standing.left)),
        "resets_at": rfc3339(resets),
    }
