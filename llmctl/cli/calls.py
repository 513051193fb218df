"""`llmctl calls`: the single calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context, filters
from .command import single
from .errors import UsageMistake
from .filters import Asked, Found
from .options import Sort, in_order, whole_number

if TYPE_CHECKING:
    from llmctl.store.calls import CallFilters, Kind

app, command = single("calls")

LISTED = "50"
FOLLOWED = "10"


@command
def calls(
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
    failed: Annotated[bool, typer.Option("--failed", help="Calls that failed.")] = False,
    estimated: Annotated[bool, typer.Option("--estimated", help="Calls whose usage is an estimate.")] = False,
    unpriced: Annotated[bool, typer.Option("--unpriced", help="Calls without a price.")] = False,
    ceiling: Annotated[bool, typer.Option("--ceiling", help="Calls at a ceiling: their price is not known.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Calls that were not let through.")] = False,
    sort: Sort = None,
    limit: Annotated[
        str | None,
        typer.Option("-n", "--limit", metavar="N", help=f"Only the N newest. Default: {LISTED}; followed: {FOLLOWED}."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with each call that ends, until Ctrl-C.")
    ] = False,
) -> None:
    """List the single calls, the newest first. Of --failed --estimated --unpriced --ceiling --refused, any counts.

    llmctl calls --user alice --failed
    llmctl calls --follow
    llmctl calls --last 7d -n 100000 --sort -cost_usd | head
    llmctl calls --last 7d -n 100000 -o csv > calls.csv
    """
    from llmctl.store import calls as store

    from .calls_table import columns, follow_calls

    run = context.of(ctx)
    if follow and sort is not None:
        raise UsageMistake("--follow goes by time", hint="leave out --sort")
    if follow and until is not None:
        raise UsageMistake("--follow has no end", hint="leave out --until")
    asked = Asked(group, user, key, model, provider, end_user, tag, since, until, last)
    flags = {"failed": failed, "estimated": estimated, "unpriced": unpriced, "ceiling": ceiling, "refused": refused}
    calls_max = whole_number(limit or (FOLLOWED if follow else LISTED), "-n", least=0 if follow else 1)
    with run.reading() as tx:
        who = filters.find(tx, run, asked, all_time=True)
        which = _filters(who, frozenset(kind for kind in store.KINDS if flags.get(kind)))
        found = store.newest(tx, which, calls_max=calls_max)
    if follow:
        follow_calls(run, which, found, who.zone)
        return
    shown = columns(run, who.zone)
    run.out.rows(shown, in_order(shown, found, sort), empty="No calls.")


def _filters(found: Found, kinds: frozenset[Kind]) -> CallFilters:
    from llmctl.store.calls import CallFilters
    from llmctl.store.facts import FAR_S

    return CallFilters(found.which._replace(until_s=FAR_S) if found.ends_now else found.which, kinds)
