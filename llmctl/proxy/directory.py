"""The daemon's view of keys, access, limits, routes and prices: read on demand, never older than the file.

Nothing here has a time to live. Each Caller carries the settings version that it was read at; the ledger compares it
with the file's inside the transaction that admits the call, and on a difference the handler asks here again. So a
change by a command holds from the next call on, and 100,000 users cost nothing until they call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from llmctl.config import Config, Provider
from llmctl.domain import access
from llmctl.domain.errors import Refused
from llmctl.domain.limit import Measure, binds
from llmctl.domain.price import Price, pick
from llmctl.domain.principal import Caller
from llmctl.domain.route import Route, resolve
from llmctl.store import callers, cuts, prices
from llmctl.store.database import Store, storing
from llmctl.store.objects import StoredObject
from llmctl.store.secrets import hash_of

from .lessons import Lessons

CALLERS_MAX = 10_000  # those that call now; the others are one read of 0.1 ms away
MODELS_MAX = 10_000  # clients name models: what they make up must not fill the memory


class Terms(NamedTuple):
    """On which a caller may use a model. `denied`: why not; None: they may. `binding`: what the limits measure that a
    call's worst case has to fit into."""

    denied: str | None
    binding: tuple[Measure, ...]


class Directory:
    """Belongs to the event loop: its reads are single look-ups by index, shorter than handing them to a thread."""

    def __init__(self, config: Config, lessons: Lessons, *, clock_s: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock_s = clock_s
        self._store = Store(config.database, readonly=True)
        self._version = callers.settings_version(self._store.connection)
        self._cuts: Mapping[int, int] = {}
        self._cuts_version = -1
        self.lessons = lessons
        self._callers: dict[bytes, Caller] = {}
        self._routes: dict[tuple[str, str], Route] = {}
        self._prices: dict[tuple[str, str], tuple[Price, ...]] = {}
        self._terms: dict[tuple[int, int, str, str], Terms] = {}
        self._stand_ins: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {}  # by dialect and route
        self._targets = {provider.name: provider.target for provider in config.providers.values()}

    def close(self) -> None:
        self._store.close()

    def cuts(self) -> Mapping[int, int]:
        """Key id -> a moment (unix ms): open calls of the key that began before it are to end. Raises StoreError."""
        with storing():
            version = callers.settings_version(self._store.connection)
            if version != self._cuts_version:
                self._cuts = cuts.in_force(self._store.connection, int(self._clock_s() * 1_000))
                self._cuts_version = version
        return self._cuts

    def caller(self, secret: str, digest: bytes = b"") -> Caller:
        """The caller behind a client's secret; `digest`: its hash, if that is known. Raises Refused("invalid_api_key"),
        StoreUnavailable."""
        now_s = int(self._clock_s())
        digest = digest or hash_of(secret)
        known = self._callers.get(digest)
        if known is not None:
            callers.check_expiry(known.key_public_id, known.expires_at_s, now_s)
            return known
        with storing():
            caller = callers.load(self._store.connection, secret, now_s=now_s)
        if caller.settings_version != self._version:
            self._renew(caller.settings_version)
        if len(self._callers) >= CALLERS_MAX:
            self._callers.pop(next(iter(self._callers)))
        self._callers[digest] = caller
        return caller

    def refresh(self) -> bool:
        """Drops what is older than the file. True if there was a change: what was decided on it is decided anew."""
        with storing():
            version = callers.settings_version(self._store.connection)
        if version == self._version:
            return False
        self._renew(version)
        return True

    def route(self, model: str, dialect: str) -> tuple[Provider, str]:
        """Provider and upstream model for a requested model. Raises Refused("model_not_found")."""
        route = self._routes.get((model, dialect))
        if route is None:
            route = resolve(model, dialect, self._targets, self._config.aliases)
            if len(self._routes) >= MODELS_MAX:
                self._routes.clear()
            self._routes[model, dialect] = route
        return self._config.providers[route.provider], route.model

    def spoken(self, model: str, dialect: str) -> tuple[Provider, str] | None:
        """The same; None where it cannot be asked in this dialect."""
        try:
            return self.route(model, dialect)
        except Refused:
            return None

    def stand_ins(self, model: str, dialect: str) -> tuple[str, ...]:
        """What is asked instead, in order, where this model does not answer, whichever of its names the configuration
        has. Raises Refused("model_not_found")."""
        fallbacks = self._config.fallbacks
        if model in fallbacks or not fallbacks:
            return fallbacks.get(model, ())
        if dialect not in self._stand_ins:
            self._stand_ins[dialect] = {
                route: others for name, others in fallbacks.items() if (route := self._resolved(name, dialect))
            }
        provider, upstream_model = self.route(model, dialect)
        return self._stand_ins[dialect].get((provider.name, upstream_model), ())

    def _resolved(self, model: str, dialect: str) -> tuple[str, str] | None:
        found = self.spoken(model, dialect)
        return None if found is None else (found[0].name, found[1])

    def keeper(self, stored: StoredObject, dialect: str) -> Provider:
        """The provider that keeps it. Raises Refused("object_not_found"): it is no longer here, or not so asked."""
        provider = self._config.providers.get(stored.provider)
        if provider is None or dialect not in provider.dialects:
            raise Refused("object_not_found", f"{stored.id!r} is kept by a provider that cannot be asked here")
        return provider

    def terms(self, caller: Caller, provider: Provider, model: str) -> Terms:
        """Of the caller as it is, be it an older one."""
        asked = (caller.key_id, caller.settings_version, provider.name, model)
        terms = self._terms.get(asked)
        if terms is None:
            if len(self._terms) >= MODELS_MAX:
                self._terms.clear()
            sold_as = provider.sold_as(model)
            denied = access.denial(caller.rules, provider.name, model, sold_as)
            binding = [limit.measure for limit in caller.limits if binds(limit, provider.name, model, sold_as)]
            terms = self._terms[asked] = Terms(denied, tuple(binding))
        return terms

    def allows(self, caller: Caller, provider: Provider, model: str) -> bool:
        return self.terms(caller, provider, model).denied is None

    def price(self, provider: Provider, model: str, at_s: int) -> Price | None:
        """The price in force at that moment; None: the model is unpriced. Raises StoreUnavailable."""
        found = self._prices.get((provider.name, model))
        if found is None:
            with storing():
                sold_as = provider.sold_as(model)
                found = prices.find(self._store.connection, provider.name, provider.catalogue, model, sold_as)
            if len(self._prices) >= MODELS_MAX:
                self._prices.clear()
            self._prices[provider.name, model] = found
        return pick(found, at_s)

    def _renew(self, version: int) -> None:
        self._version = version
        self._callers.clear()
        self._prices.clear()
        self._terms.clear()
