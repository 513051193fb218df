"""`llmctl key`: what users show the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context, secret_output, times
from .command import noun, verb
from .errors import UsageMistake
from .key_reference import named
from .key_table import columns, key_values
from .options import AllowFrom, IfNotExists, NoAllowFrom, Now, Sort, Unused, differs, in_order, networks, unused_since
from .secret_output import KeyFile
from .times import ahead_or_never, duration_s, moment_full, rfc3339

if TYPE_CHECKING:
    from llmctl.store.keys import Key

    from .context import App

app = noun("""
Keys: what users show the gateway. KEY is an id (k_7Q2MX), user/name, a user with one key, or how the secret begins.

A key was leaked? Its secret never goes onto a command line; - reads it from stdin:

  llmctl key show -                       whose is it, from where is it used, what did it do?
  llmctl key rotate k_7Q2MX               a new secret; the old one is dead
  llmctl key rotate k_7Q2MX --grace 7d    both work; show tells who still uses the old one
  llmctl key revoke k_7Q2MX --old         end the grace now
""")

Reference = Annotated[str, typer.Argument(metavar="KEY", help="An id, user/name, a user; - reads a secret from stdin.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What it is for, in your words.")]
Expires = Annotated[str | None, typer.Option("--expires", metavar="WHEN", help="When it ends: 90d, 2026-12-31, never.")]


@verb(app, "create")
def create(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose key it is.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is for: laptop, ci.")] = "default",
    expires: Expires = None,
    note: Note = None,
    acts_for_end_users: Annotated[
        bool, typer.Option("--acts-for-end-users", help="Its calls name the customer whom they are for.")
    ] = False,
    allow_from: AllowFrom = None,
    key_file: KeyFile = None,
    if_not_exists: IfNotExists = False,
) -> None:
    """Create a key and print it, once."""
    from llmctl.store import keys

    run = context.of(ctx)
    expires_at_s = ahead_or_never(expires, run.zone, run.now_s) if expires else None
    allowed = networks(allow_from, False, None)
    if if_not_exists and (there := _there(run, user, name)) is not None:
        wanted = {"expires_at": expires and rfc3339(expires_at_s), "note": note, "allow_from": allowed}
        _unchanged(run, there, {name: value for name, value in wanted.items() if value is not None})
        return
    with secret_output.secret_file(run, key_file) as file:
        with run.writing() as (tx, author):
            new = keys.create(
                tx,
                author,
                user,
                name=name,
                expires_at_s=expires_at_s,
                note=note,
                acts_for_end_users=acts_for_end_users,
                allow_from=allowed,
            )
        if file is not None:
            file.write(f"{new.secret}\n")
    secret_output.show(run, new, before=f"Created key {new.key.label} ({new.key.id})", after="", path=key_file)


def _there(run: App, user: str, name: str) -> Key | None:
    from llmctl.store import keys

    with run.reading() as tx:
        found = (key for key in keys.listing(tx, user=user) if key.revoked_at_s is None)
        return next((key for key in found if key.name.lower() == name.lower()), None)


def _unchanged(run: App, there: Key, wanted: dict[str, str]) -> None:
    values = key_values(there, run.now_s)
    for attribute, value in wanted.items():
        if values[attribute] != value:
            shown = values[attribute] or "none"
            words = {"expires_at": "expires", "allow_from": "works only from"}.get(attribute, f"has {attribute}")
            run.out.prose(f"! {there.label} {words} {shown}, not {value}: it stays so")
    if run.out.format == "table":
        # Prose, not a result: K=$(llmctl key create alice --if-not-exists) must not take it for a key.
        run.out.prose(f"Key {there.label} ({there.id}) exists already: unchanged, no new secret.")
    else:
        run.out.one({"user": there.user, "group": there.group, "key": values | {"secret": None}}, "")


@verb(app, "list")
def list_(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(metavar="USER", help="Only keys of this user.")] = None,
    of_user: Annotated[str | None, typer.Option("--user", metavar="USER", help="The same.")] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Only of users directly in it.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Revoked keys too.")] = False,
    unused: Unused = None,
    sort: Sort = None,
) -> None:
    """List keys. Secrets are not kept, so none is shown: only how each begins."""
    from llmctl.store import groups, keys, sightings

    run = context.of(ctx)
    if user is not None and of_user is not None:
        raise UsageMistake("USER and --user say the same", hint="name one of them")
    since_s = unused_since(unused, run.now_s)
    with run.reading() as tx:
        home = groups.get(tx, group).name if group is not None else None
        last = sightings.last_of_keys(tx)
        found = [
            key
            for key in keys.listing(tx, user=user or of_user)
            if (all_ or key.revoked_at_s is None)
            and (home is None or key.group == home)
            and (since_s is None or max(key.created_at_s, last.get(key.row_id, 0)) < since_s)
        ]
    shown = columns(run, last)
    empty = "No keys." if user or of_user or group or unused else "No keys. Next: llmctl key create USER"
    run.out.rows(shown, in_order(shown, found, sort), empty=empty)


@verb(app, "show")
def show(
    ctx: typer.Context,
    reference: Reference,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="What it did since: 24h, 7d. Default: 7d.")
    ] = None,
) -> None:
    """Show one key: whose it is, what it did, and who uses which of its secrets, from where and when last."""
    from . import key_report

    run = context.of(ctx)
    since_s = times.since(since or "7d", run.zone, run.now_s)
    asked = named(reference)
    with run.reading() as tx:
        key, shown = asked.find(tx, revoked=True)
        report = key_report.read(tx, run, key, since_s)
    key_report.show(run, report, shown)


@verb(app, "set")
def set_(
    ctx: typer.Context,
    reference: Reference,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What it is for: laptop, ci.")] = None,
    expires: Expires = None,
    note: Note = None,
    no_note: Annotated[bool, typer.Option("--no-note", help="Without a note.")] = False,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="SPAN", help="After rotations: all old secrets that work do so for so long."),
    ] = None,
    allow_from: AllowFrom = None,
    no_allow_from: NoAllowFrom = False,
) -> None:
    """Change a key's name, end, note or networks, or the grace of its old secrets. Its id and secret stay."""
    from llmctl.store import keys

    run = context.of(ctx)
    differs("note", note, no_note)
    if not (name or expires or note or no_note or grace or allow_from or no_allow_from):
        flags = "--name, --expires, --note, --no-note, --grace, --allow-from or --no-allow-from"
        raise UsageMistake("nothing to change is given", hint=f"name {flags}")
    ends = (ahead_or_never(expires, run.zone, run.now_s),) if expires else None
    grace_s = duration_s(grace) if grace else 0
    asked = named(reference)
    old: list[str] = []
    with run.writing() as (tx, author):
        before, _ = asked.find(tx)
        keys.change(
            tx,
            author,
            before.id,
            name=name or before.name,
            expires_at_s=ends[0] if ends else before.expires_at_s,
            note=None if no_note else note or before.note,
            allow_from=networks(allow_from, no_allow_from, before.allow_from),
        )
        if grace_s:
            keys.set_grace(tx, author, before.id, grace_s=grace_s)
        key = keys.get(tx, before.id)
        if grace_s:
            old = [one.prefix for one in keys.secrets_of(tx, key) if one.state(run.now_s) == "old"]
    changed = key != before
    text = f"Changed key {key.label} ({key.id})." if changed else f"Key {key.label} ({key.id}) is so: unchanged."
    if grace_s:
        until = moment_full(run.now_s + grace_s, run.zone, run.now_s)
        which = ", ".join(f"{prefix}..." for prefix in old)
        works = f"old secret {which} works" if len(old) == 1 else f"{len(old)} old secrets {which} work"
        text += f" Its {works} until {until}."
    values = key_values(key, run.now_s) | {"changed": changed}
    run.out.one(values | ({"old_secrets": old} if grace_s else {}), text)


@verb(app, "rotate")
def rotate(
    ctx: typer.Context,
    reference: Reference,
    grace: Annotated[
        str | None, typer.Option("--grace", metavar="SPAN", help="How long the old secret works on: 24h. Default: not.")
    ] = None,
    key_file: KeyFile = None,
) -> None:
    """Give a key a new secret, printed once. Its id, limits and access stay."""
    from llmctl.store import keys

    run = context.of(ctx)
    grace_s = duration_s(grace) if grace else 0
    asked = named(reference)
    with secret_output.secret_file(run, key_file) as file:
        with run.writing() as (tx, author):
            key, _ = asked.find(tx)
            new = keys.rotate(tx, author, key.id, grace_s=grace_s)
        if file is not None:
            file.write(f"{new.secret}\n")
    key = new.key
    after = "The old secret is dead."
    if grace_s:
        after = f"{_used_until(run, key, grace_s)}\nLeaked? llmctl key revoke {key.label} --old"
    secret_output.show(run, new, before=f"Rotated {key.label} ({key.id}). New secret", after=after, path=key_file)


@verb(app, "revoke")
def revoke(
    ctx: typer.Context,
    reference: Reference,
    old: Annotated[bool, typer.Option("--old", help="Only the old secret of a rotation; the new one stays.")] = False,
    now: Now = False,
) -> None:
    """End a key for good, from the next request on. Never asks: it is for emergencies."""
    from llmctl.store import cuts, keys

    if old and now:
        raise UsageMistake("--old and --now are both given", hint="--now ends the calls of a key, not of one secret")
    run = context.of(ctx)
    asked = named(reference)
    with run.writing() as (tx, author):
        key, _ = asked.find(tx, revoked=not old)
        changed = (keys.revoke_old if old else keys.revoke)(tx, author, key.id)
        if now:
            cuts.of_key(tx, author, key.id)
    if old:
        text = f"Revoked the old secret of {key.label}; the new one works." if changed else "No old secret: unchanged."
    else:
        text = f"Revoked {key.label} ({key.id})." if changed else f"{key.label} is revoked already: unchanged."
    run.out.one({"key": key.id, "user": key.user, "name": key.name, "old": old, "changed": changed}, text)


def _used_until(run: App, key: Key, grace_s: int) -> str:
    """Who has to change over to the new secret, so far as that is known."""
    from . import key_report

    until = moment_full(run.now_s + grace_s, run.zone, run.now_s)
    with run.reading() as tx:
        users = key_report.old_users(tx, run, key)
    if not users:
        return f"The old secret works until {until}."
    return "\n".join([f"The old secret works until {until}. Used until now by:", *users])
