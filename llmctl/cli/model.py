"""`llmctl model`: who may use which models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import context
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .options import OnGroup, OnKey, OnUser, Org, Sort, check_one_scope, in_order, scope
from .render import Column
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.store.model_rules import Effect, Rule
    from llmctl.store.scopes import Scope

app = noun("""
Who may use which models. Every level must agree: organisation, groups, user, key. Deny beats allow; no rule means all.

A PATTERN (gpt-5*, openai/*) is for the model that a call is routed to, whatever alias it was asked by.
""")

Pattern = Annotated[str, typer.Argument(metavar="PATTERN", help="A model, or a pattern such as gpt-5* or openai/*.")]


@verb(app, "list")
def list_(
    ctx: typer.Context,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
    sort: Sort = None,
) -> None:
    """List the rules; with a scope, those set on exactly it."""
    from llmctl.store import model_rules

    run = context.of(ctx)
    with run.reading() as tx:
        where = scope(tx, org=org, group=group, user=user, key=key)
        found = model_rules.listing(tx, scope=where)
    run.out.rows(
        _columns(),
        in_order(_columns(), found, sort),
        empty="No rules: every key may use every model. Next: llmctl model allow 'gpt-5*'",
    )


@verb(app, "allow")
def allow(
    ctx: typer.Context,
    pattern: Pattern,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
) -> None:
    """Allow a model or pattern, and with it only what is allowed. No scope: the organisation."""
    _put(ctx, "allow", pattern, org=org, group=group, user=user, key=key)


@verb(app, "deny")
def deny(
    ctx: typer.Context,
    pattern: Pattern,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
) -> None:
    """Deny a model or pattern. No scope: the organisation."""
    _put(ctx, "deny", pattern, org=org, group=group, user=user, key=key)


@verb(app, "reset")
def reset(
    ctx: typer.Context,
    pattern: Pattern,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Take the rule for a pattern away again. No scope: the organisation."""
    from llmctl.store import model_rules, scopes

    run = context.of(ctx)
    check_one_scope(org=org, group=group, user=user, key=key)
    with run.reading() as tx:
        where = scope(tx, org=org, group=group, user=user, key=key) or scopes.ORGANISATION
        rule = next((one for one in model_rules.listing(tx, scope=where) if one.pattern == pattern), None)
    if rule is None:
        text = f"There is no rule for {pattern} on {where.label}: unchanged."
        run.out.one(_values(where, None, pattern, changed=False), text)
        return
    what = f"the rule on {where.label}: {rule.effect} {pattern}"
    if dry_run:
        run.out.one(_values(where, rule.effect, pattern, changed=False), f"Would remove {what}.")
        return
    confirm(run, f"Remove {what}?", yes=yes)
    with run.writing() as (tx, author):
        changed = model_rules.reset(tx, author, where, pattern)
    run.out.one(_values(where, None, pattern, changed=changed), f"Removed {what}.")


def _put(
    ctx: typer.Context, effect: Effect, pattern: str, *, org: bool, group: str | None, user: str | None, key: str | None
) -> None:
    from llmctl.store import model_rules, scopes

    run = context.of(ctx)
    check_one_scope(org=org, group=group, user=user, key=key)
    with run.writing() as (tx, author):
        where = scope(tx, org=org, group=group, user=user, key=key) or scopes.ORGANISATION
        changed = model_rules.put(tx, author, where, effect, pattern)
    word = "allowed" if effect == "allow" else "denied"
    text = f"{pattern} is {word} for {where.label}."
    if not changed:
        text = f"{pattern} is {word} for {where.label} already: unchanged."
    run.out.one(_values(where, effect, pattern, changed=changed), text)


def _values(where: Scope, effect: Effect | None, pattern: str, *, changed: bool) -> dict[str, object]:
    name = where.name or None
    return {"on": where.principal, "name": name, "effect": effect, "pattern": pattern, "changed": changed}


def _columns() -> tuple[Column[Rule], ...]:
    return (
        Column("on", lambda r: _principal(r.on), "ON", lambda r: r.on),
        Column("name", lambda r: r.on.partition(" ")[2] or None),
        Column("effect", lambda r: r.effect, "RULE", fixed=True),
        Column("pattern", lambda r: r.pattern, "MODELS"),
        Column("created_at", lambda r: rfc3339(r.created_at_s)),
    )


def _principal(label: str) -> str:
    return "org" if label == "organisation" else label.partition(" ")[0]
