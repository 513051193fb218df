"""`llmctl limit`: on cost, tokens, requests and calls at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from . import aliases, context, humanize, limit_grant, limit_trial
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .limit_grant import grant_text, grant_values
from .limit_table import amount_text, columns, member_columns, nearest_note, on_text, spent_text
from .limit_words import each_of, measured, window_of
from .options import IfExists, LimitId, OnGroup, OnKey, OnUser, Org, Sort, check_one_scope, in_order, scope
from .overview import limit_text, limit_values
from .times import end_short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.domain.limit import Limit
    from llmctl.domain.scope import Scope

    from .context import App

app = noun("""
Limits on cost, tokens, requests and calls at once. All limits that apply to a call must have room for it.

  llmctl limit set --org --cost 200 --per month
  llmctl limit set --group sales --each user --cost 20 --per day --model 'gpt-5*'
  llmctl limit set --user alice --concurrency 4
  llmctl limit grant l3 --user alice --cost 30 --for 7d --reason "launch week"
""")


@verb(app, "set")
def set_(
    ctx: typer.Context,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
    each: Annotated[
        str | None,
        typer.Option("--each", metavar="MEMBER", help="user or end-user: as much for each, not for all."),
    ] = None,
    cost: Annotated[str | None, typer.Option("--cost", metavar="USD", help="Money: 200 or 200.50.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", metavar="N", help="Input and output: 500k, 2M.")] = None,
    requests: Annotated[str | None, typer.Option("--requests", metavar="N", help="Calls.")] = None,
    concurrency: Annotated[str | None, typer.Option("--concurrency", metavar="N", help="Calls at once.")] = None,
    per: Annotated[
        str | None, typer.Option("--per", metavar="WINDOW", help="minute, hour, day, week, month, total.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="PATTERN", help="Only calls of these models count, by whatever name, and are stopped."
        ),
    ] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Only tell, refuse nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell which of the calls since last month it would have refused.")
    ] = False,
) -> None:
    """Set a limit, or change the one that is there. What is spent already counts."""
    from llmctl.store import limits

    run = context.of(ctx)
    check_one_scope(org=org, group=group, user=user, key=key, needed=True)
    measure, amount = measured(cost, tokens, requests, concurrency)
    window = window_of(measure, per)
    member = each_of(each, on_many=org or group is not None)
    told, pattern = aliases.told(run, model or ""), aliases.behind(run, model or "")
    if dry_run:
        with run.reading() as tx:
            where = scope(tx, org=org, group=group, user=user, key=key)
            assert where is not None
            wanted = limits.imagined(
                tx,
                where,
                measure=measure,
                window=window,
                amount=amount,
                each=member,
                model_pattern=pattern,
                soft=soft,
                default_zone=run.config.timezone,
            )
            limit_trial.show(run, tx, wanted, told=told)
        return
    with run.writing() as (tx, author):
        where = scope(tx, org=org, group=group, user=user, key=key)
        assert where is not None
        done = limits.put(
            tx,
            author,
            where,
            measure=measure,
            window=window,
            amount=amount,
            each=member,
            model_pattern=pattern,
            soft=soft,
            default_zone=run.config.timezone,
        )
        binds = member != "end_user" or limits.reaches_end_users(tx, where, author.at_s)
    _print_set(run, done.limit, done.before, told=told)
    if not binds:
        run.out.prose(_no_end_users(where))


@verb(app, "list")
def list_(
    ctx: typer.Context,
    org: Org = False,
    group: OnGroup = None,
    user: OnUser = None,
    key: OnKey = None,
    sort: Sort = None,
) -> None:
    """List limits and how they stand; with a scope, those set on exactly it."""
    from llmctl.store import limits, standings

    run = context.of(ctx)
    with run.reading() as tx:
        where = scope(tx, org=org, group=group, user=user, key=key)
        found = [
            standings.now(tx, limit, run.now_s)
            for limit in limits.listing(tx, scope=where, default_zone=run.config.timezone)
        ]
        empty = "No limits: any key can spend without end. Next: llmctl limit set -h"
        if where is not None and where.principal != "org" and not found:
            empty = _from_above(where, limits.binding(tx, where, default_zone=run.config.timezone))
    shown = columns(run, found)
    is_marked = run.out.keeps(shown, found, "resets")
    notes = [nearest_note(row, is_marked=is_marked) for row in found if row.member]
    run.out.rows(shown, in_order(shown, found, sort), notes=notes, empty=empty)


@verb(app, "show")
def show(ctx: typer.Context, limit_id: LimitId) -> None:
    """Show one limit and how it stands; one on each user: for every user who has called, on each end user: for those
    who have least left."""
    from llmctl.store import grants, limits, standings

    run = context.of(ctx)
    with run.reading() as tx:
        limit = limits.get(tx, limit_id, default_zone=run.config.timezone)
        nearest = standings.now(tx, limit, run.now_s)
        members = standings.members(tx, limit, run.now_s)
        granted = grants.listing(tx, limit, run.now_s)
    values = limit_values(nearest.standing, nearest.member)
    values["grants"] = [grant_values(limit, one) for one in granted]
    values["members"] = [limit_values(one.standing, one.member) for one in members]
    more = nearest.members - len(members)
    values["members_more"] = more
    amount = limit_text(limit, 0 if limit.each else nearest.standing.extra)
    fields = [("Limit", f"l{limit.id} on {on_text(limit)}"), ("Amount", amount)]
    if not limit.each:
        fields += [("Spent", spent_text(nearest)), ("Held", amount_text(nearest, nearest.standing.held))]
        fields += [("Left", amount_text(nearest, nearest.standing.left))]
    ends = end_short(nearest.standing.window_end_s, ZoneInfo(limit.zone), run.now_s)
    if nearest.standing.window_end_s is not None:
        ends += f" {limit.zone}"
    fields.append(("Resets", "slides" if limit.window == "minute" else ends))
    fields += [("Granted", f"{grant_text(limit, one, run)}: {one.reason}") for one in granted]
    run.out.result(values, fields)
    if members and run.out.format == "table":
        run.out.line("")
        run.out.rows(
            member_columns(limit.each, granted=any(one.standing.extra for one in members)),
            members,
            notes=[f"{more:,} more have more left"] if more else [],
        )


verb(app, "grant")(limit_grant.grant)
verb(app, "withdraw")(limit_grant.withdraw)


@verb(app, "remove")
def remove(
    ctx: typer.Context, limit_id: LimitId, if_exists: IfExists = False, dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Remove a limit."""
    from llmctl.store import limits

    run = context.of(ctx)
    with run.reading() as tx:
        known = [f"l{limit.id}" for limit in limits.listing(tx, default_zone=run.config.timezone)]
        if if_exists and limit_id not in known:
            run.out.one({"id": limit_id, "removed": False}, f"There is no limit {limit_id}: unchanged.")
            return
        limit = limits.get(tx, limit_id, default_zone=run.config.timezone)
    what = f"l{limit.id}: {limit_text(limit)} on {on_text(limit)}"
    if dry_run:
        run.out.one({"id": f"l{limit.id}", "removed": False}, f"Would remove {what}.")
        return
    confirm(run, f"Remove {what}?", yes=yes)
    with run.writing() as (tx, author):
        limits.remove(tx, author, limit_id, default_zone=run.config.timezone)
    run.out.one({"id": f"l{limit.id}", "removed": True}, f"Removed {what}.")


def _from_above(where: Scope, binding: Sequence[Limit]) -> str:
    if not binding:
        return f"No limits on {where.label}, nor above it: nothing stops its spend. Next: llmctl limit set -h"
    ids = humanize.some([f"l{limit.id} on {on_text(limit)}" for limit in binding])
    return f"No limits on {where.label} itself; from above it: {ids}."


def _no_end_users(where: Scope) -> str:
    """Why a limit on each end user holds nobody yet, and what to do."""
    if where.principal == "key":
        who, user = f"{where.label} does not act", where.name.partition("/")[0]
    else:
        on = "the organisation" if where.principal == "org" else where.label
        who, user = f"no key of {on} acts", where.name if where.principal == "user" else "USER"
    how = "Set it on one made by" if where.principal == "key" else "Next"
    make = f"llmctl key create {user} --name app --acts-for-end-users"
    return f"! This limit binds nobody: {who} for end users. {how}: {make}"


def _print_set(run: App, limit: Limit, before: Limit | None, *, told: str) -> None:
    from llmctl.store import standings

    with run.reading() as tx:
        nearest = standings.now(tx, limit, run.now_s)
    name, text = f"l{limit.id} on {on_text(limit)}", limit_text(limit)
    values = limit_values(nearest.standing, nearest.member)
    values["before"] = None if before is None else limit_values(standings.empty(before))["amount"]
    values["changed"] = changed = before is None or (before.amount, before.soft) != (limit.amount, limit.soft)
    if before is None:
        run.out.one(values, f"{told}Set {name}: {text}.")
    elif not changed:
        run.out.one(values, f"{told}Limit {name} is {text} already: unchanged.")
    else:
        run.out.one(values, f"{told}Changed {name}: {limit_text(before)} -> {text}.")
