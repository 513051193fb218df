from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.llama import LlamaServer
from tests.support.tiny_model import write_tiny_model

# The suite takes the same examples each time, so that a failure belongs to the change; the soak looks for new ones.
settings.register_profile("suite", derandomize=True)
settings.register_profile("soak")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("soak" if config.option.markexpr == "soak" else "suite")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def llama(tiny_model: Path) -> Iterator[LlamaServer]:
    """A real provider of chat, completions, responses and messages; its counters span the whole test run."""
    with LlamaServer(tiny_model) as server:
        yield server


@pytest.fixture(scope="session")
def llama_embed(tiny_model: Path) -> Iterator[LlamaServer]:
    """A real provider of embeddings."""
    with LlamaServer(tiny_model, "embed") as server:
        yield server
