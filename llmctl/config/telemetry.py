"""The [telemetry] table."""

from __future__ import annotations

from typing import NamedTuple

from .toml_table import Table, is_base_url


class TelemetrySettings(NamedTuple):
    """Where spans and metrics go, by OTLP over HTTP: the collector's address without /v1/traces. "" = nowhere."""

    endpoint: str = ""
    metrics: bool = True
    metrics_every_s: int = 60
    service_name: str = "llmctl"


def read(table: Table) -> TelemetrySettings:
    """Raises ConfigError."""
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
