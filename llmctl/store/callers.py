"""Secret -> Caller: everything that a call's admission depends on, in one read."""

from __future__ import annotations

import sqlite3

from llmctl.domain.errors import Refused
from llmctl.domain.principal import Caller

from . import groups, limits, model_rules
from .secrets import hash_of, well_formed

_SELECT = """
    SELECT k.id, k.public_id, k.name, k.acts_for_end_users, k.allow_from, k.expires_at, s.expires_at,
           k.revoked_at IS NOT NULL, u.id, u.name, u.disabled_at IS NOT NULL OR u.removed_at IS NOT NULL, u.group_id
    FROM secrets s JOIN keys k ON k.id = s.key_id JOIN users u ON u.id = k.user_id
    WHERE s.hash = ?
"""
_GROUPS = """
    SELECT name, timezone, allow_from, disabled_at IS NOT NULL, keeps_content_since IS NOT NULL FROM groups WHERE id = ?
"""


def settings_version(reader: sqlite3.Connection) -> int:
    (version,) = reader.execute("SELECT settings_version FROM settings").fetchone()
    assert isinstance(version, int)
    return version


def load(reader: sqlite3.Connection, secret: str, *, now_s: int) -> Caller:
    """The caller behind a secret. Raises Refused("invalid_api_key") with what its holder may know of why."""
    if not well_formed(secret):
        raise _invalid("this is not a key of this gateway", "check it for typing errors")
    version = settings_version(reader)
    row = reader.execute(_SELECT, (hash_of(secret),)).fetchone()
    if row is None:
        raise _invalid("this key is unknown here", "it may have been rotated or revoked: ask your admin for a new one")
    key_id, public_id, key_name, acts, allow_from, key_ends, secret_ends, revoked = row[:8]
    user_id, user_name, user_off, group_id = row[8:]
    ends = min((end for end in (key_ends, secret_ends) if end is not None), default=None)
    if revoked:
        raise _invalid(f"key {public_id} is revoked", "ask your admin for a new one")
    if user_off:
        raise _invalid(f"the user of key {public_id} is disabled", "ask your admin")
    if secret_ends is not None and secret_ends <= now_s:
        raise _invalid(f"this secret of key {public_id} was replaced", "use the new one, or ask your admin")
    check_expiry(public_id, ends, now_s)
    lineage = groups.lineage(reader, group_id)
    default_zone = limits.default_zone(reader)
    group_name, zone, allowed_from, keeps_content = "", default_zone, [allow_from], False
    for one_id in lineage:
        group_name, own_zone, allow_from, disabled, keeps = reader.execute(_GROUPS, (one_id,)).fetchone()
        keeps_content = keeps_content or bool(keeps)
        zone = own_zone or zone
        allowed_from.append(allow_from)
        if disabled:
            raise _invalid(f"the group of key {public_id} is disabled", "ask your admin")
    return Caller(
        settings_version=version,
        key_id=key_id,
        key_public_id=public_id,
        key_name=key_name,
        user_id=user_id,
        user_name=user_name,
        group_name=group_name,
        lineage=lineage,
        zone=zone,
        expires_at_s=ends,
        acts_for_end_users=bool(acts),
        keeps_content=keeps_content,
        allowed_from=tuple(kept for kept in allowed_from if kept),
        limits=limits.applying(
            reader,
            lineage=lineage,
            user_id=user_id,
            key_id=key_id,
            default_zone=default_zone,
            granted_from_s=now_s - limits.GRANTS_KEPT_S,
        ),
        rules=model_rules.applying(reader, lineage=lineage, user_id=user_id, key_id=key_id),
    )


def check_expiry(public_id: str, expires_at_s: int | None, now_s: int) -> None:
    if expires_at_s is not None and expires_at_s <= now_s:
        raise _invalid(f"key {public_id} has expired", "ask your admin for a new one")


def _invalid(message: str, hint: str) -> Refused:
    return Refused("invalid_api_key", message, hint=hint)
