"""`llmctl alert`: what the gateway told, and whether it reached whom it was for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.alert import KINDS
from llmctl.domain.errors import NotFound

from . import context, times
from .command import noun, verb
from .errors import not_possible
from .options import Newest, Sort, containing, in_order, whole_number
from .render import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.store.alerts import Told

    from .context import App

ALL = 10**9

app = noun("What the gateway told: limits that go, runaway spend, providers that fail, models without a price.")


@verb(app, "list")
def list_(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Only what contains it.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help=f"Only of this kind: {', '.join(KINDS)}.")
    ] = None,
    limit: Newest = "50",
    sort: Sort = None,
) -> None:
    """List what was told, the newest first, and who has it."""
    from llmctl.store import alerts as store

    run = context.of(ctx)
    if kind is not None and kind not in KINDS:
        raise not_possible("--kind", kind, KINDS)
    most = whole_number(limit, "-n", least=1)
    filtered = kind is not None or text is not None
    with run.reading() as tx:
        found = store.listing(tx, most=ALL if filtered else most)
    found = containing(text, lambda told: [told.text], (told for told in found if kind in (None, told.kind)))[:most]
    empty = "No alert matches." if filtered else "Nothing was told."
    shown = columns(run, found)
    run.out.rows(shown, in_order(shown, found, sort), empty=empty)


@verb(app, "test")
def test(ctx: typer.Context) -> None:
    """Tell every receiver of the configuration that this is a test. The running gateway delivers it; without one, it
    waits."""
    from llmctl.domain.alert import Alert
    from llmctl.store import alerts as store
    from llmctl.store import owners

    run = context.of(ctx)
    receivers = list(run.config.alerts.receivers)
    if not receivers:
        raise NotFound("no receiver is configured", hint="add [alerts.to.NAME] to the configuration")
    alert = Alert("test", f"test/{time.time_ns()}", "this is a test of llmctl's alerts", {})
    with run.writing() as (tx, _):
        store.add(tx, [alert], receivers, run.now_s)
    running, whom = bool(owners.living(run.database)), ", ".join(receivers)
    told = f"Told {whom}." if running else f"No gateway runs: {whom} will be told when one does (llmctl serve)."
    values = {"receivers": receivers, "gateway_runs": running}
    run.out.one(values, f"{told} Whether it arrived: llmctl alert list -n 1")


def columns(run: App, found: Sequence[Told] = ()) -> tuple[Column[Told], ...]:
    """What waits or failed has a column where something did: elsewhere the text takes the room."""
    waits = "WAITS" if any(a.pending for a in found) else ""
    failed = "FAILED" if any(a.failed for a in found) else ""
    return (
        Column("id", lambda a: a.id),
        times.moment_column("at", "WHEN", lambda a: a.at_s, run.zone, run.now_s, fixed=True),
        Column("kind", lambda a: a.kind, "KIND", fixed=True),
        Column("text", lambda a: a.text, "TOLD"),
        Column("facts", lambda a: a.facts),
        Column("delivered", lambda a: list(a.delivered), "REACHED", lambda a: ", ".join(a.delivered)),
        Column("pending", lambda a: list(a.pending), waits, lambda a: ", ".join(a.pending)),
        Column("failed", lambda a: list(a.failed), failed, lambda a: ", ".join(a.failed)),
    )
