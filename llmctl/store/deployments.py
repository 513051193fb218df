"""Which models deployments are, as the gateway that started or reloaded last has it in its configuration.

Calls are kept by the upstream model's name, and limits on the model that it is count them too. So that a hold, its
settle, a balance made anew and the check of the books all count alike, they go by what is kept here, whatever the
configuration of who asks says by now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from llmctl.domain.deployment import named

from .sql import Reading, run

Deployments = Mapping[tuple[str, str], str]  # provider, name (see `named`) -> the model that it is
NONE: Deployments = {}


def kept() -> Reading[Deployments]:
    rows = yield "SELECT provider, name, model FROM deployments", ()
    return {(provider, name): model for provider, name, model in rows}


def load(tx: sqlite3.Connection) -> Deployments:
    return run(tx, kept())


def model_of(deployments: Deployments, provider: str, model: str) -> str:
    """The model that an upstream model is; its own name where it is no deployment."""
    return deployments.get((provider, named(model)), model) if deployments else model


def write(tx: sqlite3.Connection, of_providers: Mapping[str, Deployments]) -> None:
    """Those of these providers, in the place of what was kept of them."""
    tx.executemany("DELETE FROM deployments WHERE provider = ?", [(provider,) for provider in of_providers])
    tx.executemany(
        "INSERT INTO deployments (provider, name, model) VALUES (?, ?, ?)",
        [(*key, model) for those in of_providers.values() for key, model in those.items()],
    )
