"""Which model of which provider a price is for, as people name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .context import App

ProviderName = Annotated[str | None, typer.Option("--provider", metavar="PROVIDER", help="Of this provider.")]


def split(run: App, model: str, provider: str | None) -> tuple[str, str]:
    """(provider, model). `openai/gpt-5` names the provider only if there is one of that name."""
    if provider is not None:
        return provider, model
    name, slash, rest = model.partition("/")
    return (name, rest) if slash and rest and name in run.config.providers else ("", model)


def catalogue_of(run: App, provider: str) -> str:
    """Under which name the prices of a provider are kept."""
    known = run.config.providers.get(provider)
    return known.catalogue or known.name if known else provider
