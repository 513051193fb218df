"""What applies to somebody, for `show` and after `add`: models and limits, each as a line and as JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmctl.domain.limit import Limit, Standing
from llmctl.domain.money import usd_exact

from . import humanize
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.domain.scope import Scope
    from llmctl.store.database import Tx

    from .context import App


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an overview, as text and as values."""

    text: str
    values: dict[str, object]


def limit_lines(tx: Tx, run: App, scope: Scope) -> list[Line]:
    """The limits set on exactly this principal."""
    from llmctl.store import limits

    return [_line(tx, run, limit) for limit in limits.listing(tx, scope=scope, default_zone=run.config.timezone)]


def limits_of_user(tx: Tx, run: App, user: str) -> list[Line]:
    """Every limit that binds a user, wherever it is set; and those of their own on each end user that they call for."""
    from llmctl.store import limits, scopes, standings

    who = scopes.of_user(tx, user)
    lines = []
    for limit in limits.binding(tx, who, default_zone=run.config.timezone):
        if limit.each == "end_user":
            if limit.scope.principal == "user":
                lines.append(_line(tx, run, limit))
            continue
        standing = standings.of_member(tx, limit, who.id, run.now_s)
        own = limit.scope.principal == "user" or limit.each == "user"
        on = "own" if own else limit.on_name
        lines.append(Line(f"{limit_text(limit, standing.extra)}, {on}{_left(standing)}", limit_values(standing)))
    return lines


def _line(tx: Tx, run: App, limit: Limit) -> Line:
    from llmctl.store import standings

    standing = standings.now(tx, limit, run.now_s).standing
    each = f" for each {limit.each.replace('_', '-')}" if limit.each else ""
    text = f"{limit_text(limit)}{each}" if each else f"{limit_text(limit, standing.extra)}{_left(standing)}"
    return Line(text, limit_values(standing))


def rule_lines(tx: Tx, scope: Scope) -> list[Line]:
    """The model rules set on exactly this principal."""
    from llmctl.store import model_rules

    return [
        Line(f"{rule.effect} {rule.pattern}", {"effect": rule.effect, "pattern": rule.pattern})
        for rule in model_rules.listing(tx, scope=scope)
    ]


def rules_of_user(tx: Tx, user: str) -> list[Line]:
    """Every model rule that binds a user, wherever it is set."""
    from llmctl.store import model_rules, scopes

    levels = model_rules.binding(tx, scopes.of_user(tx, user))
    return [
        Line(
            f"{rule.effect} {rule.pattern}{'' if rule.level.startswith('user ') else f' ({rule.level})'}",
            {"effect": rule.effect, "pattern": rule.pattern, "on": rule.level},
        )
        for rules in levels
        for rule in rules
    ]


def limit_text(limit: Limit, granted: int = 0) -> str:
    soft = ", soft" if limit.soft else ""
    models = f" on {limit.model_pattern}" if limit.model_pattern else ""
    return f"{humanize.limit_text(limit.measure, limit.amount, limit.window, granted)}{models}{soft}"


def limit_values(standing: Standing, member: str = "") -> dict[str, object]:
    """A limit and how it stands, as JSON: money as text with nine decimals, all else as integers."""
    limit = standing.limit

    def exact(number: int) -> str | int:
        return usd_exact(number) if limit.measure == "cost" else number

    return {
        "id": f"l{limit.id}",
        **on_values(limit),
        "measure": limit.measure,
        "amount": exact(limit.amount),
        "granted": exact(standing.extra),
        "window": None if limit.measure == "concurrency" else limit.window,
        "models": limit.model_pattern or None,
        "soft": limit.soft,
        "timezone": limit.zone,
        "member": member or None,
        "spent": exact(standing.settled),
        "held": exact(standing.held),
        "left": exact(standing.left),
        "resets_at": rfc3339(standing.window_end_s),
    }


def on_values(limit: Limit) -> dict[str, str | None]:
    """Whom a limit is on."""
    return {"on": limit.scope.principal, "name": limit.scope.name or None, "each": limit.each or None}


def _left(standing: Standing) -> str:
    if standing.settled == 0 and standing.held == 0:
        return ""
    return f" ({humanize.amount(standing.limit.measure, max(0, standing.left))} left)"
