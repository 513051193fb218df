"""`llmctl model`: who may use which models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import aliases, context, humanize
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .options import OnGroup, OnKey, OnUser, Org, Sort, check_one_scope, in_order, scope
from .render import Column
from .times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.domain.access import Effect, ModelRule
    from llmctl.domain.scope import Scope
    from llmctl.store.database import Tx
    from llmctl.store.model_rules import Rule

app = noun("""
Who may use which models. Every level must agree: organisation, groups, user, key. Deny beats allow; no rule means all.

A PATTERN (gpt-5*, openai/*) is for the model that a call is routed to, whatever alias it was asked by;
an alias in its place stands for the model behind it. A model that is denied is so by a reseller's name, in any
geography and as a deployment that the configuration says is that model (openrouter/openai/gpt-5:nitro,
us.meta.llama4, azure/my-gpt5); one is allowed by its own name alone.
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
        empty = "No rules: every key may use every model. Next: llmctl model allow 'gpt-5*'"
        if where is not None and where.principal != "org" and not found:
            above = _above(tx, where)
            empty = f"No rules on {where.label}{f' itself; {above}' if above else ', nor above it'}."
    run.out.rows(columns(), in_order(columns(), found, sort), empty=empty)


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
    from llmctl.domain.scope import ORGANISATION
    from llmctl.store import model_rules

    run = context.of(ctx)
    check_one_scope(org=org, group=group, user=user, key=key)
    with run.reading() as tx:
        where = scope(tx, org=org, group=group, user=user, key=key) or ORGANISATION
        rules = {one.pattern: one for one in model_rules.listing(tx, scope=where)}
    model = aliases.behind(run, pattern)
    rule = rules.get(model) or rules.get(pattern)  # by its own name: from before there was such an alias
    if rule is None:
        text = f"{aliases.told(run, pattern)}There is no rule for {model} on {where.label}: unchanged."
        run.out.one(_values(where, None, model, changed=False), text)
        return
    told = aliases.told(run, pattern) if rule.pattern == model else ""
    what = f"the rule on {where.label}: {rule.effect} {rule.pattern}"
    if dry_run:
        run.out.one(_values(where, rule.effect, rule.pattern, changed=False), f"{told}Would remove {what}.")
        return
    confirm(run, f"{told}Remove {what}?", yes=yes)
    with run.writing() as (tx, author):
        changed = model_rules.reset(tx, author, where, rule.pattern)
        usable, above = _usable(model_rules.listing(tx, scope=where)), _above(tx, where)
    text = f"{told}Removed {what}; {_whom(where)} may now use {usable}{above and f', where all agree: {above}'}."
    run.out.one(_values(where, None, rule.pattern, changed=changed), text)


def _put(
    ctx: typer.Context, effect: Effect, pattern: str, *, org: bool, group: str | None, user: str | None, key: str | None
) -> None:
    from llmctl.domain.scope import ORGANISATION
    from llmctl.store import model_rules

    run = context.of(ctx)
    check_one_scope(org=org, group=group, user=user, key=key)
    told, pattern = aliases.told(run, pattern), aliases.behind(run, pattern)
    with run.writing() as (tx, author):
        where = scope(tx, org=org, group=group, user=user, key=key) or ORGANISATION
        before = next((rule for rule in model_rules.listing(tx, scope=where) if rule.pattern == pattern), None)
        changed = model_rules.put(tx, author, where, effect, pattern)
        rules, above = model_rules.listing(tx, scope=where), _above(tx, where)
    word = "allowed" if effect == "allow" else "denied"
    text = f"{pattern} is {word} for {where.label} already: unchanged."
    if changed:
        lifted = f" The rule to {before.effect} {pattern} is lifted." if before else ""
        usable = f"{_usable(rules)}{above and f', where all agree: {above}'}"
        text = f"{word.capitalize()} {pattern}; {_whom(where)} may now use {usable}.{lifted}"
    values = _values(where, effect, pattern, changed=changed)
    run.out.one(values | {"replaced": before.effect if before and changed else None}, f"{told}{text}")


def _whom(where: Scope) -> str:
    return "the organisation" if where.principal == "org" else where.label


def _above(tx: Tx, where: Scope) -> str:
    """`group sales may use only: gpt-5*`: by the rules of each level above; empty if there are none."""
    from llmctl.store import model_rules

    levels = [rules for rules in model_rules.binding(tx, where) if rules[0].level != where.label]
    return "; ".join(f"{rules[0].level} may use {_usable(rules)}" for rules in levels)


def _usable(rules: Sequence[Rule | ModelRule]) -> str:
    """`only: gpt-5*, o4`, `all models but: o4`: what is left by the rules of one level."""
    allowed, denied = ([rule.pattern for rule in rules if rule.effect == effect] for effect in ("allow", "deny"))
    if not allowed:
        return f"all models but: {humanize.some(denied)}" if denied else "all models"
    return f"only: {humanize.some(allowed)}{f'; and not: {humanize.some(denied)}' if denied else ''}"


def _values(where: Scope, effect: Effect | None, pattern: str, *, changed: bool) -> dict[str, object]:
    name = where.name or None
    return {"on": where.principal, "name": name, "effect": effect, "pattern": pattern, "changed": changed}


def columns() -> tuple[Column[Rule], ...]:
    return (
        Column("on", lambda r: r.scope.principal, "ON", lambda r: r.scope.label),
        Column("name", lambda r: r.scope.name or None),
        Column("effect", lambda r: r.effect, "RULE", fixed=True),
        Column("pattern", lambda r: r.pattern, "MODELS"),
        Column("created_at", lambda r: rfc3339(r.created_at_s)),
    )
