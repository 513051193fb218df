"""What the sandbox serves. The one place: the price table of the gateway is filled from here too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .errors import SandboxError

Kind = Literal["chat", "embedding"]


@dataclass(frozen=True, slots=True)
class SandboxModel:
    """Tokens are integers; prices are decimal strings in USD per million tokens, never floats."""

    name: str
    display_name: str
    kind: Kind
    context_window_tokens: int
    output_tokens_max: int
    input_usd_per_million: str
    cached_input_usd_per_million: str
    output_usd_per_million: str


# Play money, of the size of real prices, so that a limit of a dollar behaves as with a real provider.
MODELS: Final = (
    SandboxModel("sandbox-small", "Sandbox Small", "chat", 128_000, 16_384, "0.25", "0.025", "2.00"),
    SandboxModel("sandbox-large", "Sandbox Large", "chat", 200_000, 64_000, "3.00", "0.30", "15.00"),
    SandboxModel("sandbox-embed", "Sandbox Embed", "embedding", 8_192, 0, "0.02", "0.02", "0"),
)

# 2026-01-01T00:00:00Z: the APIs ask for a date of each model, and a constant keeps their answers the same.
CREATED_AT: Final = 1_767_225_600
CREATED_AT_RFC3339: Final = "2026-01-01T00:00:00Z"

_BY_NAME: Final = {model.name: model for model in MODELS}


def find(name: str, kind: Kind | None = None) -> SandboxModel:
    """The model of that name. SandboxError if there is none, or if it is not of that kind."""
    model = _BY_NAME.get(name)
    if model is None:
        names = ", ".join(_BY_NAME)
        raise SandboxError("unknown_model", f"The sandbox has no model {name[:200]!r}. It has: {names}.", param="model")
    if kind is not None and model.kind != kind:
        raise SandboxError("invalid", f"{name} is a model of kind {model.kind}, not {kind}.", param="model")
    return model
