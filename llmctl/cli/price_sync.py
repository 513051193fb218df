"""`llmctl price sync`: the catalogue's prices, from the installed package or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import BadInput, LlmctlError

from . import context, humanize, price_table, times
from .ask import DryRun, Yes, confirm
from .errors import BadFile
from .render import Column, record

if TYPE_CHECKING:
    from llmctl.store.audit import Author
    from llmctl.store.catalogue import Catalogue
    from llmctl.store.database import Tx
    from llmctl.store.price_import import Comparison, Difference, Summary

    from .context import App

LISTED_MAX = 50  # for people; -o json has all
REMOVED_UNASKED_MAX = 100  # of the thousands that there are: a file with fewer is another kind of file


def sync(
    ctx: typer.Context,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="From this file instead.")] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="FILE", help="Write the catalogue to a file, change nothing.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Take over the catalogue's prices (of the installed genai-prices). Prices that you set stay.

    A machine without a network takes a FILE: what --export wrote elsewhere, or the prices/data.json of
    github.com/pydantic/genai-prices, as it is. A file that cannot be used changes nothing.
    """
    from llmctl.store import audit, catalogue, price_import

    run = context.of(ctx)
    try:
        found = catalogue.from_file(Path(file)) if file is not None else catalogue.from_genai_prices()
    except BadInput as error:
        raise BadFile(error.message, hint=error.hint) from None
    if export is not None:
        _export(run, found, Path(export), dry_run=dry_run, yes=yes)
        return

    def compared(tx: Tx) -> Comparison:
        return price_import.compare(tx, "catalogue", found.rows)

    def take_over(tx: Tx, author: Author, now: Comparison) -> Summary:
        price_import.take_over(tx, "catalogue", now, now_s=author.at_s)
        counts = _counts(now.summary)
        if any(counts.values()):
            audit.record(tx, author, "price sync", found.origin, after=counts)
        return now.summary

    with run.reading() as tx:
        seen = compared(tx)
    if dry_run:
        _tell(run, found, seen.summary, seen.differences())
        return
    removed = seen.summary.removed
    if removed > REMOVED_UNASKED_MAX:
        confirm(run, f"Take away {humanize.plural(removed, 'price')} that {found.origin} does not have?", yes=yes)
    done = seen.summary if seen.is_same else run.change(compared, take_over)
    run.out.one({"origin": found.origin, **_counts(done), "unchanged": done.unchanged}, _summary(found, done))


def _counts(done: Summary) -> dict[str, object]:
    return {"added": done.added, "changed": done.changed, "removed": done.removed}


def _summary(found: Catalogue, done: Summary) -> str:
    counted = [*_counts(done).items(), ("unchanged", done.unchanged)]
    text = ", ".join(f"{number:,} {word}" for word, number in counted if number)
    return f"{humanize.plural(len(found.rows), 'price')} of {found.origin}: {text}."


def _tell(run: App, found: Catalogue, done: Summary, differences: Sequence[Difference]) -> None:
    """What would change, that of configured providers first."""
    configured = {one.catalogue for one in run.config.providers.values()}
    ordered = sorted(differences, key=lambda one: one.price.provider not in configured)
    columns = _columns(run)
    if run.out.format == "json":
        changes = [record(columns, one) for one in ordered]
        run.out.one({"origin": found.origin, **_counts(done), "unchanged": done.unchanged, "changes": changes}, "")
        return
    shown = ordered if run.out.format == "csv" else ordered[:LISTED_MAX]
    notes = [f"{len(ordered) - len(shown):,} more: -o json"] if len(ordered) > len(shown) else []
    run.out.rows(columns, shown, notes=[*notes, f"Nothing was changed. {_summary(found, done)}"])


def _columns(run: App) -> tuple[Column[Difference], ...]:
    return (
        Column("change", _change, "CHANGE", fixed=True),
        Column("provider", lambda one: one.price.provider, "PROVIDER"),
        Column("model", lambda one: one.price.model, "MODEL"),
        Column(
            "effective_from",
            lambda one: times.rfc3339(one.price.effective_from_s) if one.price.effective_from_s else None,
            "FROM",
            lambda one: price_table.from_text(run, one.price),
            drop=1,
        ),
        Column("before", lambda one: price_table.rates_text(one.before) if one.before else None, "BEFORE"),
        Column("after", lambda one: price_table.rates_text(one.after) if one.after else None, "AFTER"),
    )


def _change(one: Difference) -> str:
    if one.before is None:
        return "added"
    return "changed" if one.after is not None else "removed"


def _export(run: App, found: Catalogue, path: Path, *, dry_run: bool, yes: bool) -> None:
    from llmctl.store import catalogue

    values = {"file": str(path), "origin": found.origin, "prices": len(found.rows), "dry_run": dry_run}
    what = f"{humanize.plural(len(found.rows), 'price')} of {found.origin} to {path}."
    if dry_run:
        run.out.one(values, f"Would write {what}")
        return
    if path.is_file():
        confirm(run, f"Replace {path}?", yes=yes)
    try:
        path.write_text(catalogue.to_json(found), encoding="utf-8")
    except OSError as error:
        raise LlmctlError(f"cannot write {path}: {error.strerror}", hint="name another file") from None
    run.out.one(values, f"Wrote {what}")
