"""`llmctl backup`: a checked copy, while the gateway serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import context, humanize
from .command import single

app, command = single("backup")


@command
def backup(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; it must not exist yet.")],
) -> None:
    """Copy the database into one file that only you can read, checked. The gateway goes on meanwhile."""
    from llmctl.store import copies

    run = context.of(ctx)
    size = copies.backup(run.database, Path(file))
    run.out.one({"file": str(file), "bytes": size}, f"Copied {run.database} to {file}: {humanize.size(size)}, checked.")
