"""`llmctl doctor`: is everything well, and what to do if not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import checkup, context
from .checkup import Check
from .command import single
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.invariants import Wrong

    from .context import App

app, command = single("doctor")


@command
def doctor(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no provider.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be derived from the calls.")] = False,
) -> None:
    """Check configuration, files, books, prices and providers. Ends with 1 if something has failed."""
    run = context.of(ctx)
    checks = [*checkup.files(run), *_books(run, repair=repair), *checkup.calls(run), *checkup.system()]
    if not offline:
        checks += checkup.providers(run)
    columns: list[Column[Check]] = [
        Column("check", lambda check: check.name, "CHECK", fixed=True),
        Column("state", lambda check: check.state, "STATE"),
        Column("text", lambda check: check.text, "WHAT"),
        Column("mend", lambda check: check.mend),
    ]
    notes = [f"! {check.name}: {check.mend}" for check in checks if check.mend]
    run.out.rows(columns, checks, notes=notes)
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(1)


def _books(run: App, *, repair: bool) -> list[Check]:
    from llmctl.store import invariants

    def look() -> Wrong:
        with run.reading() as tx:
            return invariants.check(tx, default_zone=run.config.timezone, now_s=run.now_s)

    wrong = look()
    if repair and wrong:
        with run.storing() as (store, author):
            invariants.repair(store, author, wrong, default_zone=run.config.timezone)
        wrong = look()
    return list(checkup.books(wrong))
