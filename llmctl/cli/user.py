"""`llmctl user`: people, or apps."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from . import context, secret_output
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .errors import UsageMistake
from .humanize import plural
from .options import IfExists, IfNotExists, Now, Sort, Unused, differs, in_order, unused_since
from .secret_output import KeyFile, key_flag_differs
from .times import ahead_or_never
from .user_table import columns, record, state_text, what_applies

if TYPE_CHECKING:
    from llmctl.store.users import User

    from .context import App

app = noun("Users: people, or apps. Each has keys, and belongs to one group or to none.")

Name = Annotated[str, typer.Argument(metavar="USER", help="The user.")]
ToGroup = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="The group of the user.")]
NoGroup = Annotated[bool, typer.Option("--no-group", help="In no group.")]
Email = Annotated[str | None, typer.Option("--email", metavar="EMAIL", help="For people.")]


@verb(app, "add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new user.")],
    group: ToGroup = None,
    email: Email = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="When the key ends: 90d, 2026-12-31, never.")
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Make no key.")] = False,
    key_file: KeyFile = None,
    if_not_exists: IfNotExists = False,
) -> None:
    """Add a user, with a key that is printed once.

    The key goes to stdout alone, so that K=$(llmctl user add alice) works.
    """
    from llmctl.store import keys, users

    run = context.of(ctx)
    key_flag_differs(no_key, key_file, expires)
    expires_at_s = ahead_or_never(expires, run.zone, run.now_s) if expires else None
    if if_not_exists and (there := _there(run, name)) is not None:
        _unchanged(run, there, group, email)
        return
    with nullcontext() if no_key else secret_output.secret_file(run, key_file) as file:
        with run.writing() as (tx, author):
            user = users.add(tx, author, name, group=group, email=email)
            new = None if no_key else keys.create(tx, author, user.name, expires_at_s=expires_at_s)
        if file is not None and new is not None:
            file.write(f"{new.secret}\n")
    added = f"Added {user.name}{f' to {user.group}' if user.group else ''}."
    if new is None:
        run.out.one({"user": user.name, "group": user.group, "key": None}, added)
        return
    key = new.key
    before = f"{added} Key {key.label} ({key.id})"
    secret_output.show(run, new, before=before, after=what_applies(run, user, expires), path=key_file)


@verb(app, "list")
def list_(
    ctx: typer.Context,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Only those directly in it.")] = None,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="Only disabled users, and users of disabled groups.")
    ] = False,
    unused: Unused = None,
    sort: Sort = None,
) -> None:
    """List users."""
    from llmctl.store import sightings, users

    run = context.of(ctx)
    since_s = unused_since(unused, run.now_s)
    with run.reading() as tx:
        last = sightings.last_of_users(tx)
        found = [
            user
            for user in users.listing(tx, group=group)
            if (user.disabled_by or not disabled)
            and (since_s is None or max(user.created_at_s, last.get(user.id, 0)) < since_s)
        ]
    empty = "No users." if group or disabled or unused else "No users yet. Next: llmctl user add alice"
    shown = columns(run, last)
    run.out.rows(shown, in_order(shown, found, sort), empty=empty)


@verb(app, "show")
def show(ctx: typer.Context, name: Name) -> None:
    """Show one user: keys, and every limit and model rule that binds them."""
    from llmctl.store import keys, users

    from . import overview
    from .key_table import key_values

    run = context.of(ctx)
    with run.reading() as tx:
        user = users.get(tx, name)
        owned = [key for key in keys.listing(tx, user=name) if key.revoked_at_s is None]
        limits, rules = overview.limits_of_user(tx, run, name), overview.rules_of_user(tx, name)
    values = record(user) | {"keys": [key_values(key, run.now_s) for key in owned]}
    values |= {"limits": [limit.values for limit in limits], "models": [rule.values for rule in rules]}
    run.out.result(
        values,
        [
            ("User", user.name),
            ("State", state_text(user)),
            ("Group", user.group or ""),
            ("Email", user.email or ""),
            ("Keys", ", ".join(f"{key.label} ({key.id})" for key in owned)),
            ("Models", [rule.text for rule in rules] or "all"),
            ("Limits", [limit.text for limit in limits] or "none"),
        ],
    )


@verb(app, "set")
def set_(
    ctx: typer.Context,
    name: Name,
    group: ToGroup = None,
    no_group: NoGroup = False,
    email: Email = None,
    no_email: Annotated[bool, typer.Option("--no-email", help="Without an address.")] = False,
) -> None:
    """Change a user: group, address. What was spent stays with the group that it was spent in."""
    if not (group or no_group or email or no_email):
        raise UsageMistake("nothing to change is given", hint="name --group, --email, --no-group or --no-email")
    _change(context.of(ctx), name, group=group, no_group=no_group, email=email, no_email=no_email)


@verb(app, "move")
def move(ctx: typer.Context, name: Name, group: ToGroup = None, no_group: NoGroup = False) -> None:
    """Move a user to another group, from the next request on. Keys stay; so does what was spent where it was spent."""
    if not (group or no_group):
        raise UsageMistake("none of --group, --no-group is given", hint="name one of them")
    _change(context.of(ctx), name, group=group, no_group=no_group)


@verb(app, "rename")
def rename(
    ctx: typer.Context, name: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]
) -> None:
    """Rename a user. Keys, limits and history stay."""
    from llmctl.store import users

    run = context.of(ctx)
    with run.writing() as (tx, author):
        before = users.get(tx, name)
        user = users.rename(tx, author, name, new)
    changed = before.name != user.name
    text = f"Renamed user {before.name} to {user.name}." if changed else f"User {user.name} is so: unchanged."
    run.out.one({"user": user.name, "before": before.name, "changed": changed}, text)


@verb(app, "remove")
def remove(
    ctx: typer.Context, name: Name, if_exists: IfExists = False, dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Remove a user and revoke all their keys. What they spent stays in the reports, under their name."""
    from llmctl.store import keys, users

    run = context.of(ctx)
    with run.reading() as tx:
        if if_exists and users.find(tx, name) is None:
            run.out.one({"user": name, "keys": [], "removed": False}, f"There is no user {name}: unchanged.")
            return
        user = users.get(tx, name)
        owned = [key.id for key in keys.listing(tx, user=name) if key.revoked_at_s is None]
    values = {"user": user.name, "keys": owned, "removed": not dry_run}
    keys_too = f" and revoke {plural(len(owned), 'key')}" if owned else ""
    if dry_run:
        run.out.one(values, f"Would remove user {user.name}{keys_too}.")
        return
    confirm(run, f"Remove user {user.name}{keys_too}?", yes=yes)
    with run.writing() as (tx, author):
        users.remove(tx, author, name)
    revoked = f" {plural(len(owned), 'key')} revoked." if owned else ""
    run.out.one(values, f"Removed user {user.name}.{revoked}")


@verb(app, "import")
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A CSV file with a header; - reads stdin.")],
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="The group of users who have none in the file.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="When keys end that have no end in the file: 90d.")
    ] = None,
    create_groups: Annotated[bool, typer.Option("--create-groups", help="Make groups that are not there.")] = False,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", help="Skip users that exist already.")] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="Make no keys.")] = False,
    key_file: Annotated[
        str | None, typer.Option("--key-file", metavar="FILE", help="Write the keys to this new CSV file (0600).")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Add the users of a CSV file, each with a key: all of them, or none.

    Columns: name, and if you like group, email, key (its name), expires, note. The keys go to --key-file.

      name,group,email,expires
      alice,sales,alice@example.org,90d
    """
    from . import user_import

    user_import.run(
        context.of(ctx),
        file,
        group=group,
        expires=expires,
        create_groups=create_groups,
        if_not_exists=if_not_exists,
        with_keys=not no_key,
        key_file=key_file,
        dry_run=dry_run,
    )


@verb(app, "disable")
def disable(ctx: typer.Context, name: Name, now: Now = False) -> None:
    """Stop all keys of a user, from the next request on."""
    _set_disabled(context.of(ctx), name, disabled=True, now=now)


@verb(app, "enable")
def enable(ctx: typer.Context, name: Name) -> None:
    """Let a disabled user's keys work again."""
    _set_disabled(context.of(ctx), name, disabled=False)


def _change(
    run: App, name: str, *, group: str | None, no_group: bool, email: str | None = None, no_email: bool = False
) -> None:
    from llmctl.store import users

    differs("group", group, no_group)
    differs("email", email, no_email)
    with run.writing() as (tx, author):
        before = users.get(tx, name)
        user = users.change(
            tx,
            author,
            name,
            group=None if no_group else group or before.group,
            email=None if no_email else email or before.email,
        )
    changes = [
        f"{what} {old or 'none'} -> {new or 'none'}"
        for what, old, new in (("group", before.group, user.group), ("email", before.email, user.email))
        if old != new
    ]
    text = f"Changed user {user.name}: {', '.join(changes)}." if changes else f"User {user.name} is so: unchanged."
    run.out.one(record(user) | {"changed": bool(changes)}, text)


def _set_disabled(run: App, name: str, *, disabled: bool, now: bool = False) -> None:
    from llmctl.store import cuts, users

    with run.writing() as (tx, author):
        changed = users.set_disabled(tx, author, name, disabled=disabled)
        if now:
            cuts.of_user(tx, author, name)
        user = users.get(tx, name)
    word = "disabled" if disabled else "enabled"
    text = f"User {user.name} is {word}." if changed else f"User {user.name} is {word} already: unchanged."
    run.out.one({"user": user.name, "disabled": disabled, "changed": changed}, text)


def _there(run: App, name: str) -> User | None:
    from llmctl.store import users

    with run.reading() as tx:
        return users.find(tx, name)


def _unchanged(run: App, there: User, group: str | None, email: str | None) -> None:
    for attribute, wanted, found in (("group", group, there.group), ("email", email, there.email)):
        if wanted is not None and wanted != found:
            run.out.prose(f"! {there.name} has {attribute} {found or 'none'}, not {wanted}: it stays so")
    values = {"user": there.name, "group": there.group, "key": None}
    if run.out.format == "table":
        # Prose, not a result: K=$(llmctl user add alice --if-not-exists) must not take it for a key.
        run.out.prose(f"User {there.name} exists already: unchanged, no new key.")
    else:
        run.out.one(values, "")
