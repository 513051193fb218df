"""`llmctl prune`: forget old calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from llmctl.domain.window import window_start

from . import context, humanize
from .ask import DryRun, Yes, confirm
from .command import single
from .errors import UsageMistake
from .times import duration_s, end_short, rfc3339

if TYPE_CHECKING:
    from .context import App

app, command = single("prune")


@command
def prune(
    ctx: typer.Context,
    keep: Annotated[str, typer.Option("--keep", metavar="SPAN", help="How much of the calls stays: 90d, 12mo.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Forget single calls older than this, while the gateway serves. Usage by user, model and time stays as it is.

    Calls of today, and those in a window of a limit that has not ended, stay in any case.
    """
    from llmctl.store import prune as store

    run = context.of(ctx)
    before_s = run.now_s - duration_s(keep)
    if before_s > _today_s(run):
        raise UsageMistake(f"--keep {keep} reaches into today", hint="keep at least 2d; a month is 1mo")
    open_s, limit_id = _open_window(run)
    if open_s < before_s:
        before_s = open_s
        run.out.prose(f"! Calls since {_moment(run, open_s)} stay: l{limit_id} counts in a window that has not ended.")
    found = store.count(run.database, before_s, run.now_s)
    calls, moment = humanize.plural(found, "call"), _moment(run, before_s)
    values: dict[str, object] = {"calls": found, "before": rfc3339(before_s)}
    if dry_run:
        run.out.one(values, f"{calls} from before {moment} would be forgotten.")
        return
    if found:
        confirm(run, f"Forget {calls} from before {moment}?", yes=yes)
    values["calls"] = forgotten = store.prune(run.database, run.author, before_s)
    room = " The file keeps its size; new calls take the room." if forgotten else ""
    run.out.one(values, f"Forgot {humanize.plural(forgotten, 'call')} from before {moment}.{room}")


def _moment(run: App, at_s: int) -> str:
    return f"{end_short(at_s, run.zone, run.now_s)} {run.zone.key}"


def _today_s(run: App) -> int:
    """When today began, in the zone where it did first."""
    from llmctl.store import groups

    with run.reading() as tx:
        zones = {run.config.timezone, *(group.timezone for group in groups.listing(tx) if group.timezone)}
    return min(window_start("day", ZoneInfo(zone), run.now_s) for zone in zones)


def _open_window(run: App) -> tuple[int, int]:
    """When the oldest window began that has an end and has not ended, and the limit that it is of. What is counted in
    total is in the sums."""
    from llmctl.store import limits

    with run.reading() as tx:
        found = [one for one in limits.listing(tx, default_zone=run.config.timezone) if one.window != "total"]
    starts = [(window_start(one.window, ZoneInfo(one.zone), run.now_s), one.id) for one in found]
    return min(starts, default=(run.now_s, 0))
