"""`llmctl serve`: the daemon. The only command that imports the proxy, and only when it runs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import ConfigError

from . import context, errors
from .command import single
from .errors import EXIT_CONFIG, UsageMistake

if TYPE_CHECKING:
    from llmctl.config import Config

    from .context import App

app, command = single("serve")


@command
def serve(
    ctx: typer.Context,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where clients connect.")] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help="Processes that share the port.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Add the built-in provider that needs no key.")] = False,
) -> None:
    """Run the gateway until it is told to stop (SIGTERM, Ctrl-C).

    Open calls end and are booked first; a second signal ends it at once. SIGHUP reads the configuration anew, as does
    llmctl reload.
    """
    app = context.of(ctx)
    try:
        config = _config(app.config, listen, workers, sandbox=sandbox)
        _price_sandbox(app, config)
        os.umask(0o077)

        from llmctl.config import load
        from llmctl.proxy import logs
        from llmctl.proxy.run import serve as run

        as_json = logs.set_up(config.server.log)

        def again() -> Config:
            """The same file as it is now, and what the command line says instead."""
            fresh = load(config.path, database=app.named_database)
            fresh = _config(fresh, listen, workers, sandbox=sandbox)
            _price_sandbox(app, fresh)
            return fresh

        say = logging.getLogger("llmctl").info if as_json else app.out.prose
        status = run(config, again, say=say)
    except ConfigError as error:
        errors.report(error, as_json=app.out.format == "json", stream=sys.stderr)
        raise typer.Exit(EXIT_CONFIG) from None
    raise typer.Exit(status)


def _config(config: Config, listen: str | None, workers: str | None, *, sandbox: bool) -> Config:
    """The file, and what the command line says instead."""
    from llmctl import config as configuration
    from llmctl.config import server as server_config
    from llmctl.domain.errors import BadInput

    server = config.server
    if listen is not None:
        try:
            server = server._replace(listen=server_config.parse_address(listen))
        except BadInput as error:
            raise UsageMistake(f"--listen: {error.message}", hint=error.hint) from None
    if workers is not None:
        if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= server_config.WORKERS_MAX:
            raise UsageMistake(f"--workers {workers!r} is not possible", hint=f"write 1 to {server_config.WORKERS_MAX}")
        server = server._replace(workers=int(workers))
    providers = dict(config.providers)
    if sandbox:
        provider = configuration.sandbox_provider()
        providers[provider.name] = provider
    if not providers:
        raise ConfigError(
            f"{config.path.name} names no provider",
            hint="add one, such as [providers.openai], or try: llmctl serve --sandbox",
        )
    return config._replace(server=server, providers=providers)


def _price_sandbox(app: App, config: Config) -> None:
    """The sandbox's own prices, so that its calls cost something under limits; unchanged ones stay as they are."""
    if not any(provider.is_sandbox for provider in config.providers.values()):
        return
    from . import sandbox_prices

    with app.writing() as (tx, author):
        sandbox_prices.enter(tx, author.at_s)
