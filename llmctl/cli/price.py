"""`llmctl price`: what models cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import NotFound

from . import aliases, context, price_names, price_set, price_sync, price_table
from .command import noun, verb
from .options import Sort, in_order
from .price_names import ProviderName, catalogue_of, routed, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmctl.domain.price import Price

    from .context import App

app = noun("""
What models cost, in USD: per million tokens, or per call, minute, image. A price that you set goes before the
catalogue's. What is booked already keeps its cost until: llmctl usage reprice.

  llmctl price set openai/gpt-5 --input 1.25 --output 10 --cache-read 0.125
  llmctl price set openai/gpt-5 --tier batch --input 0.625 --output 5
  llmctl price set '*' --ceiling --input 30 --output 180
""")


@verb(app, "list")
def list_(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Only models whose name contains it.")] = None,
    provider: ProviderName = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Of the whole catalogue, not only of configured providers.")
    ] = False,
    sort: Sort = None,
) -> None:
    """List the prices in force, and those that will be."""
    from llmctl.store import price_choice, prices

    run = context.of(ctx)
    catalogues = {one.name: one.catalogue for one in run.config.providers.values()}
    with run.reading() as tx:
        found = prices.current(tx, catalogues, model=text or "", now_s=run.now_s)
    if provider is not None:
        found = _of(found, {provider: catalogue_of(run, provider)})
    elif not all_:
        found = _of(found, catalogues | {price_choice.ANY_PROVIDER: ""})
    shown = price_table.columns(run)
    is_whole = all_ or provider is not None
    empty = "No price matches." if is_whole else "No prices here. The whole catalogue: llmctl price list --all"
    run.out.rows(shown, in_order(shown, found, sort), empty=empty)


@verb(app, "show")
def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model, also as provider/model.")],
    provider: ProviderName = None,
) -> None:
    """Show what a model costs now, meter by meter, and where the price is from."""
    run = context.of(ctx)
    owner, name, price = _in_force(run, model, provider)
    run.out.result(price_table.values(owner, name, price), price_table.fields(run, owner, name, price))


@verb(app, "history")
def history(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model, also as provider/model.")],
    provider: ProviderName = None,
    sort: Sort = None,
) -> None:
    """List every price that a model has or had, the newest first: which calls it was for, and until when it counted."""
    from llmctl.store import price_history

    run = context.of(ctx)
    owner, name = split(run, aliases.behind(run, model), provider)
    owners = [owner] if owner else list(run.config.providers)
    with run.reading() as tx:
        of_each = [price_history.of_model(tx, one, catalogue_of(run, one), name) for one in owners]
        dated = [price_names.find(run, tx, one, name) for one in owners]
    found = {entry.price.id: entry for entries in of_each for entry in entries}
    columns = price_table.history_columns(run, dated)
    newest_first = sorted(found.values(), key=lambda entry: -entry.price.id)
    run.out.rows(columns, in_order(columns, newest_first, sort), empty=f"{name} never had a price.")


verb(app, "set")(price_set.set_)
verb(app, "remove")(price_set.remove)
verb(app, "sync")(price_sync.sync)


def _in_force(run: App, model: str, provider: str | None) -> tuple[str, str, Price]:
    from llmctl.domain.price import pick
    from llmctl.store.price_choice import ANY_PROVIDER

    owner, name = split(run, aliases.behind(run, model), provider)
    routed_to = [owner] if owner else routed(run, name)
    found = []
    with run.reading() as tx:
        for candidate in routed_to or run.config.providers:
            price = pick(price_names.find(run, tx, candidate, name), run.now_s)
            if price is not None:
                found.append((candidate, name, price))
    if not found:
        where = f" of {routed_to[0]}" if routed_to else ""
        raise NotFound(f'no price for "{name}"{where}', hint="See: llmctl price list --all, or: llmctl price set")
    # Of a model that calls cannot reach by this name: who has a price of its own.
    own = [one for one in found if one[2].provider != ANY_PROVIDER]
    return (found if routed_to else [*own, *found])[0]


def _of(found: Iterable[Price], catalogues: Mapping[str, str]) -> list[Price]:
    """Those of these providers, and of what each is priced by. A catalogue's of the same name need not be that."""
    priced_by = {catalogue.lower() for catalogue in catalogues.values()}
    own = {provider.lower() for provider in catalogues}
    return [
        price
        for price in found
        if price.provider.lower() in priced_by or (price.source != "catalogue" and price.provider.lower() in own)
    ]
