"""The organisation read as a whole, and brought step by step to what it shall be."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from llmctl.domain.access import Effect
from llmctl.domain.limit import Limit
from llmctl.domain.organisation import ORG, Change, GrantSpec, LimitSpec, Member, Organisation, Place, organisation
from llmctl.domain.scope import ORGANISATION, Scope

from . import grants, groups, keys, limits, model_rules, scopes, users
from .audit import Author


def read(tx: sqlite3.Connection, *, default_zone: str, now_s: int) -> Organisation:
    """Groups, users and active keys, with the rules and limits on each and on the organisation. No secrets."""
    everybody = [
        Member(*ORG),
        *(
            Member(
                "group",
                one.name,
                {
                    "parent": one.parent,
                    "timezone": one.timezone,
                    "allow_from": one.allow_from,
                    "keeps_content": one.keeps_content,
                    "disabled": one.disabled,
                },
            )
            for one in groups.listing(tx)
        ),
        *(
            Member("user", one.name, {"group": one.group, "email": one.email, "disabled": one.disabled})
            for one in users.listing(tx)
        ),
        *(Member("key", one.label) for one in keys.listing(tx) if one.revoked_at_s is None),
    ]
    rules: dict[Place, dict[str, Effect]] = {}
    for rule in model_rules.listing(tx):
        rules.setdefault(_place(rule.scope), {})[rule.pattern] = rule.effect
    found: dict[Place, dict[tuple[str, ...], LimitSpec]] = {}
    for limit in limits.listing(tx, default_zone=default_zone):
        spec = LimitSpec(limit.measure, limit.amount, limit.window, limit.each, limit.model_pattern, limit.soft)
        spec = replace(spec, grants=_grants(tx, limit, now_s))
        found.setdefault(_place(limit.scope), {})[spec.identity] = spec
    return organisation(
        Member(one.kind, one.name, one.attributes, rules.get(one.place, {}), found.get(one.place, {}))
        for one in everybody
    )


def _grants(tx: sqlite3.Connection, limit: Limit, now_s: int) -> frozenset[GrantSpec]:
    """Those in force."""
    return frozenset(
        GrantSpec(one.member, one.amount, one.until_s, one.reason) for one in grants.listing(tx, limit, now_s)
    )


def perform(tx: sqlite3.Connection, author: Author, changes: Sequence[Change], *, default_zone: str) -> None:
    """Does all steps of a plan. Raises BadInput, NotFound for what cannot be: then nothing of the plan holds."""
    for change in changes:
        if change.noun == "group":
            _group(tx, author, change)
        elif change.noun == "user":
            _user(tx, author, change)
        elif change.noun == "model":
            _model(tx, author, change)
        else:
            _limit(tx, author, change, default_zone)


def _group(tx: sqlite3.Connection, author: Author, change: Change) -> None:
    name, after = change.member.name, change.after
    if after is None:
        groups.remove(tx, author, name)
        return
    assert isinstance(after, dict)
    parent, timezone, allow_from = after["parent"], after["timezone"], after["allow_from"]
    if change.before is None:
        groups.add(tx, author, name, parent=parent, timezone=timezone, allow_from=allow_from)
    else:
        groups.change(tx, author, name, parent=parent, timezone=timezone, allow_from=allow_from)
    groups.set_keeps_content(tx, author, name, kept=after["keeps_content"])
    groups.set_disabled(tx, author, name, disabled=after["disabled"])


def _user(tx: sqlite3.Connection, author: Author, change: Change) -> None:
    name, after = change.member.name, change.after
    if after is None:
        users.remove(tx, author, name)
        return
    assert isinstance(after, dict)
    if change.before is None:
        users.add(tx, author, name, group=after["group"], email=after["email"])
    else:
        users.change(tx, author, name, group=after["group"], email=after["email"])
    users.set_disabled(tx, author, name, disabled=after["disabled"])


def _model(tx: sqlite3.Connection, author: Author, change: Change) -> None:
    scope = _scope(tx, change.member)
    if isinstance(change.after, tuple):
        pattern, effect = change.after
        model_rules.put(tx, author, scope, effect, pattern)
    else:
        assert isinstance(change.before, tuple)
        model_rules.reset(tx, author, scope, change.before[0])


def _limit(tx: sqlite3.Connection, author: Author, change: Change, default_zone: str) -> None:
    scope = _scope(tx, change.member)
    spec = change.after
    if isinstance(spec, LimitSpec):
        done = limits.put(
            tx,
            author,
            scope,
            measure=spec.measure,
            window=spec.window,
            amount=spec.amount,
            each=spec.each,
            model_pattern=spec.models,
            soft=spec.soft,
            default_zone=default_zone,
        )
        there = _grants(tx, done.limit, author.at_s)
        for one in sorted(spec.grants - there, key=lambda grant: (grant.until_s, grant.member)):
            grants.add(
                tx, author, done.limit, member=one.member, amount=one.amount, until_s=one.until_s, reason=one.reason
            )
        return
    gone = change.before
    assert isinstance(gone, LimitSpec)
    for limit in limits.listing(tx, scope=scope, default_zone=default_zone):
        if (limit.each, limit.measure, limit.window, limit.model_pattern) == gone.identity:
            limits.remove(tx, author, f"l{limit.id}", default_zone=default_zone)


def _scope(tx: sqlite3.Connection, member: Member) -> Scope:
    if member.kind == "org":
        return ORGANISATION
    return {"group": scopes.of_group, "user": scopes.of_user, "key": scopes.of_key}[member.kind](tx, member.name)


def _place(scope: Scope) -> Place:
    return scope.principal, scope.name.lower()
