"""`llmctl doctor`: is everything well, and what to do if not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import checkup, context
from .checkup import Check
from .command import single
from .humanize import plural
from .render import GREEN, RED, YELLOW, Column
from .text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.store.invariants import Wrong

    from .context import App

app, command = single("doctor")

SHOWN = {"ok": ("ok", GREEN), "warning": ("warn", YELLOW), "failed": ("FAIL", RED)}
STATES = (("failed", "failure"), ("warning", "warning"))


@command
def doctor(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no provider.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be derived from the calls.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 for warnings too.")] = False,
) -> None:
    """Check configuration, files, books, prices and providers. Ends with 1 if something has failed."""
    run = context.of(ctx)
    checks = [*checkup.files(run)]
    if not any(check.name == "database" and check.state == "failed" for check in checks):
        # Of one that is damaged, the first reading would end it all, and no line be shown.
        checks += [*_books(run, repair=repair), *checkup.calls(run), *checkup.names(run)]
    checks += checkup.system()
    if not offline:
        checks += checkup.providers(run)
    if run.out.format == "table":
        _print(run, checks)
    else:
        columns: list[Column[Check]] = [
            Column("check", lambda check: check.name),
            Column("state", lambda check: check.state),
            Column("text", lambda check: check.text),
            Column("mend", lambda check: check.mend),
        ]
        run.out.rows(columns, checks)
    bad = ("failed", "warning") if strict else ("failed",)
    if any(check.state in bad for check in checks):
        raise typer.Exit(1)


def _print(run: App, checks: Sequence[Check]) -> None:
    """A line each, its mend below it: what is not well has to be seen at once, and none of it cut."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        word, color = SHOWN[check.state]
        run.out.line(f"{run.out.paint(f'{word:<4}', color)}  {safe(check.name):<{width}}  {safe(check.text)}")
        if check.mend:
            run.out.line(f"{'':<4}  {'':<{width}}  fix: {safe(check.mend)}")
    if not run.out.quiet:
        run.out.line(_summary(checks))


def _summary(checks: Sequence[Check]) -> str:
    numbers = [(sum(check.state == state for check in checks), noun) for state, noun in STATES]
    return ", ".join(plural(number, noun) for number, noun in numbers if number) or "All is well."


def _books(run: App, *, repair: bool) -> list[Check]:
    from llmctl.store import invariants

    def look() -> Wrong:
        with run.reading() as tx:
            return invariants.check(tx, now_s=run.now_s)

    wrong = look()
    if repair and wrong:
        with run.storing() as (store, author):
            invariants.repair(store, author, wrong)
        wrong = look()
    return list(checkup.books(wrong))
