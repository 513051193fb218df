"""The gateway as its users meet it: `llmctl serve` before real llama.cpp servers and before a provider that records."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import Faulty
from tests.support.llama import LlamaServer

from .processes import Start, kill_all, set_up
from .recorder import Recorder

# `echo-new` is routed and has no price.
ROUTES = """
[aliases]
fast = "local/tiny-random"
vectors = "embed/tiny-random"
parrot = "echo/echo-1"
"""
PRICES = {"local/tiny-random": ("1", "2"), "embed/tiny-random": ("1", "0"), "echo/echo-1": ("1", "2")}

Client = Callable[[str], openai.OpenAI]
Claude = Callable[[str], anthropic.Anthropic]


@contextmanager
def gateway_before(
    directory: Path, recorder: Recorder, *llamas: LlamaServer, args: list[str] | None = None
) -> Iterator[Daemon]:
    """A daemon with priced models: `local` and `embed` are the `llamas`, `echo` is the recorder."""
    both, openai_only = ["openai", "anthropic"], ["openai"]
    providers = [provider(directory, "echo", recorder.base_url, recorder.api_key, [*both, "gemini"], ["echo-*"])]
    for name, llama, dialects, models in zip(
        ("local", "embed"), llamas, (both, openai_only), (["tiny-*"], []), strict=False
    ):
        providers.append(provider(directory, name, llama.base_url, llama.api_key, dialects, models))
    with Daemon(directory, "".join(providers), extra=ROUTES, args=args) as daemon:
        for model, (input_usd, output_usd) in PRICES.items():
            daemon.here("price", "set", model, "--input", input_usd, "--output", output_usd)
        yield daemon


def provider(directory: Path, name: str, base_url: str, credential: str, dialects: list[str], models: list[str]) -> str:
    (directory / f"{name}.credential").write_text(credential)
    return f"""
[providers.{name}]
dialect = {dialects}
base_url = "{base_url}"
credential_file = "{name}.credential"
models = {models}
"""


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder, llama: LlamaServer, llama_embed: LlamaServer
) -> Iterator[Daemon]:
    """One for the whole run: each test has users of its own, and leaves no limit on the organisation behind."""
    with gateway_before(tmp_path_factory.mktemp("gateway"), running_recorder, llama, llama_embed) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder) -> Iterator[Daemon]:
    """One for the whole run, as `gateway`, before providers that speak Cohere's, Ollama's and Bedrock's own API."""
    from . import native

    with native.before(tmp_path_factory.mktemp("native"), running_recorder) as daemon:
        native.set_prices(daemon)
        yield daemon


@pytest.fixture(scope="session")
def running_recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def recorder(running_recorder: Recorder) -> Iterator[Recorder]:
    """As new: nothing sent yet, its usual answers; also for those that come after and only call it."""
    running_recorder.reset()
    yield running_recorder
    running_recorder.reset()


@pytest.fixture(scope="session")
def key(gateway: Daemon) -> str:
    """Of a user without limits, whom many tests share."""
    return gateway.add_user("alice", "sales")


@pytest.fixture(scope="session")
def client(gateway: Daemon) -> Iterator[Client]:
    yield from clients_of(gateway)


@pytest.fixture(scope="session")
def claude(gateway: Daemon) -> Iterator[Claude]:
    yield from claudes_of(gateway)


def clients_of(gateway: Daemon) -> Iterator[Client]:
    """OpenAI's SDK with a key; it does not try again."""
    with openai.OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0) as client:
        yield lambda key: client.with_options(api_key=key)


def claudes_of(gateway: Daemon) -> Iterator[Claude]:
    """Anthropic's SDK with a key; it does not try again."""
    with anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
        yield lambda key: client.with_options(api_key=key)


@pytest.fixture
def faulty(running: Faulty) -> Faulty:
    """A module's own `running`, as new."""
    running.clear()
    return running


@pytest.fixture
def start(tmp_path: Path, faulty: Faulty) -> Iterator[Start]:
    """A test that fails leaves no gateway behind."""
    started: list[Daemon] = []

    def start_one(workers: int = 1, server: str = "", extra: str = "") -> tuple[Daemon, str]:
        daemon, key = set_up(tmp_path, faulty, "--workers", str(workers), server=server, extra=extra)
        daemon.start()
        started.append(daemon)
        return daemon, key

    yield start_one
    for daemon in started:
        if daemon.process.poll() is None:
            kill_all(daemon)


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own, of the module's DISK_BYTES."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={request.module.DISK_BYTES}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
