"""`llmctl usage reprice`: costs worked out anew, after a price was wrong or missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from llmctl.domain.hints import price_set
from llmctl.domain.money import usd_exact

from . import context, filters, humanize
from .ask import DryRun, Yes, confirm
from .command import single
from .filters import Asked
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.revision import Looked, Seller, Wanted

    from .context import App

app, command = single("reprice")


@dataclass(slots=True)
class Line:
    """What becomes of the calls of one model. A sum is None where not one call has a price."""

    model: str
    calls: int = 0
    changed: int = 0
    unpriced: int = 0
    old_nano: int | None = None
    new_nano: int | None = None

    def add(self, one: Looked) -> None:
        self.calls += 1
        self.changed += one.change is not None
        self.unpriced += one.new_cost_nano is None
        self.old_nano = _known(self.old_nano, one.call.cost_nano)
        self.new_nano = _known(self.new_nano, one.new_cost_nano)


def _known(*nano: int | None) -> int | None:
    """The sum of what is priced; None: nothing is, of something."""
    priced = [one for one in nano if one is not None]
    return sum(priced) if priced or not nano else None


@command
def reprice(
    ctx: typer.Context,
    since: filters.Since = None,
    until: filters.Until = None,
    model: filters.Model = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Work costs out anew, from the usage kept with each call and the price in force when it started. Default: this
    month's.

    After a price was corrected or set. The old figure stays with each call (llmctl why CALL), the sums are in the
    audit; limits and reports follow. What providers stated stays. It goes on while the gateway serves; interrupted, the
    same command finishes it.

      llmctl price set openai/gpt-5 --input 1.25 --output 10 --from 2026-11-01
      llmctl usage reprice --since 2026-11-01 --model gpt-5 --dry-run
    """
    from llmctl.store import repricing

    from . import price_names, usage_notes

    run = context.of(ctx)
    wanted = _wanted(run, since, until, model)
    sellers = price_names.sellers(run)
    lines, goes_on = _survey(run, wanted, sellers)
    changed = sum(line.changed for line in lines)
    costs = " -> ".join(
        humanize.usd(_known(*(getattr(one, name) for one in lines))) for name in ("old_nano", "new_nano")
    )
    calls = humanize.plural(changed, "call")
    if not dry_run and (changed or goes_on):
        confirm(run, f"Reprice {calls}, {costs}?", yes=yes)
        changed = repricing.reprice(run.database, run.author, wanted, sellers)
        calls = humanize.plural(changed, "call")
    would = "would cost" if dry_run else "cost"
    done = f"{calls} {would} something else: {costs}." if changed else "Nothing changes."
    with run.reading() as tx:
        forgotten = usage_notes.pruned(tx, wanted.since_s, run.zone, run.now_s, ": what they cost stays as it is")
    run.out.rows(_columns(), lines, empty="No calls.", notes=[done, *forgotten, *_unpriced(lines)])


def _wanted(run: App, since: str | None, until: str | None, model: str | None) -> Wanted:
    from llmctl.store.revision import EVERY_MODEL, Wanted

    with run.reading() as tx:
        asked = dict.fromkeys(Asked.__slots__) | {"model": model, "since": since, "until": until}
        found = filters.find(tx, run, Asked(**asked))
    which = found.which
    return Wanted(which.since_s, None if found.ends_now else which.until_s, which.model or EVERY_MODEL)


def _survey(run: App, wanted: Wanted, sellers: dict[str, Seller]) -> tuple[list[Line], bool]:
    """What would become of the calls, by model, the largest sum first; and whether an earlier run waits."""
    from llmctl.store import repricing, revision
    from llmctl.store.database import Store

    lines: dict[str, Line] = {}
    with closing(Store(run.database, readonly=True)) as store:
        with store.read() as tx:
            goes_on = repricing.unfinished(tx, wanted)
        for page in revision.look(store, wanted, revision.PriceBook(sellers)):
            _add(lines, page)
    return sorted(lines.values(), key=lambda line: (-(line.new_nano or 0), line.model)), goes_on


def _add(lines: dict[str, Line], page: Sequence[Looked]) -> None:
    for one in page:
        name = f"{one.call.provider}/{one.call.model}"
        if name not in lines:
            lines[name] = Line(name)
        lines[name].add(one)


def _columns() -> tuple[Column[Line], ...]:
    return (
        Column("model", lambda line: line.model, "MODEL"),
        Column("calls", lambda line: line.calls, "CALLS", lambda line: f"{line.calls:,}", right=True),
        Column("changed", lambda line: line.changed, "CHANGED", lambda line: f"{line.changed:,}", right=True),
        Column("unpriced_calls", lambda line: line.unpriced),
        _sum("old_cost_usd", "OLD", lambda line: line.old_nano),
        _sum("new_cost_usd", "NEW", lambda line: line.new_nano),
    )


def _sum(name: str, title: str, nano: Callable[[Line], int | None]) -> Column[Line]:
    def exact(line: Line) -> str | None:
        cost_nano = nano(line)
        return None if cost_nano is None else usd_exact(cost_nano)

    return Column(name, exact, title, lambda line: humanize.usd(nano(line)), right=True)


def _unpriced(lines: Sequence[Line]) -> list[str]:
    unpriced = [line for line in lines if line.unpriced]
    if not unpriced:
        return []
    calls, model = sum(line.unpriced for line in unpriced), unpriced[0].model
    return [f"! {humanize.plural(calls, 'call')} without a price: {price_set(model)}"]
