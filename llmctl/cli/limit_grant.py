"""`llmctl limit grant` and `withdraw`: more than a limit says, for a time, and an end to it before that time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from llmctl.domain.errors import DoesNotFit
from llmctl.domain.money import usd_exact

from . import context, humanize
from .ask import DryRun, Yes, confirm
from .errors import UsageMistake
from .filters import booked_name
from .limit_table import on_text
from .limit_words import measured
from .options import LimitId
from .overview import limit_text
from .times import ahead, end_short, rfc3339

if TYPE_CHECKING:
    from llmctl.domain.limit import Limit
    from llmctl.store.database import Tx
    from llmctl.store.grants import Granted

    from .context import App

ForUser = Annotated[str | None, typer.Option("--user", metavar="USER", help="For this one, of each user.")]
ForEndUser = Annotated[str | None, typer.Option("--end-user", metavar="NAME", help="For this one, of each end user.")]


def grant(
    ctx: typer.Context,
    limit_id: LimitId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the audit.")],
    user: ForUser = None,
    end_user: ForEndUser = None,
    cost: Annotated[str | None, typer.Option("--cost", metavar="USD", help="Money: 200 or 200.50.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", metavar="N", help="Input and output: 500k, 2M.")] = None,
    requests: Annotated[str | None, typer.Option("--requests", metavar="N", help="Calls.")] = None,
    concurrency: Annotated[str | None, typer.Option("--concurrency", metavar="N", help="Calls at once.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="SPAN", help="How long: 24h, 7d.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="A date, or a moment.")] = None,
) -> None:
    """Allow more than a limit says, for a time. It ends by itself."""
    from llmctl.store import grants, limits

    run = context.of(ctx)
    measure, amount = measured(cost, tokens, requests, concurrency)
    ends = [text for text in (for_, until) if text is not None]
    if len(ends) != 1:
        raise UsageMistake(
            "how long is not said" if not ends else "--for and --until are both given", hint="write --for 7d"
        )
    with run.writing() as (tx, author):
        limit = limits.get(tx, limit_id, default_zone=run.config.timezone)
        if ends[0] == "never":
            raise UsageMistake("a grant has an end", hint="for good, raise the limit: llmctl limit set")
        until_s = ahead(ends[0], ZoneInfo(limit.zone), run.now_s)
        if limit.measure != measure:
            raise DoesNotFit(f"limit l{limit.id} is on {limit.measure}", hint=f"write --{limit.measure}")
        if user is not None:
            grants.check_applies(tx, limit, user)
        member = _member(tx, limit, user, end_user)
        given = grants.add(tx, author, limit, member=member, amount=amount, until_s=until_s, reason=reason)
    values = {"id": f"l{limit.id}", **grant_values(limit, given)}
    run.out.one(values, f"{grant_text(limit, given, run)}, on l{limit.id}: {limit_text(limit)} on {on_text(limit)}.")


def withdraw(
    ctx: typer.Context,
    limit_id: LimitId,
    user: ForUser = None,
    end_user: ForEndUser = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """End what was granted beyond a limit, now: to everybody, or to one member."""
    from llmctl.store import grants, limits, users

    run = context.of(ctx)
    with run.reading() as tx:
        limit = limits.get(tx, limit_id, default_zone=run.config.timezone)
        member = _member(tx, limit, user, end_user)
        found = grants.listing(tx, limit, run.now_s, member=member)
        if not found and user is not None:
            users.get(tx, user)  # a slip is told as such
    if not found:
        whom = f" to {member}" if member else ""
        run.out.one(_ended(limit, []), f"Nothing is granted{whom} on l{limit.id}: unchanged.")
        return
    what = f"{'; '.join(grant_text(limit, one, run) for one in found)}, on l{limit.id}"
    if dry_run:
        run.out.one(_ended(limit, []), f"Would withdraw {what}.")
        return
    confirm(run, f"Withdraw {what}?", yes=yes)
    with run.writing() as (tx, author):
        found = grants.withdraw(tx, author, limit, member=member)
    run.out.one(_ended(limit, found), f"Withdrew {what}.")


def grant_values(limit: Limit, given: Granted) -> dict[str, object]:
    return {
        "member": given.member or None,
        "amount": usd_exact(given.amount) if limit.measure == "cost" else given.amount,
        "until": rfc3339(given.until_s),
        "reason": given.reason,
    }


def grant_text(limit: Limit, given: Granted, run: App) -> str:
    whom = given.member or "all"
    end = end_short(given.until_s, ZoneInfo(limit.zone), run.now_s)
    return f"{humanize.set_amount(limit.measure, given.amount)} more for {whom} until {end} {limit.zone}"


def _ended(limit: Limit, withdrawn: list[Granted]) -> dict[str, object]:
    return {"id": f"l{limit.id}", "withdrawn": [grant_values(limit, one) for one in withdrawn]}


def _member(tx: Tx, limit: Limit, user: str | None, end_user: str | None) -> str:
    """Whom of a limit on each is meant, as they are called in the ledger; "" = all. Raises DoesNotFit."""
    if user is not None and limit.scope.principal == "user":
        from llmctl.store import grants

        grants.check_applies(tx, limit, user)
        user = None  # it is theirs as a whole
    named = {"user": user, "end_user": end_user and booked_name(end_user)}
    if other := [name for name, text in named.items() if text is not None and name != limit.each]:
        wrong = other[0].replace("_", "-")
        raise DoesNotFit(f"limit l{limit.id} is not on each {wrong}", hint=f"leave out --{wrong}")
    return named.get(limit.each) or ""
