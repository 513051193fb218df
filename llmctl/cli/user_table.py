"""How users look: in a list, as JSON, and what applies to a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import render
from .humanize import ago, works_text
from .render import Column
from .times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmctl.store.users import User

    from .context import App


def what_applies(run: App, user: User, expires: str | None) -> str:
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
        f"Try      OPENAI_BASE_URL={run.urls[0]}/v1",
    ]
    return "\n".join(lines)


def state_text(user: User) -> str:
    return works_text(user.disabled, user.disabled_by)


def record(user: User) -> dict[str, object]:
    return render.record(_columns(), user)


def columns(run: App, last: Mapping[int, int]) -> tuple[Column[User], ...]:
    """`last`: when each was last seen."""
    return (
        *_columns(),
        Column(
            "last_used_at",
            lambda u: rfc3339(last.get(u.id)),
            "LAST USED",
            lambda u: ago(run.now_s - last[u.id]) if u.id in last else "never",
            drop=2,
        ),
    )


def _columns() -> tuple[Column[User], ...]:
    return (
        Column("name", lambda u: u.name, "NAME"),
        Column("group", lambda u: u.group, "GROUP"),
        Column("email", lambda u: u.email, "EMAIL", drop=1),
        Column("active_keys", lambda u: u.active_keys, "KEYS", right=True),
        Column("state", lambda u: "disabled" if u.disabled_by else "active", "STATE", state_text),
        Column("disabled", lambda u: u.disabled),
        Column("disabled_by", lambda u: u.disabled_by),
        Column("created_at", lambda u: rfc3339(u.created_at_s)),
    )
