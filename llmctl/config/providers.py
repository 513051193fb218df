"""The [providers.NAME] tables: where calls go, who pays, which models come here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

from llmctl.domain import deployment
from llmctl.domain.access import check_pattern
from llmctl.domain.errors import BadInput
from llmctl.domain.route import Target

from .credentials.source import CredentialSource, read_credentials
from .presets import OUTPUT_FIELDS, PRESETS, REGION, REGION_ENV, SANDBOX, SIGV4, Preset
from .server import CONNECT_S, READ_S, Timeouts
from .toml_table import NOTHING, Table, is_base_url

DIALECTS = ("openai", "azure", "anthropic", "gemini", "cohere", "ollama", "bedrock")
TOTAL_S = 7_200.0

_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REGION_NAME = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")


class RouteTimeouts(NamedTuple):
    """Seconds, of one call to one provider."""

    connect_s: float = CONNECT_S
    first_byte_s: float = READ_S  # after the request was sent
    read_s: float = READ_S  # between two bytes
    total_s: float = TOTAL_S


class Provider(NamedTuple):
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
    deployments: Mapping[str, str] = NOTHING  # names of one's own, by `named` -> the model that is billed

    @property
    def dialects(self) -> frozenset[str]:
        return frozenset(self.base_urls)

    @property
    def is_sandbox(self) -> bool:
        return self.name == SANDBOX

    @property
    def target(self) -> Target:
        """What routing needs to know of it."""
        return Target(self.name, self.dialects, self.models, self.any_model)

    def sold_as(self, model: str) -> str:
        """The model whose price, rules and limits hold for a deployment, or for an ARN; its own name where nothing else
        is said."""
        return deployment.sold_as(self.deployments, model)

    @property
    def deployed(self) -> dict[str, str]:
        """The model that each deployment is."""
        return {name: self.sold_as(name) for name in self.deployments}

    def output_field(self, endpoint: str) -> str:
        return self.output_fields.get(endpoint) or OUTPUT_FIELDS.get(endpoint, "max_tokens")


def sandbox_provider() -> Provider:
    return _provider(SANDBOX, Table({}, f"providers.{SANDBOX}", Path(), ""), Timeouts())


def read_providers(tables: Table, timeouts: Timeouts) -> dict[str, Provider]:
    """The table [providers]. Raises ConfigError."""
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
        preset = preset._replace(base_url=preset.base_url.replace(REGION, region))
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
    return {deployment.named(name): table.string(name, "") for name in table.names()}


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
