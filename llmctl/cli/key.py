"""`llmctl key`: what users show the gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import context, secret_output
from .command import noun, verb
from .errors import UsageMistake
from .render import Column
from .secret_output import KeyFile
from .times import ahead, duration_s, end_short, moment_short, rfc3339

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from llmctl.store.keys import Key

    from .context import App

app = noun("Keys: what users show the gateway. KEY is an id (k_7Q2MX), user/name, or a user with one key.")

Reference = Annotated[str, typer.Argument(metavar="KEY", help="An id, user/name, or a user with one active key.")]
Expires = Annotated[str | None, typer.Option("--expires", metavar="WHEN", help="When it ends: 90d, 2026-12-31, never.")]
SECRET_CHARS_MAX = 4096


@verb(app, "create")
def create(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose key it is.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is for: laptop, ci.")] = "default",
    expires: Expires = None,
    acts_for_end_users: Annotated[
        bool, typer.Option("--acts-for-end-users", help="Its calls name the customer whom they are for.")
    ] = False,
    key_file: KeyFile = None,
) -> None:
    """Create a key and print it, once."""
    from llmctl.store import keys

    run = context.of(ctx)
    expires_at_s = ahead(expires, run.zone, run.now_s) if expires else None
    with secret_output.secret_file(key_file) as file:
        with run.writing() as (tx, author):
            new = keys.create(
                tx, author, user, name=name, expires_at_s=expires_at_s, acts_for_end_users=acts_for_end_users
            )
        if file is not None:
            file.write(f"{new.secret}\n")
    secret_output.show(run, new, before=f"Created key {new.key.label} ({new.key.id})", after="", path=key_file)


@verb(app, "list")
def list_(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(metavar="USER", help="Only keys of this user.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Revoked keys too.")] = False,
) -> None:
    """List keys. Secrets are not kept, so none is shown: only how each begins."""
    from llmctl.store import keys

    run = context.of(ctx)
    with run.reading() as tx:
        found = [key for key in keys.listing(tx, user=user) if all_ or key.revoked_at_s is None]
    run.out.rows(_columns(run), found, empty="No keys. Next: llmctl key create USER")


@verb(app, "show")
def show(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="KEY", help="Also -: reads a secret from stdin.")],
) -> None:
    """Show one key. With - it reads a found secret from stdin and tells whose it is."""
    from llmctl.store import keys

    run = context.of(ctx)
    secret = _secret_from_stdin() if reference == "-" else ""
    with run.reading() as tx:
        key = keys.of_secret(tx, secret) if secret else keys.get(tx, reference, revoked=True)
    until = key.old_secret_until_s
    fields = [
        ("Key", f"{key.label} ({key.id})"),
        ("State", state(key, run.now_s)),
        ("Group", key.group or ""),
        ("Begins with", key.prefix),
        ("Created", moment_short(key.created_at_s, run.zone, run.now_s)),
        ("Expires", end_short(key.expires_at_s, run.zone, run.now_s)),
    ]
    if key.revoked_at_s is not None:
        fields.append(("Revoked", moment_short(key.revoked_at_s, run.zone, run.now_s)))
    if until is not None and until > run.now_s:
        fields.append(("Old secret", f"works until {moment_short(until, run.zone, run.now_s)} {run.zone.key}"))
    run.out.result(key_values(key, run.now_s), fields)


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
    with secret_output.secret_file(key_file) as file:
        with run.writing() as (tx, author):
            new = keys.rotate(tx, author, reference, grace_s=grace_s)
        if file is not None:
            file.write(f"{new.secret}\n")
    key = new.key
    after = "The old secret is dead."
    if grace_s:
        until = moment_short(run.now_s + grace_s, run.zone, run.now_s)
        after = f"The old secret works until {until} {run.zone.key}.\nLeaked? llmctl key revoke {key.label} --old"
    secret_output.show(run, new, before=f"Rotated {key.label} ({key.id}). New secret", after=after, path=key_file)


@verb(app, "revoke")
def revoke(
    ctx: typer.Context,
    reference: Reference,
    old: Annotated[bool, typer.Option("--old", help="Only the old secret of a rotation; the new one stays.")] = False,
) -> None:
    """End a key for good, from the next request on. Never asks: it is for emergencies."""
    from llmctl.store import keys

    run = context.of(ctx)
    with run.writing() as (tx, author):
        key = keys.get(tx, reference, revoked=not old)
        changed = (keys.revoke_old if old else keys.revoke)(tx, author, reference)
    if old:
        text = f"Revoked the old secret of {key.label}; the new one works." if changed else "No old secret: unchanged."
    else:
        text = f"Revoked {key.label} ({key.id})." if changed else f"{key.label} is revoked already: unchanged."
    run.out.one({"key": key.id, "user": key.user, "name": key.name, "old": old, "changed": changed}, text)


def state(key: Key, now_s: int) -> str:
    if key.revoked_at_s is not None:
        return "revoked"
    return "expired" if key.expires_at_s is not None and key.expires_at_s <= now_s else "active"


def key_values(key: Key, now_s: int) -> dict[str, object]:
    return {
        "id": key.id,
        "user": key.user,
        "name": key.name,
        "group": key.group,
        "prefix": key.prefix,
        "state": state(key, now_s),
        "created_at": rfc3339(key.created_at_s),
        "expires_at": rfc3339(key.expires_at_s),
        "revoked_at": rfc3339(key.revoked_at_s),
        "old_secret_until": rfc3339(key.old_secret_until_s),
    }


def _secret_from_stdin() -> str:
    secret = sys.stdin.readline(SECRET_CHARS_MAX).strip()
    if not secret:
        raise UsageMistake("no secret on stdin", hint="llmctl key show - < FILE, or type it and press Enter")
    return secret


def _columns(run: App) -> tuple[Column[Key], ...]:
    now_s, zone = run.now_s, run.zone
    return (
        Column("id", lambda k: k.id, "ID", fixed=True),
        Column("user", lambda k: k.user, "USER"),
        Column("name", lambda k: k.name, "NAME"),
        Column("group", lambda k: k.group, "GROUP", drop=2),
        Column("prefix", lambda k: k.prefix, "BEGINS WITH", lambda k: f"{k.prefix}...", drop=3),
        Column("state", lambda k: state(k, now_s), "STATE", fixed=True),
        Column(
            "expires_at", lambda k: rfc3339(k.expires_at_s), "EXPIRES", lambda k: end_short(k.expires_at_s, zone, now_s)
        ),
        Column(
            "old",
            None,
            "OLD SECRET UNTIL",
            lambda k: _old_until(k, zone, now_s),
            drop=4,
        ),
        Column("created_at", lambda k: rfc3339(k.created_at_s)),
        Column("revoked_at", lambda k: rfc3339(k.revoked_at_s)),
        Column("old_secret_until", lambda k: rfc3339(k.old_secret_until_s)),
    )


def _old_until(key: Key, zone: ZoneInfo, now_s: int) -> str:
    until_s = key.old_secret_until_s
    return "-" if until_s is None or until_s <= now_s else moment_short(until_s, zone, now_s)
