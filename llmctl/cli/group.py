"""`llmctl group`: departments, or tiers of customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context
from .command import noun, verb
from .options import IfNotExists
from .render import Column
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.store.groups import Group

app = noun("Groups: departments, or tiers of customers. They nest; users belong to one, or to none.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The group.")]


@verb(app, "add")
def add(
    ctx: typer.Context,
    name: Name,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="GROUP", help="The group that it belongs to.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="TZ", help="Where its days begin: Europe/Berlin. Default: the parent's."),
    ] = None,
    if_not_exists: IfNotExists = False,
) -> None:
    """Add a group."""
    from llmctl.store import groups

    run = context.of(ctx)
    with run.writing() as (tx, author):
        there = groups.find(tx, name) if if_not_exists else None
        group = there or groups.add(tx, author, name, parent=parent, timezone=timezone)
    if there is None:
        below = f" below {group.parent}" if group.parent else ""
        run.out.one(_record(group), f"Added group {group.name}{below}.")
        return
    for attribute, wanted, found in (("parent", parent, there.parent), ("timezone", timezone, there.timezone)):
        if wanted is not None and wanted != found:
            run.out.prose(f"! {there.name} has {attribute} {found or 'none'}, not {wanted}: it stays so")
    run.out.one(_record(there), f"Group {there.name} exists already: unchanged.")


@verb(app, "list")
def list_(ctx: typer.Context) -> None:
    """List all groups."""
    from llmctl.store import groups

    run = context.of(ctx)
    with run.reading() as tx:
        found = groups.listing(tx)
    run.out.rows(_columns(), found, empty="No groups yet. Next: llmctl group add sales")


@verb(app, "show")
def show(ctx: typer.Context, name: Name) -> None:
    """Show one group: its users, limits and models."""
    from llmctl.store import groups, scopes, users

    from .overview import limit_lines, rule_lines

    run = context.of(ctx)
    with run.reading() as tx:
        group = groups.get(tx, name)
        zone = groups.zone(tx, group.id, run.config.timezone)
        members = [user.name for user in users.listing(tx, group=name)]
        below = [other.name for other in groups.listing(tx) if other.parent == group.name]
        scope = scopes.of_group(tx, name)
        limits, rules = limit_lines(tx, run, scope), rule_lines(tx, scope)
    values = _record(group) | {"effective_timezone": zone, "groups": below, "members": members}
    values |= {"limits": [limit.values for limit in limits], "models": [rule.values for rule in rules]}
    run.out.result(
        values,
        [
            ("Group", f"{group.name}{' (disabled)' if group.disabled else ''}"),
            ("Parent", group.parent or ""),
            ("Time zone", zone if group.timezone else f"{zone} (inherited)"),
            ("Subgroups", ", ".join(below)),
            ("Users", _some(members)),
            ("Models", [rule.text for rule in rules] or "all"),
            ("Limits", [limit.text for limit in limits] or "none of its own"),
        ],
    )


def _record(group: Group) -> dict[str, object]:
    return {column.name: column.value(group) for column in _columns() if column.value is not None}


def _columns() -> tuple[Column[Group], ...]:
    return (
        Column("name", lambda g: g.name, "NAME"),
        Column("parent", lambda g: g.parent, "PARENT"),
        Column("timezone", lambda g: g.timezone, "TIME ZONE", lambda g: g.timezone or "-", drop=1),
        Column("users", lambda g: g.users, "USERS", right=True),
        Column("state", None, "STATE", lambda g: "disabled" if g.disabled else "active"),
        Column("disabled", lambda g: g.disabled),
        Column("created_at", lambda g: rfc3339(g.created_at_s)),
    )


def _some(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
