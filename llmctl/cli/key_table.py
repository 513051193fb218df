"""How keys look, in a list and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .humanize import ago
from .render import Column
from .times import end_short, heading, moment_short, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from llmctl.store.keys import Key

    from .context import App


def state(key: Key, now_s: int) -> str:
    if key.revoked_at_s is not None:
        return "revoked"
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        return "expired"
    return "disabled" if key.disabled_by else "active"


def state_text(key: Key, now_s: int) -> str:
    """`disabled (group sales)`: what to enable, so that it works."""
    found = state(key, now_s)
    return f"{found} ({key.disabled_by})" if found == "disabled" else found


def key_values(key: Key, now_s: int) -> dict[str, object]:
    return {
        "id": key.id,
        "user": key.user,
        "name": key.name,
        "group": key.group,
        "prefix": key.prefix,
        "state": state(key, now_s),
        "disabled_by": key.disabled_by,
        "created_at": rfc3339(key.created_at_s),
        "expires_at": rfc3339(key.expires_at_s),
        "revoked_at": rfc3339(key.revoked_at_s),
        "old_secret_until": rfc3339(old_until_s(key, now_s)),
        "note": key.note,
        "allow_from": key.allow_from,
    }


def columns(run: App, last: Mapping[int, int]) -> tuple[Column[Key], ...]:
    now_s, zone = run.now_s, run.zone
    return (
        Column("id", lambda k: k.id, "ID", fixed=True),
        Column("user", lambda k: k.user, "USER"),
        Column("name", lambda k: k.name, "NAME"),
        Column("group", lambda k: k.group, "GROUP", drop=2),
        Column("prefix", lambda k: k.prefix, "BEGINS WITH", lambda k: f"{k.prefix}...", drop=3),
        Column("state", lambda k: state(k, now_s), "STATE", lambda k: state_text(k, now_s), fixed=True),
        Column(
            "expires_at",
            lambda k: rfc3339(k.expires_at_s),
            heading("EXPIRES", zone),
            lambda k: end_short(k.expires_at_s, zone, now_s),
        ),
        Column(
            "last_used_at",
            lambda k: rfc3339(last.get(k.row_id)),
            "LAST USED",
            lambda k: ago(now_s - last[k.row_id]) if k.row_id in last else "never",
            drop=1,
        ),
        Column(
            "old",
            None,
            "OLD SECRET UNTIL",
            lambda k: _old_until(k, zone, now_s),
            drop=4,
        ),
        Column("disabled_by", lambda k: k.disabled_by),
        Column("created_at", lambda k: rfc3339(k.created_at_s)),
        Column("revoked_at", lambda k: rfc3339(k.revoked_at_s)),
        Column("old_secret_until", lambda k: rfc3339(old_until_s(k, now_s))),
        Column("note", lambda k: k.note, "NOTE", drop=5),
        Column("allow_from", lambda k: k.allow_from),
    )


def old_until_s(key: Key, now_s: int) -> int | None:
    """When the grace of a rotation ends; None if no old secret works."""
    until_s = key.old_secret_until_s
    return None if until_s is None or until_s <= now_s else until_s


def _old_until(key: Key, zone: ZoneInfo, now_s: int) -> str:
    until_s = old_until_s(key, now_s)
    return "-" if until_s is None else moment_short(until_s, zone, now_s)
