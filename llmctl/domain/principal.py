"""Who calls: a key, its user, their group and all groups above it. What limits and usage are booked to."""

from __future__ import annotations

from dataclasses import dataclass

from .access import ModelRule
from .limit import Limit


@dataclass(frozen=True, slots=True)
class Caller:
    """Everything that a call's admission depends on, as of `settings_version`. Frozen: a change makes a new one."""

    settings_version: int
    key_id: int
    key_public_id: str
    key_name: str
    user_id: int
    user_name: str
    group_name: str  # "" = directly in the organisation
    lineage: tuple[int, ...]  # group ids from the root to the user's group
    zone: str  # IANA name, of the group or inherited
    expires_at_s: int | None  # the key's or this secret's end, whichever is first
    acts_for_end_users: bool
    keeps_content: bool  # a group wants prompts and answers kept
    allowed_from: tuple[str, ...]  # one entry a level that has such a list: groups, key; empty: from anywhere
    limits: tuple[Limit, ...]
    rules: tuple[tuple[ModelRule, ...], ...]  # one entry a level that has rules: org, groups, user, key
