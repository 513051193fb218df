"""`llmctl user`: people, or apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context, secret_output
from .command import noun, verb
from .options import IfNotExists
from .render import Column
from .secret_output import KeyFile
from .times import ahead, rfc3339

if TYPE_CHECKING:
    from llmctl.store.users import User

    from .context import App

app = noun("Users: people, or apps. Each has keys, and belongs to one group or to none.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]


@verb(app, "add")
def add(
    ctx: typer.Context,
    name: Name,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="The group of the user.")] = None,
    email: Annotated[str | None, typer.Option("--email", metavar="EMAIL", help="For people.")] = None,
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
    expires_at_s = ahead(expires, run.zone, run.now_s) if expires else None
    if if_not_exists and (there := _there(run, name)) is not None:
        _unchanged(run, there, group, email)
        return
    with secret_output.secret_file(None if no_key else key_file) as file:
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
    secret_output.show(run, new, before=before, after=_what_applies(run, user, expires), path=key_file)


@verb(app, "list")
def list_(
    ctx: typer.Context,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Only those directly in it.")] = None,
) -> None:
    """List users."""
    from llmctl.store import users

    run = context.of(ctx)
    with run.reading() as tx:
        found = users.listing(tx, group=group)
    run.out.rows(_columns(), found, empty="No users yet. Next: llmctl user add alice" if not group else "No users.")


@verb(app, "show")
def show(ctx: typer.Context, name: Name) -> None:
    """Show one user: keys, and every limit and model rule that binds them."""
    from llmctl.store import keys, users

    from . import overview
    from .key import key_values

    run = context.of(ctx)
    with run.reading() as tx:
        user = users.get(tx, name)
        owned = [key for key in keys.listing(tx, user=name) if key.revoked_at_s is None]
        limits, rules = overview.limits_of_user(tx, run, name), overview.rules_of_user(tx, name)
    values = _record(user) | {"keys": [key_values(key, run.now_s) for key in owned]}
    values |= {"limits": [limit.values for limit in limits], "models": [rule.values for rule in rules]}
    run.out.result(
        values,
        [
            ("User", f"{user.name}{' (disabled)' if user.disabled else ''}"),
            ("Group", user.group or ""),
            ("Email", user.email or ""),
            ("Keys", ", ".join(f"{key.label} ({key.id})" for key in owned)),
            ("Models", [rule.text for rule in rules] or "all"),
            ("Limits", [limit.text for limit in limits] or "none"),
        ],
    )


@verb(app, "disable")
def disable(ctx: typer.Context, name: Name) -> None:
    """Stop all keys of a user, from the next request on."""
    _set_disabled(context.of(ctx), name, disabled=True)


@verb(app, "enable")
def enable(ctx: typer.Context, name: Name) -> None:
    """Let a disabled user's keys work again."""
    _set_disabled(context.of(ctx), name, disabled=False)


def _set_disabled(run: App, name: str, *, disabled: bool) -> None:
    from llmctl.store import users

    with run.writing() as (tx, author):
        changed = users.set_disabled(tx, author, name, disabled=disabled)
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


def _what_applies(run: App, user: User, expires: str | None) -> str:
    from . import overview

    if run.out.quiet or run.out.format != "table":
        return ""
    with run.reading() as tx:
        limits = overview.limits_of_user(tx, run, user.name)
        rules = overview.rules_of_user(tx, user.name)
    lines = [
        f"Models   {'; '.join(rule.text for rule in rules) or 'all'}",
        f"Limits   {'; '.join(limit.text for limit in limits) or 'none: this key can spend without end'}",
        f"Expires  {expires or 'never'}",
        f"Try      OPENAI_BASE_URL=http://{run.config.server.listen}/v1",
    ]
    return "\n".join(lines)


def _record(user: User) -> dict[str, object]:
    return {column.name: column.value(user) for column in _columns() if column.value is not None}


def _columns() -> tuple[Column[User], ...]:
    return (
        Column("name", lambda u: u.name, "NAME"),
        Column("group", lambda u: u.group, "GROUP"),
        Column("email", lambda u: u.email, "EMAIL", drop=1),
        Column("active_keys", lambda u: u.active_keys, "KEYS", right=True),
        Column("state", None, "STATE", lambda u: "disabled" if u.disabled else "active"),
        Column("disabled", lambda u: u.disabled),
        Column("created_at", lambda u: rfc3339(u.created_at_s)),
    )
