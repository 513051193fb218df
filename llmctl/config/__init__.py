"""config.toml -> one frozen Config, checked once. Every error names the file, the line, the key and what to write."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from llmctl.domain.bounds import Bounds
from llmctl.domain.errors import ConfigError

from . import alerts, content, telemetry
from .alerts import Alerts
from .content import ContentSettings
from .providers import Provider, read_providers, sandbox_provider
from .server import Server, read_server
from .telemetry import TelemetrySettings
from .toml_table import NOTHING, Table, parsed

__all__ = [
    "Alerts",
    "Config",
    "Provider",
    "Server",
    "TelemetrySettings",
    "find",
    "load",
    "sandbox_provider",
]

SYSTEM_CONFIG = Path("/etc/llmctl/config.toml")


class Retries(NamedTuple):
    """How often a call is tried, with other credentials and with what stands in for its model. Only what cannot have
    been billed is tried again, unless `after_timeout`."""

    attempts_max: int = 3
    after_timeout: bool = False


class Config(NamedTuple):
    path: Path
    database: Path
    timezone: str = "UTC"
    server: Server = Server()
    providers: Mapping[str, Provider] = NOTHING
    aliases: Mapping[str, str] = NOTHING
    fallbacks: Mapping[str, tuple[str, ...]] = NOTHING  # model -> what stands in for it, in order
    retries: Retries = Retries()
    bounds: Bounds = Bounds()
    alerts: Alerts = Alerts()
    telemetry: TelemetrySettings = TelemetrySettings()
    content: ContentSettings = ContentSettings()


def find(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file that counts. Raises ConfigError."""
    named = explicit or (Path(environ["LLMCTL_CONFIG"]) if environ.get("LLMCTL_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            hint = f"llmctl --config {shlex.quote(str(named))} init makes one"
            raise ConfigError(f"no configuration {named}", hint=hint, code="no_config")
        return named
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    here = Path("config.toml")
    if here.is_file():
        _check_trusted(here)
        return here
    for candidate in (Path(home) / "llmctl" / "config.toml", SYSTEM_CONFIG):
        if candidate.is_file():
            return candidate
    raise ConfigError("no config.toml here", hint="name one with --config, or: llmctl init", code="no_config")


def load(path: Path, *, database: Path | None = None) -> Config:
    """Reads and checks one file. `database` overrides its entry. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check its mode and owner") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8, at byte {error.start}", hint="save it as UTF-8") from None
    return _config(parsed(path, text), path, database)


def _config(root: Table, path: Path, database: Path | None) -> Config:
    zone = root.string("timezone", "UTC")
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        hint = "write an IANA name such as Europe/Berlin"
        raise root.error("timezone", f"unknown time zone {zone!r}", hint) from None
    named = root.file("database", "llmctl.db")
    server = read_server(root.table("server"))
    providers = read_providers(root.table("providers"), server.timeouts)
    config = Config(
        path=path,
        database=database or Path(named),
        timezone=zone,
        server=server,
        providers=providers,
        aliases=_aliases(root.table("aliases")),
        fallbacks=_fallbacks(root.table("fallbacks"), providers),
        retries=_retries(root.table("retries")),
        bounds=_bounds(root.table("demand")),
        alerts=alerts.read(root.table("alerts")),
        telemetry=telemetry.read(root.table("telemetry")),
        content=content.read(root.table("content")),
    )
    root.finish()
    return config


def _aliases(table: Table) -> dict[str, str]:
    aliases = {name: table.string(name, "") for name in table.names()}
    for name, target in aliases.items():
        if not name or " " in name or not name.isprintable():
            raise table.error(name, "no call can name it", "write a name without blanks")
        if not target:
            raise table.error(name, "an alias needs a model", f'{name} = "openai/gpt-5-mini"')
        if target in aliases:
            raise table.error(name, f"{target!r} is itself an alias", "name the model itself")
    return aliases


def _fallbacks(table: Table, providers: Mapping[str, Provider]) -> dict[str, tuple[str, ...]]:
    fallbacks = {name: table.strings(name, ()) for name in table.names()}
    for name, targets in fallbacks.items():
        for target in targets:
            provider, _, model = target.partition("/")
            if provider not in providers or not model:
                known = ", ".join(providers) or "none"
                what = f"{target!r} names no provider of this file"
                raise table.error(name, what, f'write "PROVIDER/MODEL"; providers here: {known}')
    return fallbacks


def _retries(table: Table) -> Retries:
    default = Retries()
    retries = Retries(
        attempts_max=table.integer("attempts_max", default.attempts_max, least=1, most=20),
        after_timeout=table.boolean("after_timeout", default.after_timeout),
    )
    table.finish()
    return retries


def _bounds(table: Table) -> Bounds:
    default = Bounds()
    bounds = Bounds(
        output_tokens_default=table.integer("output_tokens_default", default.output_tokens_default, least=1),
        output_tokens_min=table.integer("output_tokens_min", default.output_tokens_min, least=1),
        context_tokens_default=table.integer("context_tokens_default", default.context_tokens_default, least=1),
        server_tool_turns_max=table.integer("server_tool_turns_max", default.server_tool_turns_max, least=1),
        cap_share_percent=table.integer("cap_share_percent", default.cap_share_percent, least=1, most=100),
        unbounded="refuse" if table.choice("unbounded", default.unbounded, ("hold", "refuse")) == "refuse" else "hold",
    )
    table.finish()
    return bounds


def _check_trusted(path: Path) -> None:
    """./config.toml names files and servers: one that somebody else may write is a trap laid in a shared directory."""
    status = path.stat()
    if not {status.st_uid, path.lstat().st_uid} <= {os.getuid(), 0}:
        raise ConfigError(f"{path} belongs to somebody else", hint="name it with --config if you trust it")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others", hint=f"chmod go-w {path}, or name it with --config")
