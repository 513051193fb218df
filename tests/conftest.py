from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.llama import LlamaServer
from tests.support.tiny_model import write_tiny_model


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
