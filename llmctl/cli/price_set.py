"""`llmctl price set` and `price remove`: an admin's own prices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.domain.errors import BadInput, NotFound
from llmctl.domain.money import parse_usd

from . import context, meters, price_table, times
from .ask import DryRun, Yes, confirm
from .errors import UsageMistake
from .options import IfExists, whole_number
from .price_names import ProviderName, catalogue_of, check_provider, sold_as, split

if TYPE_CHECKING:
    from llmctl.domain.price import Price
    from llmctl.store.price_edit import Seller
    from llmctl.store.prices import AdminSource

    from .context import App


CEILING_HELP = "Only for models that have no price: what they are held and booked at, and marked."


def _rate(meter: str, text: str) -> Any:
    return typer.Option(meters.flag(meter), metavar="USD", help=text)


def _tokens(meter: str, what: str) -> Any:
    return _rate(meter, f"Per million {what}.")


def set_(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or pattern, also as provider/model.")],
    provider: ProviderName = None,
    input_: Annotated[str | None, _tokens("input", "input tokens")] = None,
    output: Annotated[str | None, _tokens("output", "output tokens")] = None,
    cache_read: Annotated[str | None, _tokens("cache_read", "tokens read from a cache")] = None,
    cache_write: Annotated[str | None, _tokens("cache_write", "tokens written to one, for 5 minutes")] = None,
    cache_write_1h: Annotated[str | None, _tokens("cache_write_1h", "tokens written to one, for an hour")] = None,
    reasoning: Annotated[str | None, _tokens("reasoning", "reasoning tokens")] = None,
    input_audio: Annotated[str | None, _tokens("input_audio", "tokens of audio that is heard")] = None,
    output_audio: Annotated[str | None, _tokens("output_audio", "tokens of audio that is spoken")] = None,
    input_image: Annotated[str | None, _tokens("input_image", "tokens of images that are seen")] = None,
    output_image: Annotated[str | None, _tokens("output_image", "tokens of images that are made")] = None,
    input_video: Annotated[str | None, _tokens("input_video", "tokens of video that is seen")] = None,
    output_video: Annotated[str | None, _tokens("output_video", "tokens of video that is made")] = None,
    cache_audio_read: Annotated[str | None, _tokens("cache_audio_read", "tokens of audio read from a cache")] = None,
    cache_image_read: Annotated[str | None, _tokens("cache_image_read", "tokens of images read from a cache")] = None,
    request: Annotated[str | None, _rate("request", "For each call.")] = None,
    web_search: Annotated[str | None, _rate("web_search", "For each search of the web.")] = None,
    web_search_preview: Annotated[
        str | None, _rate("web_search_preview", "For each search by OpenAI's older tool, where it costs more.")
    ] = None,
    map_search: Annotated[str | None, _rate("map_search", "For each search in maps.")] = None,
    file_search: Annotated[str | None, _rate("file_search", "For each search in files.")] = None,
    code_interpreter: Annotated[str | None, _rate("code_interpreter", "For each run of the code interpreter.")] = None,
    image_generation: Annotated[str | None, _rate("image_generation", "For each call of the image tool.")] = None,
    image_tool_text_tokens: Annotated[
        str | None, _tokens("image_tool_text_tokens", "tokens of text that the image tool reads")
    ] = None,
    image_tool_image_tokens: Annotated[
        str | None, _tokens("image_tool_image_tokens", "tokens of images that it sees")
    ] = None,
    image_tool_output_tokens: Annotated[
        str | None, _tokens("image_tool_output_tokens", "tokens of images that it makes, instead of its calls")
    ] = None,
    audio_seconds: Annotated[str | None, _rate("audio_seconds", "For each minute of audio that is heard.")] = None,
    characters: Annotated[str | None, _rate("characters", "Per million characters that are spoken.")] = None,
    images: Annotated[str | None, _rate("images", "For each image that is made.")] = None,
    pages: Annotated[str | None, _rate("pages", "For each page that is read.")] = None,
    search_units: Annotated[str | None, _rate("search_units", "For each search unit of a reranker.")] = None,
    tier: Annotated[
        str | None,
        typer.Option("--tier", metavar="TIER", help="Only when this one was served: batch, flex, priority."),
    ] = None,
    above: Annotated[
        str | None, typer.Option("--above", metavar="N", help="Only of calls with more input tokens: 200k.")
    ] = None,
    context_tokens: Annotated[
        str | None, typer.Option("--context", metavar="N", help="The context window: 400k.")
    ] = None,
    output_max: Annotated[
        str | None, typer.Option("--output-max", metavar="N", help="The longest output: 128k.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From then on. Default: as the price so far.")
    ] = None,
    ceiling: Annotated[bool, typer.Option("--ceiling", help=CEILING_HELP)] = False,
) -> None:
    """Set a price. Rates that are not named stay as they are; a model without a price needs --input and --output.

    What has no rate is billed like what it is a part of: reading from a cache like input, reasoning like output. A call
    is priced by the time when it started, and by the tier that the answer names.
    """
    from llmctl.store import audit, price_edit

    run = context.of(ctx)
    given = {name.removesuffix("_"): text for name, text in locals().items() if name.removesuffix("_") in meters.FLAGS}
    rates = {meter: _nano(meter, text) for meter, text in given.items() if isinstance(text, str)}
    if not rates:
        raise UsageMistake("no rate is given", hint="write at least --input and --output (0 is a price)")
    owner, name = split(run, model, provider)
    source: AdminSource = "ceiling" if ceiling else "admin"
    if (tier is not None or above is not None) and (context_tokens or output_max):
        raise UsageMistake("a part of a price has no --context and no --output-max", hint="set them with the price")
    if owner:
        with run.reading() as tx:
            check_provider(tx, run, owner)
    place: dict[str, Any] = {
        "provider": owner or "*",
        "model": name,
        "rates": rates,
        "effective_from_s": times.moment(since, run.zone, run.now_s) if since else 0,
        "source": source,
    }
    if tier is None and above is None:
        edit: Callable[..., tuple[Price | None, Price]] = price_edit.set_rates
        place |= {"sellers": _sellers(run, owner, name), **_sizes(context_tokens, output_max)}
    else:
        edit = price_edit.amend_price
        place |= {
            "catalogue": catalogue_of(run, owner) if owner else "",
            "sold_as": sold_as(run, owner, name),
            "tier": tier or "",
            "above_tokens": whole_number(above, "--above", least=1) if above is not None else None,
        }
    with run.writing() as (tx, author):
        before, after = edit(tx, now_s=author.at_s, **place)
        changed = before is None or before.id != after.id
        if changed:
            old = price_table.terms_exact(before) if before else None
            action = "price set ceiling" if ceiling else "price set"
            audit.record(
                tx, author, action, f"{after.provider}/{name}", before=old, after=price_table.terms_exact(after)
            )
    values = price_table.values(after.provider, name, after) | {"changed": changed}
    of_whom = f"{owner}/{name}" if owner not in ("", "*") else f"{name} of any provider"
    what = f"{of_whom} (ceiling)" if ceiling else of_whom
    of_tier = f", tier {tier}" if tier else ""
    run.out.one(values, _told(f"{what}{of_tier}{_from(run, after)}", before, after, tier or "", changed=changed))


def remove(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or pattern, as the price was set for.")],
    provider: ProviderName = None,
    ceiling: Annotated[bool, typer.Option("--ceiling", help="The ceiling, not the price.")] = False,
    if_exists: IfExists = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Take back a price that you set, of all times: the catalogue's holds again. What is booked stays."""
    from llmctl.store import audit, prices

    run = context.of(ctx)
    owner, name = split(run, model, provider)
    source: AdminSource = "ceiling" if ceiling else "admin"
    with run.reading() as tx:
        found = prices.admin_prices(tx, owner or "*", name, source)
    where = f"{owner}/{name}" if owner else name
    what = f"the ceiling of {where}" if ceiling else f"the price of {where}"
    values: dict[str, object] = {"provider": owner or "*", "model": name, "source": source, "removed": len(found)}
    if not found:
        if not if_exists:
            raise NotFound(f"you have not set {what}", hint="See: llmctl price list")
        run.out.one(values, f"{what.capitalize()} is not set: unchanged.")
        return
    if dry_run:
        run.out.one(values, f"{what.capitalize()} would be taken back.")
        return
    confirm(run, f"Take back {what}?", yes=yes)
    with run.writing() as (tx, author):
        for price in prices.admin_prices(tx, owner or "*", name, source):
            prices.remove_price(tx, price, now_s=author.at_s)
            audit.record(tx, author, "price remove", where, before=price_table.terms_exact(price))
    run.out.one(values, f"Took back {what}.")


def _sellers(run: App, owner: str, model: str) -> list[Seller]:
    """That provider; without one, whoever is configured: they may agree."""
    from llmctl.store.price_choice import ANY_PROVIDER
    from llmctl.store.price_edit import Seller

    any_provider = [] if owner else [Seller(ANY_PROVIDER, "")]
    names = [owner] if owner else run.config.providers
    return any_provider + [Seller(name, catalogue_of(run, name), sold_as(run, name, model)) for name in names]


def _sizes(context_tokens: str | None, output_max: str | None) -> dict[str, int | None]:
    return {
        "context_tokens": whole_number(context_tokens, "--context", least=1) if context_tokens else None,
        "output_tokens_max": whole_number(output_max, "--output-max", least=1) if output_max else None,
    }


def _nano(meter: str, text: str) -> int:
    """The rate that was written, per million units."""
    try:
        return meters.rate_of(meter, parse_usd(text))
    except BadInput as error:
        raise UsageMistake(f"{meters.flag(meter)} {error.message}", hint=error.hint) from None


def _from(run: App, price: Price) -> str:
    """` from 1 Dec on`: what was in force until then stays so."""
    from_s = price.effective_from_s
    return f" from {times.end_short(from_s, run.zone, run.now_s)} on" if from_s else ""


def _told(what: str, before: Price | None, after: Price, tier: str, *, changed: bool) -> str:
    if not changed:
        return f"{what} costs {price_table.rates_text(after, tier=tier)} already: unchanged."
    if before is None:
        return f"Set {what}: {price_table.rates_text(after, tier=tier)}."
    return f"Changed {what}: {price_table.changes_text(before, after, tier=tier)}."
