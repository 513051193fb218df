"""`llmctl price`: what models cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.domain.errors import BadInput, LlmctlError, NotFound
from llmctl.domain.money import parse_usd

from . import context, humanize, price_table, times
from .command import noun, verb
from .errors import UsageMistake
from .options import Sort, in_order, whole_number

if TYPE_CHECKING:
    from llmctl.domain.price import Price
    from llmctl.store.catalogue import Catalogue

    from .context import App

app = noun("""
What models cost, in USD per million tokens. A price that you set goes before the catalogue's.

  llmctl price set openai/gpt-5 --input 1.25 --output 10 --cache-read 0.125
""")


def _rate(flag: str, text: str) -> Any:
    return typer.Option(flag, metavar="USD", help=text)


ProviderName = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Of this provider.")]


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
    """List the prices in force."""
    from llmctl.store import price_choice, prices

    run = context.of(ctx)
    owner = _catalogue(run, provider) if provider else ""
    with run.reading() as tx:
        found = [entry.price for entry in prices.list_prices(tx, provider=owner, model=text or "")]
    if not all_ and provider is None:
        configured = run.config.providers.values()
        known = {name for one in configured for name in (one.name, one.catalogue)} | {price_choice.ANY_PROVIDER}
        found = [price for price in found if price.provider in known]
    run.out.rows(
        price_table.columns(run),
        in_order(price_table.columns(run), found, sort),
        empty="No prices here. The whole catalogue: llmctl price list --all",
    )


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


@verb(app, "set")
def set_(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or pattern, also as provider/model.")],
    provider: ProviderName = None,
    input_: Annotated[str | None, _rate("--input", "Per million input tokens.")] = None,
    output: Annotated[str | None, _rate("--output", "Per million output tokens.")] = None,
    cache_read: Annotated[str | None, _rate("--cache-read", "Per million tokens read from a cache.")] = None,
    cache_write: Annotated[str | None, _rate("--cache-write", "Per million tokens written to one.")] = None,
    cache_write_1h: Annotated[str | None, _rate("--cache-write-1h", "The same, kept for an hour.")] = None,
    reasoning: Annotated[str | None, _rate("--reasoning", "Per million reasoning tokens.")] = None,
    request: Annotated[str | None, _rate("--request", "Per million calls.")] = None,
    context_tokens: Annotated[
        str | None, typer.Option("--context", metavar="N", help="The context window: 400k.")
    ] = None,
    output_max: Annotated[
        str | None, typer.Option("--output-max", metavar="N", help="The longest output: 128k.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on. Default: always.")] = None,
) -> None:
    """Set a price. It replaces all rates of the model: input that is read from a cache costs as input unless said."""
    from llmctl.store import audit, price_choice, prices

    run = context.of(ctx)
    given = {
        "input": ("--input", input_),
        "output": ("--output", output),
        "cache_read": ("--cache-read", cache_read),
        "cache_write": ("--cache-write", cache_write),
        "cache_write_1h": ("--cache-write-1h", cache_write_1h),
        "reasoning": ("--reasoning", reasoning),
        "request": ("--request", request),
    }
    rates = {meter: _usd(flag, text) for meter, (flag, text) in given.items() if text is not None}
    if not rates:
        raise UsageMistake("no rate is given", hint="write at least --input and --output")
    owner, name = _split(run, model, provider)
    from_s = times.until(since, run.zone, run.now_s) if since else 0
    with run.writing() as (tx, author):
        before, after = prices.set_price(
            tx,
            provider=owner or price_choice.ANY_PROVIDER,
            model=name,
            rates=rates,
            context_tokens=whole_number(context_tokens, "--context", least=1) if context_tokens else None,
            output_tokens_max=whole_number(output_max, "--output-max", least=1) if output_max else None,
            effective_from_s=from_s,
            now_s=author.at_s,
        )
        changed = before is None or before.id != after.id
        if changed:
            old = price_table.rates_exact(before) if before else None
            audit.record(
                tx, author, "price set", f"{after.provider}/{name}", before=old, after=price_table.rates_exact(after)
            )
    text = price_table.rates_text(after)
    if not changed:
        line = f"{name} costs {text} already: unchanged."
    elif before is None:
        line = f"Set {name}: {text} per million tokens."
    else:
        line = f"Changed {name}: {price_table.rates_text(before)} -> {text} per million tokens."
    run.out.one(price_table.values(after.provider, name, after) | {"changed": changed}, line)


@verb(app, "sync")
def sync(
    ctx: typer.Context,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE", help="From a file that --export wrote.")] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="FILE", help="Write the catalogue to a file, change nothing.")
    ] = None,
) -> None:
    """Take over the catalogue's prices (of the installed genai-prices). Prices that you set stay."""
    from llmctl.store import audit, catalogue, prices

    run = context.of(ctx)
    found = catalogue.from_file(Path(file)) if file else catalogue.from_genai_prices()
    if export:
        _export(run, found, Path(export))
        return
    with run.writing() as (tx, author):
        done = prices.replace_source(tx, "catalogue", found.rows, now_s=author.at_s)
        counts: dict[str, object] = {"added": done.added, "changed": done.changed, "removed": done.removed}
        if any(counts.values()):
            audit.record(tx, author, "price sync", found.origin, after=counts)
    values = {"origin": found.origin, **counts, "unchanged": done.unchanged}
    text = ", ".join(
        f"{number:,} {word}" for word, number in (*counts.items(), ("unchanged", done.unchanged)) if number
    )
    run.out.one(values, f"{humanize.plural(len(found.rows), 'price')} of {found.origin}: {text}.")


def _export(run: App, found: Catalogue, path: Path) -> None:
    from llmctl.store import catalogue

    try:
        path.write_text(catalogue.to_json(found), encoding="utf-8")
    except OSError as error:
        raise LlmctlError(f"cannot write {path}: {error.strerror}", hint="name another file") from None
    values = {"file": str(path), "origin": found.origin, "prices": len(found.rows)}
    run.out.one(values, f"Wrote {humanize.plural(len(found.rows), 'price')} of {found.origin} to {path}.")


def _split(run: App, model: str, provider: str | None) -> tuple[str, str]:
    """(provider, model). `openai/gpt-5` names the provider only if there is one of that name."""
    if provider is not None:
        return provider, model
    name, slash, rest = model.partition("/")
    return (name, rest) if slash and rest and name in run.config.providers else ("", model)


def _catalogue(run: App, provider: str) -> str:
    """Under which name the prices of a provider are kept."""
    known = run.config.providers.get(provider)
    return known.catalogue or known.name if known else provider


def _in_force(run: App, model: str, provider: str | None) -> tuple[str, str, Price]:
    from llmctl.domain.price import pick
    from llmctl.store import prices

    owner, name = _split(run, run.config.aliases.get(model, model), provider)
    candidates = [owner] if owner else list(run.config.providers)
    with run.reading() as tx:
        for candidate in candidates:
            known = run.config.providers.get(candidate)
            sold_as = known.sold_as(name) if known else name
            price = pick(prices.find(tx, candidate, _catalogue(run, candidate), name, sold_as), run.now_s)
            if price is not None:
                return candidate, name, price
    where = f" of {owner}" if owner else ""
    raise NotFound(f'no price for "{name}"{where}', hint="See: llmctl price list --all, or: llmctl price set")


def _usd(flag: str, text: str) -> int:
    try:
        return parse_usd(text)
    except BadInput as error:
        raise UsageMistake(f"{flag} {error.message}", hint=error.hint) from None
