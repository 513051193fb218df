"""What the database has to know of a gateway's configuration: written as it starts and reloads, where it changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from llmctl.domain.limit import Limit

from . import balances, deployments, facts, limits, sliding
from .database import Store
from .deployments import Deployments
from .sql import run


def keep(database: Path, wanted: Mapping[str, Mapping[str, str]], now_s: int) -> None:
    """`wanted`: of each configured provider, its deployments (by `named`) with the models that they are. What others
    have stays: their calls go on to count as they did. Raises StoreError."""
    of_providers = {
        provider: {(provider, name): model for name, model in those.items()} for provider, those in wanted.items()
    }
    with closing(Store(database, readonly=True)) as store, store.read() as tx:
        if not _differ(tx, of_providers):
            return
    with closing(Store(database)) as store, store.write() as tx:
        if _differ(tx, of_providers):  # another worker may have been faster
            _change(tx, of_providers, now_s)


def _differ(tx: sqlite3.Connection, of_providers: Mapping[str, Deployments]) -> bool:
    there = {key: model for key, model in deployments.load(tx).items() if key[0] in of_providers}
    return there != {key: model for those in of_providers.values() for key, model in those.items()}


def _change(tx: sqlite3.Connection, of_providers: Mapping[str, Deployments], now_s: int) -> None:
    """With the balances of limits that count other calls by that. Who serves goes by it from the next call on."""
    on_models = [limit for limit in limits.listing(tx, default_zone=limits.default_zone(tx)) if limit.model_pattern]
    before = _covered(tx, on_models)
    deployments.write(tx, of_providers)
    after = _covered(tx, on_models)
    for limit in on_models:
        if before[limit.model_pattern] != after[limit.model_pattern]:
            balances.forget_limit(tx, limit)
            if limit.window == "minute":
                sliding.fill_slots(tx, limit, now_s - balances.PAST_S["minute"])
    tx.execute("UPDATE settings SET settings_version = settings_version + 1")


def _covered(tx: sqlite3.Connection, on_models: list[Limit]) -> dict[str, list[int]]:
    return {pattern: run(tx, facts.covered_ids(pattern)) for pattern in {one.model_pattern for one in on_models}}
