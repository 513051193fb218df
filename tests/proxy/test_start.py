"""A start that fails leaves nothing open: no thread, no lock, no port."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from llmctl.config import Config, TelemetrySettings
from llmctl.domain.errors import ConfigError
from llmctl.proxy.app import Gateway
from llmctl.proxy.cells import shared_memory
from llmctl.store import owners
from llmctl.store.database import create


def threads() -> set[str]:
    """Of the event loop's pool none counts: it ends with the loop."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio")}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    create(tmp_path / "llmctl.db")
    return Config(tmp_path / "config.toml", tmp_path / "llmctl.db")


async def test_without_the_packages_that_telemetry_needs(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    before = threads()
    gateway = Gateway(config._replace(telemetry=TelemetrySettings("http://127.0.0.1:9")), shared_memory(1), 0)
    with pytest.raises(ConfigError, match="needs packages more"):
        await gateway.start([], None)
    assert threads() == before
    assert not owners.living(config.database)


async def test_with_an_address_that_cannot_be_listened_on(config: Config) -> None:
    before = threads()
    gone = socket.socket()
    gone.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gateway = Gateway(config, shared_memory(1), 0)
        with pytest.raises(OSError):
            await gateway.start([listening, gone], None)
    assert threads() == before
    assert not gateway._tasks
    assert not owners.living(config.database)
