"""`llmctl migrate`: the database of an older llmctl, up to date."""

from __future__ import annotations

import typer

from . import context
from .ask import DryRun
from .command import single

app, command = single("migrate")


@command
def migrate(ctx: typer.Context, dry_run: DryRun = False) -> None:
    """Bring the database up to this version's schema. The old one is kept beside it."""
    from llmctl.store import copies, database

    run = context.of(ctx)
    wanted = database.schema_version()
    if dry_run:
        found = copies.check(run.database)
        text = "is current" if found == wanted else f"would be brought to schema {wanted}"
        run.out.one({"schema": found, "to": wanted}, f"{run.database} has schema {found}: it {text}.")
        return
    before, kept = copies.migrate(run.database, run.author)
    values = {"before": before, "schema": wanted, "kept": str(kept) if kept else None}
    if kept is None:
        run.out.one(values, f"{run.database} has schema {wanted} already: unchanged.")
    else:
        run.out.one(values, f"Brought {run.database} from schema {before} to {wanted}. As it was: {kept}")
