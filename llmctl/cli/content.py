"""`llmctl content`: prompts and answers, kept only for the groups that are named here."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from . import context
from .command import noun, verb
from .humanize import plural
from .options import Sort, in_order
from .render import Column

app = noun("Prompts and answers: kept for no group unless you say so, redacted, and for a time.")

COLUMNS: tuple[Column[tuple[str, int]], ...] = (
    Column("day", lambda day: day[0], "DAY UTC"),
    Column("bytes", lambda day: day[1], "BYTES", lambda day: f"{day[1]:,}", right=True),
)
Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group; those below it too.")]


@verb(app, "keep")
def keep(ctx: typer.Context, group: Group) -> None:
    """Keep the prompts and answers of a group's calls, from the next one on.

    They lie beside the database, one file a day, readable by its owner alone. How long, and what is taken out of them,
    stands in the configuration: [content]. Of a streamed answer its text is kept, put together.
    """
    _set(ctx, group, kept=True)


@verb(app, "drop")
def drop(ctx: typer.Context, group: Group) -> None:
    """Keep no more of a group's prompts and answers. What was kept goes when its time is over."""
    _set(ctx, group, kept=False)


@verb(app, "list")
def list_(ctx: typer.Context, sort: Sort = None) -> None:
    """List the days of which something is kept."""
    from llmctl.store import contents

    run = context.of(ctx)
    found = contents.days(contents.directory_of(run.config.database))
    run.out.rows(COLUMNS, in_order(COLUMNS, found, sort), empty="Nothing is kept.")


@verb(app, "show")
def show(
    ctx: typer.Context, call: Annotated[str, typer.Argument(metavar="CALL", help="Its id: see llmctl calls.")]
) -> None:
    """Show what was said in one call."""
    from llmctl.store import contents

    run = context.of(ctx)
    record = contents.find(contents.directory_of(run.config.database), call)
    fields = [(name.capitalize(), str(record.get(name) or "-")) for name in ("call", "at", "user", "group", "model")]
    run.out.result(
        record, [*fields, ("Request", _readable(record["request"])), ("Answer", _readable(record["answer"]))]
    )


def _set(ctx: typer.Context, group: str, *, kept: bool) -> None:
    from llmctl.store import groups

    run = context.of(ctx)
    with run.writing() as (tx, author):
        changed = groups.set_keeps_content(tx, author, group, kept=kept)
    days = plural(run.config.content.keep_days, "day")
    text = f"The contents of {group}'s calls are kept for {days}." if kept else f"{group}'s contents are not kept."
    run.out.one({"group": group, "kept": kept, "changed": changed}, text if changed else f"{text} Unchanged.")


def _readable(text: Any) -> list[str]:
    """JSON indented; everything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).splitlines()
    except (TypeError, ValueError):
        return str(text).splitlines()
