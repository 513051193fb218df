"""`llmctl audit`: who changed what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.money import parse_usd

from . import context, humanize, times
from .command import single
from .options import Newest, Sort, in_order, whole_number
from .render import Column

if TYPE_CHECKING:
    from llmctl.store.audit import Entry

    from .context import App

app, command = single("audit")

NOTHING: tuple[object, ...] = (None, "", [])
MOMENTS = ("before", "since", "until")  # of prune, usage reprice and limit grant; others end in _at
SAYS_ITSELF = ("id", "limit", "amount", "effect")


@command
def audit(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="Only changes with it in who, action, subject or values."),
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", metavar="TEXT", help="Only by this person.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", help="Only this action: key rotate.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="Only of this: alice, l3.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on: 7d, 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until then, exclusive.")] = None,
    sort: Sort = None,
    limit: Newest = "50",
) -> None:
    """List who changed what, and when; the newest first. Changes stay listed when what they changed is gone."""
    from llmctl.store import audit as store

    run = context.of(ctx)
    filters = store.AuditFilters(
        text=text or "",
        actor=actor or "",
        action=action or "",
        subject=subject or "",
        since_s=times.since(since, run.zone, run.now_s) if since else 0,
        until_s=times.moment(until, run.zone, run.now_s) if until else 1 << 50,
    )
    empty = "Nothing was changed." if filters == store.AuditFilters() else "No change matches."
    with run.reading() as tx:
        found = store.listing(tx, filters, entries_max=whole_number(limit, "-n", least=1))
    run.out.rows(columns(run), in_order(columns(run), found, sort), empty=empty)


def columns(run: App) -> tuple[Column[Entry], ...]:
    return (
        Column("id", lambda e: e.id),
        times.moment_column("at", "WHEN", lambda e: e.at_s, run.zone, run.now_s, fixed=True),
        Column("actor", lambda e: e.actor, "WHO"),
        Column("action", lambda e: e.action, "ACTION", fixed=True),
        Column("subject", lambda e: e.subject, "SUBJECT"),
        Column("change", None, "CHANGE", _change),
        Column("before", lambda e: _values(e.before)),
        Column("after", lambda e: _values(e.after)),
    )


def _change(entry: Entry) -> str:
    """`$200.00/month -> $300.00/month`, `group sales -> engineering`: what differs."""
    before, after = _legible(entry.before or {}), _legible(entry.after or {})
    parts = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old == new or (old in NOTHING and new in NOTHING) or (name not in before and new is False):
            continue
        shown = [_text(name, value) for facts, value in ((before, old), (after, new)) if name in facts]
        label = "" if name in SAYS_ITSELF else f"{name.removesuffix('_at').replace('_', ' ')} "
        parts.append(label + " -> ".join(shown))
    return ", ".join(parts)


def _legible(facts: dict[str, object]) -> dict[str, object]:
    """A limit as one text, as everywhere else; a grace as a span."""
    found = dict(facts)
    if "measure" in found and "window" in found:
        measure, window, amount = (found.pop(name) for name in ("measure", "window", "amount"))
        number = parse_usd(str(amount)) if measure == "cost" else int(str(amount))
        found.pop("each", None)  # the subject says so
        found = {"limit": humanize.limit_text(str(measure), number, str(window)), **found}
    elif "measure" in found:
        measure, amount = found.pop("measure"), found.pop("amount")
        number = parse_usd(str(amount)) if measure == "cost" else int(str(amount))
        unit = {"cost": "", "concurrency": " at once"}.get(str(measure), f" {measure}")
        found = {"amount": f"{humanize.set_amount(str(measure), number)}{unit}", **found}
    if isinstance(grace_s := found.pop("grace_s", None), int):
        found["grace"] = humanize.span(grace_s) if grace_s else "none"
    return found


def _text(name: str, value: object) -> str:
    if value in NOTHING:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(_exact(name, value))


def _values(facts: dict[str, object] | None) -> dict[str, object] | None:
    return None if facts is None else {name: _exact(name, value) for name, value in facts.items()}


def _exact(name: str, value: object) -> object:
    """Moments as everywhere in JSON."""
    if isinstance(value, int) and (name.endswith("_at") or name in MOMENTS):
        return times.rfc3339(value)
    return value
