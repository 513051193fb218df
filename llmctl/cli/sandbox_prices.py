"""The sandbox's play prices in the database, so that its calls cost something under limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from llmctl.domain.money import parse_usd

if TYPE_CHECKING:
    from llmctl.store.database import Tx

SOURCE: Literal["sandbox"] = "sandbox"


def enter(tx: Tx, now_s: int) -> None:
    """Writes them; those that are there unchanged stay as they are."""
    from llmctl.config.presets import SANDBOX
    from llmctl.sandbox.models import MODELS
    from llmctl.store import price_import
    from llmctl.store.price_rows import price_row

    rows = [
        price_row(
            SANDBOX,
            model.name,
            {
                "input": parse_usd(model.input_usd_per_million),
                "cache_read": parse_usd(model.cached_input_usd_per_million),
                "output": parse_usd(model.output_usd_per_million),
            },
            context_tokens=model.context_window_tokens,
            output_tokens_max=model.output_tokens_max or None,
        )
        for model in MODELS
    ]
    price_import.replace_source(tx, SOURCE, rows, now_s=now_s)
