"""`llmctl restore`: a copy in the place of the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import context
from .ask import DryRun, Yes, confirm
from .command import single

app, command = single("restore")


@command
def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A copy that llmctl backup made.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Put a copy in the place of the database, which is kept. No gateway may run."""
    from llmctl.store import copies

    run = context.of(ctx)
    schema = copies.check(Path(file))
    if dry_run:
        run.out.one({"file": str(file), "schema": schema}, f"{file} is sound, of schema {schema}: it can be restored.")
        return
    confirm(run, f"Replace {run.database} by {file}?", yes=yes)
    kept = copies.restore(Path(file), run.database, run.author)
    replaced = f" The one that was there: {kept}" if kept else ""
    run.out.one({"file": str(file), "kept": str(kept) if kept else None}, f"Restored {file}.{replaced}")
