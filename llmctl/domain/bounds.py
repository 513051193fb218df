"""What an admin sets for requests that leave something open. By itself, because every command reads the configuration,
and few need what a price is."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Bounds(NamedTuple):
    """The admin's choices for what a request leaves open."""

    output_tokens_default: int = 4096  # injected where neither the client nor the model's documentation says one
    output_tokens_min: int = 256  # below this an answer is of no use: refuse instead of capping
    context_tokens_default: int = 1_000_000  # for input that bytes do not bound, on a model of unknown context
    server_tool_turns_max: int = 10
    cap_share_percent: int = 25
    unbounded: Literal["hold", "refuse"] = "hold"
