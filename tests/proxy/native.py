"""A gateway before providers that speak dialects of their own: each is the recorder, below a path of its own."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Daemon

from .conftest import provider
from .recorder import Recorder

PRICES = {
    "cohere/command-x": ("1", "2"),
    "cohere/embed-x": ("1", "0"),
    "cohere/rerank-x": ("0", "0"),
    "ollama/llama-o": ("1", "2"),
    "bedrock/us.anthropic.claude-b-v1:0": ("1", "2"),
}


def before(directory: Path, recorder: Recorder) -> Daemon:
    """Not started yet."""
    root = recorder.base_url.removesuffix("/v1")
    dialects = {"cohere": (f"{root}/v2", ["*-x"]), "ollama": (f"{root}/api", ["*-o"]), "bedrock": (root, ["*.*"])}
    providers = [
        provider(directory, name, base_url, recorder.api_key, [name], models)
        for name, (base_url, models) in dialects.items()
    ]
    return Daemon(directory, "".join(providers))


def set_prices(gateway: Daemon) -> None:
    for model, (input_usd, output_usd) in PRICES.items():
        gateway.here("price", "set", model, "--input", input_usd, "--output", output_usd)
