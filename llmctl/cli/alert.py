"""`llmctl alert`: what the gateway told, and whether it reached whom it was for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from llmctl.domain.errors import NotFound

from . import context, times
from .command import noun, verb
from .options import Newest, Sort, in_order, whole_number
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.alerts import Told

    from .context import App

app = noun("What the gateway told: limits that go, runaway spend, providers that fail, models without a price.")


@verb(app, "list")
def list_(ctx: typer.Context, limit: Newest = "50", sort: Sort = None) -> None:
    """List what was told, the newest first, and who has it."""
    from llmctl.store import alerts as store

    run = context.of(ctx)
    with run.reading() as tx:
        found = store.listing(tx, most=whole_number(limit, "-n", least=1))
    run.out.rows(_columns(run), in_order(_columns(run), found, sort), empty="Nothing was told.")


@verb(app, "test")
def test(ctx: typer.Context) -> None:
    """Tell every receiver of the configuration that this is a test. The running gateway delivers it."""
    from llmctl.domain.alert import Alert
    from llmctl.store import alerts as store

    run = context.of(ctx)
    receivers = list(run.config.alerts.receivers)
    if not receivers:
        raise NotFound("no receiver is configured", hint="add [alerts.to.NAME] to the configuration")
    alert = Alert("test", f"test/{time.time_ns()}", "this is a test of llmctl's alerts", {})
    with run.writing() as (tx, _):
        store.add(tx, [alert], receivers, run.now_s)
    run.out.one({"receivers": receivers}, f"Told {', '.join(receivers)}. Whether it arrived: llmctl alert list -n 1")


def _columns(run: App) -> tuple[Column[Told], ...]:
    return (
        Column("id", lambda a: a.id),
        times.moment_column("at", "WHEN", lambda a: a.at_s, run.zone, run.now_s, fixed=True),
        Column("kind", lambda a: a.kind, "KIND", fixed=True),
        Column("text", lambda a: a.text, "TOLD"),
        Column("facts", lambda a: a.facts),
        Column("delivered", lambda a: list(a.delivered), "REACHED", lambda a: ", ".join(a.delivered)),
        Column("pending", lambda a: list(a.pending), "WAITS", lambda a: ", ".join(a.pending)),
        Column("failed", lambda a: list(a.failed), "FAILED", lambda a: ", ".join(a.failed)),
    )
