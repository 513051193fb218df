"""`llmctl group`: departments, or tiers of customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .errors import UsageMistake
from .humanize import plural, some, works_text
from .options import AllowFrom, IfExists, IfNotExists, NoAllowFrom, Now, Sort, containing, differs, in_order, networks
from .render import Column, record
from .times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmctl.store.groups import Group

    from .context import App

app = noun("Groups: departments, or tiers of customers. They nest; users belong to one, or to none.")

Name = Annotated[str, typer.Argument(metavar="GROUP", help="The group.")]
Parent = Annotated[str | None, typer.Option("--parent", metavar="GROUP", help="The group that it belongs to.")]
TimeZone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="TZ", help="Where its days begin: Europe/Berlin. Default: the parent's."),
]


@verb(app, "add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new group.")],
    parent: Parent = None,
    timezone: TimeZone = None,
    allow_from: AllowFrom = None,
    if_not_exists: IfNotExists = False,
) -> None:
    """Add a group."""
    from llmctl.store import groups

    run = context.of(ctx)
    allowed = networks(allow_from, False, None)
    with run.writing() as (tx, author):
        there = groups.find(tx, name) if if_not_exists else None
        group = there or groups.add(tx, author, name, parent=parent, timezone=timezone, allow_from=allowed)
    if there is None:
        below = f" below {group.parent}" if group.parent else ""
        run.out.one(_record(group), f"Added group {group.name}{below}.")
        return
    for attribute, wanted, found in (
        ("parent", parent, there.parent),
        ("timezone", timezone, there.timezone),
        ("allow-from", allowed, there.allow_from),
    ):
        if wanted is not None and wanted != found:
            run.out.prose(f"! {there.name} has {attribute} {found or 'none'}, not {wanted}: it stays so")
    run.out.one(_record(there), f"Group {there.name} exists already: unchanged.")


@verb(app, "list")
def list_(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Only groups whose name contains it.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", metavar="GROUP", help="Only groups directly in it.")] = None,
    sort: Sort = None,
) -> None:
    """List all groups."""
    from llmctl.store import groups

    run = context.of(ctx)
    with run.reading() as tx:
        above = groups.get(tx, parent).name if parent is not None else None
        found = [group for group in groups.listing(tx) if above is None or group.parent == above]
    found = containing(text, lambda group: [group.name], found)
    empty = "No groups." if text or parent else "No groups yet. Next: llmctl group add sales"
    run.out.rows(columns(), in_order(columns(), found, sort), empty=empty)


@verb(app, "show")
def show(ctx: typer.Context, name: Name) -> None:
    """Show one group: its users, limits and models, and whether prompts and answers are kept."""
    from llmctl.store import groups, scopes, users

    from .overview import limit_lines, rule_lines

    run = context.of(ctx)
    with run.reading() as tx:
        group = groups.get(tx, name)
        zone = groups.zone(tx, group.id, run.config.timezone)
        members = [user.name for user in users.listing(tx, group=name)]
        known = {other.name: other for other in groups.listing(tx)}
        below = [other.name for other in known.values() if other.parent == group.name]
        scope = scopes.of_group(tx, name)
        limits, rules = limit_lines(tx, run, scope), rule_lines(tx, scope)
    keeper = _keeper(group, known)
    kept = f"kept for {plural(run.config.content.keep_days, 'day')}" if keeper else "not kept"
    values = _record(group) | {"keeps_content": group.keeps_content}
    values |= {"keeps_content_by": f"group {keeper}" if keeper else None}
    values |= {"effective_timezone": zone, "groups": below, "members": members}
    values |= {"limits": [limit.values for limit in limits], "models": [rule.values for rule in rules]}
    run.out.result(
        values,
        [
            ("Group", group.name),
            ("State", _state(group)),
            ("Parent", group.parent or ""),
            ("Time zone", zone if group.timezone else f"{zone} (inherited)"),
            ("Only from", group.allow_from or ""),
            ("Contents", kept if keeper in (None, group.name) else f"{kept} (group {keeper})"),
            ("Subgroups", ", ".join(below)),
            ("Users", some(members)),
            ("Models", [rule.text for rule in rules] or "all"),
            ("Limits", [limit.text for limit in limits] or "none of its own"),
        ],
    )


@verb(app, "set")
def set_(
    ctx: typer.Context,
    name: Name,
    parent: Parent = None,
    no_parent: Annotated[bool, typer.Option("--no-parent", help="Below no group.")] = False,
    timezone: TimeZone = None,
    no_timezone: Annotated[bool, typer.Option("--no-timezone", help="In the time zone that it inherits.")] = False,
    allow_from: AllowFrom = None,
    no_allow_from: NoAllowFrom = False,
) -> None:
    """Change a group: what it belongs to, where its days begin, from where its keys and those below may be used.

    What was spent stays with the groups that it was spent in; limits count by the new time zone at once.
    """
    from llmctl.store import groups

    run = context.of(ctx)
    differs("parent", parent, no_parent)
    differs("timezone", timezone, no_timezone)
    if not (parent or no_parent or timezone or no_timezone or allow_from or no_allow_from):
        flags = "--parent, --timezone, --allow-from, --no-parent, --no-timezone or --no-allow-from"
        raise UsageMistake("nothing to change is given", hint=f"name {flags}")
    with run.writing() as (tx, author):
        before = groups.get(tx, name)
        group = groups.change(
            tx,
            author,
            name,
            parent=None if no_parent else parent or before.parent,
            timezone=None if no_timezone else timezone or before.timezone,
            allow_from=networks(allow_from, no_allow_from, before.allow_from),
        )
    changes = [
        f"{what} {old or none} -> {new or none}"
        for what, old, new, none in (
            ("parent", before.parent, group.parent, "none"),
            ("time zone", before.timezone, group.timezone, "inherited"),
            ("only from", before.allow_from, group.allow_from, "anywhere"),
        )
        if old != new
    ]
    text = f"Changed group {group.name}: {', '.join(changes)}." if changes else f"Group {group.name} is so: unchanged."
    run.out.one(_record(group) | {"changed": bool(changes)}, text)


@verb(app, "rename")
def rename(
    ctx: typer.Context, name: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]
) -> None:
    """Rename a group. Its users, limits and history stay."""
    from llmctl.store import groups

    run = context.of(ctx)
    with run.writing() as (tx, author):
        before = groups.get(tx, name)
        group = groups.rename(tx, author, name, new)
    changed = before.name != group.name
    text = f"Renamed group {before.name} to {group.name}." if changed else f"Group {group.name} is so: unchanged."
    run.out.one({"group": group.name, "before": before.name, "changed": changed}, text)


@verb(app, "disable")
def disable(ctx: typer.Context, name: Name, now: Now = False) -> None:
    """Stop all keys of a group and of the groups below it, from the next request on."""
    _set_disabled(context.of(ctx), name, disabled=True, now=now)


@verb(app, "enable")
def enable(ctx: typer.Context, name: Name) -> None:
    """Let a disabled group's keys work again."""
    _set_disabled(context.of(ctx), name, disabled=False)


@verb(app, "remove")
def remove(
    ctx: typer.Context,
    name: Name,
    move_to: Annotated[
        str | None, typer.Option("--move-to", metavar="GROUP", help="Where its users and groups go.")
    ] = None,
    if_exists: IfExists = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove a group. With members only if they go elsewhere. What was spent stays in the reports, under its name."""
    from llmctl.store import groups, limits, scopes

    run = context.of(ctx)
    with run.reading() as tx:
        found = groups.find(tx, name)
        if found is None and if_exists:
            run.out.one({"group": name, "removed": False}, f"There is no group {name}: unchanged.")
            return
        group = groups.get(tx, name)
        target = None
        if move_to is not None:
            target = groups.get(tx, move_to).name
            groups.possible_parent(tx, group, target)  # before anybody is asked, or told that it could be done
        users, below = groups.members(tx, name)
        held = len(limits.listing(tx, scope=scopes.of_group(tx, name), default_zone=run.config.timezone))
    values = {"group": group.name, "users": users, "groups": below, "moved_to": target, "removed": not dry_run}
    lost = f" Its {plural(held, 'limit')} will bind nobody." if held else ""
    goes = f" Moves {_members(users, below)} to {target}." if target and (users or below) else ""
    if dry_run:
        if (users or below) and target is None:
            goes = f" But it has {_members(users, below)}: that needs --move-to GROUP."
        run.out.one(values, f"Would remove group {group.name}.{goes}{lost}")
        return
    if target is not None or not (users or below):
        confirm(run, f"Remove group {group.name}?{goes}{lost}", yes=yes)
    with run.writing() as (tx, author):
        groups.remove(tx, author, name, move_to=target)
    run.out.one(values, f"Removed group {group.name}.{goes}")


def _members(users: list[str], below: list[str]) -> str:
    parts = [plural(len(names), noun) for names, noun in ((users, "user"), (below, "group")) if names]
    return " and ".join(parts)


def _set_disabled(run: App, name: str, *, disabled: bool, now: bool = False) -> None:
    from llmctl.store import cuts, groups

    with run.writing() as (tx, author):
        changed = groups.set_disabled(tx, author, name, disabled=disabled)
        if now:
            cuts.of_group(tx, author, name)
        group = groups.get(tx, name)
    word = "disabled" if disabled else "enabled"
    text = f"Group {group.name} is {word}." if changed else f"Group {group.name} is {word} already: unchanged."
    run.out.one({"group": group.name, "disabled": disabled, "changed": changed}, text)


def _record(group: Group) -> dict[str, object]:
    return record(columns(), group)


def _state(group: Group) -> str:
    return works_text(group.disabled, _disabled_by(group))


def _disabled_by(group: Group) -> str | None:
    return f"group {group.disabled_by}" if group.disabled_by else None


def _keeper(group: Group, known: Mapping[str, Group]) -> str | None:
    """Who keeps the prompts and answers of its calls: itself, or the nearest above it that does."""
    one: Group | None = group
    while one is not None and not one.keeps_content:
        one = known.get(one.parent or "")
    return one.name if one is not None else None


def columns() -> tuple[Column[Group], ...]:
    return (
        Column("name", lambda g: g.name, "NAME"),
        Column("parent", lambda g: g.parent, "PARENT"),
        Column("timezone", lambda g: g.timezone, "TIME ZONE", lambda g: g.timezone or "-", drop=1),
        Column("users", lambda g: g.users, "USERS", right=True),
        Column("state", None, "STATE", _state),
        Column("disabled", lambda g: g.disabled),
        Column("disabled_by", _disabled_by),
        Column("allow_from", lambda g: g.allow_from),
        Column("created_at", lambda g: rfc3339(g.created_at_s)),
    )
