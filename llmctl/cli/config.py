"""`llmctl config`: which configuration counts, and whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from llmctl.domain.errors import ConfigError

from . import context
from .command import noun, verb
from .context import nearby

app = noun("""
The configuration: --config FILE, else $LLMCTL_CONFIG, ./config.toml, $XDG_CONFIG_HOME/llmctl/config.toml,
/etc/llmctl/config.toml.
""")


@verb(app, "path")
def path(ctx: typer.Context) -> None:
    """Print the file that counts."""
    from llmctl import config

    run = context.of(ctx)
    found = config.find(run.named_config)
    if run.out.format == "table":
        run.out.line(str(found))
    else:
        run.out.one({"path": str(found.absolute())}, "")


@verb(app, "check")
def check(ctx: typer.Context) -> None:
    """Check the file: every key, every value, and that each secret that it names is there."""
    from llmctl import config
    from llmctl.config.alerts import secrets

    run = context.of(ctx)
    found = config.load(config.find(run.named_config), database=run.named_database)
    missing = _missing((each.name, one.check) for each in found.providers.values() for one in each.credentials)
    receivers = found.alerts.receivers.items()
    missing_for_alerts = _missing((name, secret.read) for name, each in receivers for secret in secrets(each))
    providers = list(found.providers)
    listing = ", ".join(providers) or "none"
    lines = [f"{nearby(found.path)} is right. Providers: {listing}. Database: {nearby(found.database)}"]
    lines += [f"! {name}: {error}" for name, error in missing]
    lines += [f"! alerts.to.{name}: {error}" for name, error in missing_for_alerts]
    if not providers:
        lines.append("! no provider yet: calls will find no model. Add [providers.openai] or [providers.sandbox]")
    run.out.one(
        {
            "path": str(found.path.absolute()),
            "database": str(found.database),
            "timezone": found.timezone,
            "listen": str(found.server.listen),
            "providers": providers,
            "aliases": dict(found.aliases),
            "missing_credentials": [name for name, _ in missing],
            "missing_for_alerts": [name for name, _ in missing_for_alerts],
        },
        "\n".join(lines),
    )


def _missing(looks: Iterable[tuple[str, Callable[[], object]]]) -> list[tuple[str, ConfigError]]:
    """Whose secret is not there, and what is wrong with it."""
    missing = []
    for name, look in looks:
        try:
            look()
        except ConfigError as error:
            missing.append((name, error))
    return missing
