"""Which model of which provider a price is for, as people name it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmctl.domain.price import Price
    from llmctl.store.database import Tx
    from llmctl.store.revision import Seller

    from .context import App

ProviderName = Annotated[str | None, typer.Option("--provider", metavar="PROVIDER", help="Of this provider.")]


def split(run: App, model: str, provider: str | None) -> tuple[str, str]:
    """(provider, model). `openai/gpt-5` names the provider only if there is one of that name."""
    if provider is not None:
        return provider, model
    name, slash, rest = model.partition("/")
    return (name, rest) if slash and rest and name in run.config.providers else ("", model)


def check_provider(tx: Tx, run: App, name: str) -> None:
    """Raises NotFound for one that is not configured, unless it was: it has calls, or a price of ours."""
    from llmctl.store import labels, prices
    from llmctl.store.names import unknown
    from llmctl.store.price_choice import ANY_PROVIDER

    known = {*run.config.providers, *labels.providers(tx), *prices.own_providers(tx)}
    if name not in known | {ANY_PROVIDER}:
        raise unknown("provider", name, known)


def catalogue_of(run: App, provider: str) -> str:
    """In whose catalogue a provider's models are priced; "" = in none. One that is no longer configured may still be
    known by its name."""
    known = run.config.providers.get(provider)
    return known.catalogue if known else provider


def sold_as(run: App, provider: str, model: str) -> str:
    """The model that a provider bills one under."""
    known = run.config.providers.get(provider)
    return known.sold_as(model) if known else model


def find(run: App, tx: Tx, provider: str, model: str, *, as_of_s: int | None = None) -> tuple[Price, ...]:
    """What a provider's model costs, one price per date: as the gateway books it."""
    from llmctl.store import prices

    catalogue, billed = catalogue_of(run, provider), sold_as(run, provider, model)
    return prices.find(tx, provider, catalogue, model, billed, as_of_s=as_of_s)


def routed(run: App, model: str) -> list[str]:
    """The providers that calls of this model go to, by one API or another; those first whose patterns name it."""
    from llmctl.domain.access import matches_name
    from llmctl.domain.errors import Refused
    from llmctl.domain.route import resolve

    targets = {one.name: one.target for one in run.config.providers.values()}
    found = set()
    for dialect in {dialect for target in targets.values() for dialect in target.dialects}:
        with suppress(Refused):
            found.add(resolve(model, dialect, targets, {}).provider)
    named = {name for name in found if any(matches_name(pattern, model) for pattern in targets[name].models)}
    return sorted(found, key=lambda name: (name not in named, [*targets].index(name)))


def sellers(run: App) -> dict[str, Seller]:
    """Where the prices of each configured provider's models are found."""
    from llmctl.store.revision import Seller

    return {one.name: Seller(one.catalogue, one.deployments) for one in run.config.providers.values()}
