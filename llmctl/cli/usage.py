"""`llmctl usage`: who used how much, and how much of the limits is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context, filters
from .command import branching
from .errors import UsageMistake, not_possible
from .filters import Asked
from .options import in_order, whole_number
from .render import FOCUS

if TYPE_CHECKING:
    from llmctl.store.usage import By, Row


app, command = branching("usage", "llmctl.cli.usage_reprice")


@command
def usage(
    ctx: typer.Context,
    group: filters.Group = None,
    user: filters.User = None,
    key: filters.Key = None,
    model: filters.Model = None,
    provider: filters.Provider = None,
    end_user: filters.EndUser = None,
    tag: filters.Tag = None,
    since: filters.Since = None,
    until: filters.Until = None,
    last: filters.Last = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="COLUMNS", help="group, user, key, end-user, tag, model, provider; hour ... month."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="COLUMN", help="cost, calls, errors, name ...; -COLUMN: highest first."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("-n", "--limit", metavar="N", help="Only the N dearest rows, or the first by --sort."),
    ] = None,
) -> None:
    """Show who used how much, and how much of the limits is gone. Default: this month.

    The organisation is shown by group, a group by user, a user by model. Rows by group are direct, so that they add up;
    --group includes the groups below it. What cost most comes first, periods come in order. Days are the group's days.
    -o focus is CSV for chargeback, as FOCUS has it.

      llmctl usage
      llmctl usage --by user -n 10
      llmctl usage --by user --sort -calls
      llmctl usage --group sales --last 7d --by user,day -o csv
      llmctl usage --since 2026-10-01 --until 2026-11-01 -o focus > october.csv
    """
    from llmctl.store import usage as store

    from .usage_lines import Report
    from .usage_notes import widened
    from .usage_table import print_report, sort_columns

    run = context.of(ctx)
    asked = Asked(group, user, key, model, provider, end_user, tag, since, until, last)
    run.offers_focus = True
    if run.out.format == FOCUS and not by is sort is limit is None:
        raise UsageMistake("-o focus has rows of its own", hint="leave out --by, --sort and -n")
    wanted = _by(by, asked)
    rows_max = whole_number(limit, "-n", least=1) if limit is not None else None
    with run.reading() as tx:
        found = filters.find(tx, run, asked)
        which = store.told(tx, found.which)
        if run.out.format != "table":
            for note in widened(run, found, which):
                run.out.prose(note)
        if run.out.format == FOCUS:
            from .usage_focus import print_focus

            print_focus(run, tx, found, which)
            return
        if run.out.is_watched and store.takes_long(tx, which, wanted):
            run.out.prose("Reading the single calls, as tags and end users are theirs: some seconds.")
        rows = store.report(tx, which, wanted, found.zone)
        is_list = sort is not None or limit is not None
        cut = len(rows) if rows_max is None else rows_max
        if sort is None:
            shown, rest = _dearest(rows, cut)
        else:
            ordered = list(in_order(sort_columns(wanted), rows, sort))
            shown, rest = ordered[:cut], ordered[cut:]
        print_report(Report(run, tx, asked, found, which, wanted, shown, rest, is_list))


def _dearest(rows: list[Row], rows_max: int) -> tuple[list[Row], list[Row]]:
    """Those that cost most, in the order of the report, and all others."""
    places = sorted(range(len(rows)), key=lambda place: -rows[place].sums.cost_nano_usd)
    kept = {*places[:rows_max]}
    return [rows[place] for place in sorted(kept)], [rows[place] for place in sorted(places[rows_max:])]


def _by(text: str | None, asked: Asked) -> list[By]:
    from llmctl.store.usage import BYS

    if text is None:
        if asked.user is not None or asked.key is not None:
            return ["model"]
        return ["user"] if asked.group is not None else ["group"]
    wanted: list[By] = []
    for name in (part.strip().replace("-", "_") for part in text.split(",")):
        matching = [one for one in BYS if one == name]
        if not matching:
            raise not_possible("--by", name, BYS)
        if matching[0] not in wanted:
            wanted += matching
    return wanted
