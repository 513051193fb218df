from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmctl.cli.app import run
from llmctl.config.presets import PRESETS
from llmctl.store.database import create

from .shop import NOW_S

CONFIG = """\
database = "llmctl.db"
[providers.openai]
credential_env = "OPENAI_API_KEY"
[providers.sandbox]
[aliases]
fast = "openai/gpt-5"
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        return json.loads(self.err)["error"]


class Cli:
    """Runs commands inside this process, at a moment that stands still; what they print is caught."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.now_s = NOW_S

    def __call__(self, *args: str, code: int | None = 0) -> Result:
        self._capsys.readouterr()
        found = run(args, clock_s=lambda: self.now_s)
        printed = self._capsys.readouterr()
        if code is not None:
            assert found == code, printed
        return Result(found, printed.out, printed.err)

    def json(self, *args: str) -> Any:
        return self(*args, "-o", "json").json

    def secret(self, *args: str) -> str:
        return self(*args).out.strip()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory and a plain environment, for this process and for those that it starts."""
    for name in [*os.environ]:
        if name.startswith(("LLMCTL_", "XDG_", "LC_", "SUDO_")) or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    for preset in PRESETS.values():
        if preset.credential_env:
            monkeypatch.delenv(preset.credential_env, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def empty(home: Path) -> Path:
    """A configuration and a new database."""
    config = home / "config.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    create(home / "llmctl.db")
    return home


@pytest.fixture
def cli(empty: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def bare_cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The same where there is nothing yet."""
    return Cli(capsys)


@pytest.fixture
def filled(cli: Cli) -> Callable[..., None]:
    """`filled("sales/alice", "bob")`: groups and users."""

    def fill(*users: str) -> None:
        for user in users:
            group, slash, name = user.rpartition("/")
            if slash:
                cli("group", "add", group, "--if-not-exists")
            cli("user", "add", name, *(["--group", group] if slash else []))

    return fill
