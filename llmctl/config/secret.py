"""Secrets that the configuration names: where they are read from, at each use; never the secrets themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from llmctl.domain.errors import ConfigError

from .toml_table import Table


class Secret(NamedTuple):
    """One that is in a variable or in a file; false: there is none."""

    env: str = ""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.env or self.file)

    def read(self) -> str:
        """Raises ConfigError."""
        value = of_variable(self.env) if self.env else of_file(self.file)
        if not value:
            raise ConfigError(f"{self.env or self.file} is empty or not set", hint="set it")
        return value


def read_secret(table: Table, name: str) -> Secret:
    """`NAME_env` or `NAME_file`. Raises ConfigError."""
    env, file = table.env_name(f"{name}_env"), table.file(f"{name}_file", "")
    if env and file:
        raise table.error(f"{name}_env", f"{name}_env and {name}_file are both set", "keep one")
    return Secret(env, file)


def of_variable(name: str) -> str:
    """From the environment; else what systemd put there under this name (LoadCredential=), because a unit's environment
    is for all to read. "" = it is nowhere."""
    if value := os.environ.get(name, "").strip():
        return value
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        return Path(directory, name).read_text(encoding="utf-8").strip() if directory else ""
    except (OSError, UnicodeDecodeError):
        return ""


def of_file(path: str) -> str:
    """Raises ConfigError: it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"cannot read the secret file {path}", hint="check its path and mode") from None
