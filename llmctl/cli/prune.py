"""`llmctl prune`: forget old calls."""

from __future__ import annotations

from typing import Annotated

import typer

from . import context, humanize
from .ask import DryRun, Yes, confirm
from .command import single
from .times import duration_s, end_short, rfc3339

app, command = single("prune")


@command
def prune(
    ctx: typer.Context,
    keep: Annotated[str, typer.Option("--keep", metavar="SPAN", help="How much of the calls stays: 90d, 12mo.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Forget single calls older than this, while the gateway serves. Usage by user, model and time stays as it is."""
    from llmctl.store import prune as store

    run = context.of(ctx)
    before_s = run.now_s - duration_s(keep)
    found = store.count(run.database, before_s, run.now_s)
    calls, moment = humanize.plural(found, "call"), end_short(before_s, run.zone, run.now_s)
    values: dict[str, object] = {"calls": found, "before": rfc3339(before_s)}
    if dry_run:
        run.out.one(values, f"{calls} from before {moment} would be forgotten.")
        return
    if found:
        confirm(run, f"Forget {calls} from before {moment}?", yes=yes)
    values["calls"] = forgotten = store.prune(run.database, run.author, before_s)
    room = " The file keeps its size; new calls take the room." if forgotten else ""
    run.out.one(values, f"Forgot {humanize.plural(forgotten, 'call')} from before {moment}.{room}")
