"""config.toml -> one frozen Config, checked once. Every error names the file, the line, the key and what to write."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

from llmctl.domain.access import check_pattern
from llmctl.domain.demand import Bounds
from llmctl.domain.errors import BadInput, ConfigError
from llmctl.domain.redaction import KINDS, Redactor

from . import alert_config
from .alert_config import Alerts
from .credential_source import CredentialSource, read_credentials
from .presets import OUTPUT_FIELDS, PRESETS, REGION, REGION_ENV, SANDBOX, SIGV4, Preset
from .server_config import CONNECT_S, READ_S, Server, Timeouts, read_server
from .toml_table import Table, is_base_url

DIALECTS = ("openai", "azure", "anthropic", "gemini", "cohere", "ollama", "bedrock")
TOTAL_S = 7_200.0
SYSTEM_CONFIG = Path("/etc/llmctl/config.toml")

_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REGION_NAME = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class RouteTimeouts:
    """Seconds, of one call to one provider."""

    connect_s: float = CONNECT_S
    first_byte_s: float = READ_S  # after the request was sent
    read_s: float = READ_S  # between two bytes
    total_s: float = TOTAL_S


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    base_urls: Mapping[str, str]  # by dialect, its own first, each with its version
    auth: str  # how the credential is shown; "" = as the dialect's own clients show theirs
    credentials: tuple[CredentialSource, ...]
    models: tuple[str, ...]
    catalogue: str
    output_fields: Mapping[str, str]
    prompt_overhead_tokens: int
    image_tokens_max: int | None
    region: str
    timeouts: RouteTimeouts = RouteTimeouts()
    any_model: frozenset[str] = frozenset()  # dialects in which models that no pattern leads elsewhere come here
    deployments: Mapping[str, str] = field(default_factory=dict)  # names of one's own -> the model that is billed

    @property
    def dialects(self) -> frozenset[str]:
        return frozenset(self.base_urls)

    @property
    def is_sandbox(self) -> bool:
        return self.name == SANDBOX

    def sold_as(self, model: str) -> str:
        """The model whose price holds for a deployment, or for an ARN; its own name where nothing else is said."""
        sold = self.deployments.get(model, model)
        return sold.rpartition("/")[2] if sold.startswith("arn:") else sold

    def output_field(self, endpoint: str) -> str:
        return self.output_fields.get(endpoint) or OUTPUT_FIELDS.get(endpoint, "max_tokens")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried, with other credentials and with what stands in for its model. Only what cannot have
    been billed is tried again, unless `after_timeout`."""

    attempts_max: int = 3
    after_timeout: bool = False


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """How prompts and answers are kept, of groups that want it: `llmctl content keep GROUP`."""

    keep_days: int = 30
    bytes_max: int = 1 << 20  # of each prompt and each answer; the rest is cut off
    redact: tuple[str, ...] = KINDS
    patterns: tuple[str, ...] = ()  # regular expressions of one's own


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Where spans and metrics go, by OTLP over HTTP: the collector's address without /v1/traces. "" = nowhere."""

    endpoint: str = ""
    metrics: bool = True
    metrics_every_s: int = 60
    service_name: str = "llmctl"


@dataclass(frozen=True, slots=True)
class Config:
    path: Path
    database: Path
    timezone: str = "UTC"
    server: Server = field(default_factory=Server)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # model -> what stands in for it, in order
    retries: Retries = Retries()
    bounds: Bounds = field(default_factory=Bounds)
    alerts: Alerts = field(default_factory=Alerts)
    telemetry: TelemetrySettings = TelemetrySettings()
    content: ContentSettings = ContentSettings()


def find(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file that counts (DESIGN section 7). Raises ConfigError."""
    named = explicit or (Path(environ["LLMCTL_CONFIG"]) if environ.get("LLMCTL_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"no configuration {named}", hint="llmctl init makes one", code="no_config")
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
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}", hint="check its mode and owner") from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets nested as deeply
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="mend that line") from None
    return _config(Table(document, "", path, text), path, database)


def sandbox_provider() -> Provider:
    return _provider(SANDBOX, Table({}, f"providers.{SANDBOX}", Path(), ""), Timeouts())


def _config(root: Table, path: Path, database: Path | None) -> Config:
    zone = root.string("timezone", "UTC")
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        hint = "write an IANA name such as Europe/Berlin"
        raise root.error("timezone", f"unknown time zone {zone!r}", hint) from None
    named = root.file("database", "llmctl.db")
    server = read_server(root.table("server"))
    providers = _providers(root.table("providers"), server.timeouts)
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
        alerts=alert_config.read(root.table("alerts")),
        telemetry=_telemetry(root.table("telemetry")),
        content=_content(root.table("content")),
    )
    root.finish()
    return config


def _providers(tables: Table, timeouts: Timeouts) -> dict[str, Provider]:
    providers = {}
    for name in tables.names():
        table = tables.table(name)
        if not _PROVIDER_NAME.fullmatch(name):
            raise table.error("", f"{name!r} is not a provider name", "use lower-case letters, digits, - and _")
        providers[name] = _provider(name, table, timeouts)
    return providers


def _provider(name: str, table: Table, timeouts: Timeouts) -> Provider:
    preset = _preset(name, table)
    dialects = table.strings("dialect", preset.dialects if preset else ())
    region = _region(table, preset)
    if preset is not None and region:
        preset = replace(preset, base_url=preset.base_url.replace(REGION, region))
    base_url = table.string("base_url", preset.base_url if preset else "").rstrip("/")
    if not dialects:
        raise table.error("dialect", "a provider that is not well-known needs a dialect", f"dialect = {DIALECTS[0]!r}")
    for dialect in dialects:
        if dialect not in DIALECTS:
            raise table.error("dialect", f"unknown dialect {dialect!r}", f"write one of {', '.join(DIALECTS)}")
    if name != SANDBOX and not is_base_url(base_url):
        # Not repeated in the message: it may hold a credential.
        what = "is no base URL, or has a user, a query or a fragment"
        example = (preset.example if preset else "") or "https://api.example.com/v1"
        raise table.error("base_url", what, f'write one such as "{example}"')
    models = table.strings("models", preset.models if preset else ())
    for pattern in models:
        try:
            check_pattern(pattern)
        except BadInput as error:
            raise table.error("models", error.message, error.hint) from None
    output_fields = dict(preset.output_fields) if preset else {}
    own_fields = table.table("output_fields")
    for endpoint in OUTPUT_FIELDS:
        if field_name := own_fields.string(endpoint, ""):
            output_fields[endpoint] = field_name
    shown = read_credentials(table, preset, base_url)
    overhead = preset.prompt_overhead_tokens if preset else Preset("").prompt_overhead_tokens
    provider = Provider(
        name=name,
        base_urls={dialect: _base_url(base_url, preset, dialect) for dialect in dialects},
        auth=shown.auth,
        region=region,
        credentials=shown.sources,
        models=models,
        catalogue=table.string("catalogue", preset.catalogue if preset else ""),
        output_fields=output_fields,
        prompt_overhead_tokens=table.integer("prompt_overhead_tokens", overhead),
        image_tokens_max=preset.image_tokens_max if preset else None,
        timeouts=_route_timeouts(table.table("timeouts"), timeouts),
        any_model=preset.any_model & frozenset(dialects) if preset else frozenset(),
        deployments=_deployments(table.table("deployments")),
    )
    own_fields.finish()
    table.finish()
    return provider


def _route_timeouts(table: Table, server: Timeouts) -> RouteTimeouts:
    connect_s = table.seconds("connect_s", server.connect_s)
    read_s = table.seconds("read_s", server.read_s)
    first_byte_s = table.seconds("first_byte_s", read_s)
    total_s = table.seconds("total_s", max(TOTAL_S, first_byte_s))
    table.finish()
    return RouteTimeouts(connect_s, first_byte_s, read_s, total_s)


def _preset(name: str, table: Table) -> Preset | None:
    """The well-known provider of that name, or the one that `preset` says it is another of."""
    other = table.string("preset", "")
    if other and (other not in PRESETS or other == SANDBOX):
        known = ", ".join(sorted(PRESETS.keys() - {SANDBOX}))
        raise table.error("preset", f"{other!r} is not well-known", f"write one of {known}")
    return PRESETS.get(other or name)


def _base_url(base_url: str, preset: Preset | None, dialect: str) -> str:
    path = preset.paths.get(dialect, "") if preset else ""
    return urljoin(f"{base_url}/", path).rstrip("/")


def _deployments(table: Table) -> dict[str, str]:
    return {name: table.string(name, "") for name in table.names()}


def _region(table: Table, preset: Preset | None) -> str:
    """The region of AWS that is called: in its address, and in what is signed. "" where neither has one."""
    signs = "auth" in table.names() and table.string("auth", "") == SIGV4
    addressed = preset is not None and REGION in preset.base_url and "base_url" not in table.names()
    if not (signs or addressed or "region" in table.names()):
        return ""
    region = table.string("region", next(filter(None, map(os.environ.get, REGION_ENV)), ""))
    if not _REGION_NAME.fullmatch(region):
        raise table.error("region", "AWS has an address for each region", 'region = "us-east-1"')
    return region


def _aliases(table: Table) -> dict[str, str]:
    aliases = {name: table.string(name, "") for name in table.names()}
    for name, target in aliases.items():
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


def _content(table: Table) -> ContentSettings:
    default = ContentSettings()
    settings = ContentSettings(
        keep_days=table.integer("keep_days", default.keep_days, least=1, most=3_650),
        bytes_max=table.integer("bytes_max", default.bytes_max, least=1_024, most=32 << 20),
        redact=table.strings("redact", default.redact),
        patterns=table.strings("patterns", default.patterns),
    )
    for kind in settings.redact:
        if kind not in KINDS:
            raise table.error("redact", f"{kind!r} is not possible", f"write some of {', '.join(KINDS)}")
    try:
        Redactor(settings.redact, settings.patterns)
    except BadInput as error:
        raise table.error("patterns", error.message, "mend it") from None
    table.finish()
    return settings


def _telemetry(table: Table) -> TelemetrySettings:
    default = TelemetrySettings()
    endpoint = table.string("endpoint", default.endpoint).rstrip("/").removesuffix("/v1/traces")
    if endpoint and not is_base_url(endpoint):
        raise table.error("endpoint", "is no address", 'write one such as "http://127.0.0.1:4318"')
    settings = TelemetrySettings(
        endpoint=endpoint,
        metrics=table.boolean("metrics", default.metrics),
        metrics_every_s=table.integer("metrics_every_s", default.metrics_every_s, least=1, most=3_600),
        service_name=table.string("service_name", default.service_name),
    )
    table.finish()
    return settings


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
