"""Which calls somebody asks for, of roll-ups or of single calls."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from . import facts, labels
from .sql import as_json, run


class Filters(NamedTuple):
    """All of these together. Times are unix seconds."""

    since_s: int = 0
    until_s: int = facts.FAR_S  # exclusive
    group_id: int | None = None  # with all groups below it, as the tree was when the calls started
    user_id: int | None = None
    key_id: int | None = None
    model: str = ""  # a pattern on `provider/model` or the bare model
    provider: str = ""
    end_user: str = ""
    tag: str = ""  # among a call's


def conditions(tx: sqlite3.Connection, filters: Filters) -> tuple[str, dict[str, object]]:
    """SQL and its parameters, on roll-ups or calls that are named `r`: all filters but the times."""
    found = ["true"]
    parameters: dict[str, object] = {}
    if filters.group_id is not None:
        found.append("r.lineage_id IN (SELECT lineage_id FROM lineage_groups WHERE group_id = :group_id)")
        parameters["group_id"] = filters.group_id
    if filters.user_id is not None:
        found.append("r.user_id = :user_id")
        parameters["user_id"] = filters.user_id
    if filters.key_id is not None:
        found.append("r.key_id = :key_id")
        parameters["key_id"] = filters.key_id
    if filters.provider:
        found.append("r.model_id IN (SELECT id FROM models WHERE provider = :provider)")
        parameters["provider"] = filters.provider
    if filters.model:
        found.append("r.model_id IN (SELECT value FROM json_each(:models))")
        parameters["models"] = as_json(run(tx, facts.model_ids(filters.model)))
    if filters.tag:
        found.append("r.tags_id IN (SELECT value FROM json_each(:tags))")
        parameters["tags"] = as_json(labels.with_tag(tx, filters.tag))
    if filters.end_user:
        found.append("r.end_user_id = :end_user_id AND r.end_user_id <> 0")
        parameters["end_user_id"] = labels.of_end_user(tx, filters.end_user)
    return " AND ".join(found), parameters
