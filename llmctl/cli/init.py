"""`llmctl init`: a configuration, a database with prices, and what to type next."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import AlreadyExists, ConfigError

from . import context, demo
from .command import single
from .context import nearby, program

if TYPE_CHECKING:
    from llmctl.config import Config

    from .context import App

app, command = single("init")

CONFIG_NAME = "config.toml"
DATABASE_NAME = "llmctl.db"


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` did."""

    config: Config
    config_is_new: bool
    database_is_new: bool
    prices: int
    prices_origin: str


@command
def init(
    ctx: typer.Context,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Keep what is there, make what is missing.")
    ] = False,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="In a new database: a demo user, its key, and a call to paste.")
    ] = False,
) -> None:
    """Make a configuration and a database, here or where --config and --database say.

    Every well-known provider whose credential is in the environment is entered; without any, the built-in sandbox is.
    No credential is written down: the configuration names the variable that holds it.
    """
    run = context.of(ctx)
    path = run.named_config or Path(os.environ.get("LLMCTL_CONFIG") or CONFIG_NAME)
    _check_new(run, path, if_not_exists=if_not_exists)
    config_is_new = not path.exists()
    if config_is_new:
        _write_config(path, _database_entry(run, path))
    run.flags.config = str(path)
    made = _make_database(run, config_is_new=config_is_new)
    text = _report(run, made)
    values: dict[str, object] = {
        "config": str(made.config.path),
        "config_created": made.config_is_new,
        "database": str(made.config.database),
        "database_created": made.database_is_new,
        "providers": list(made.config.providers),
        "prices": made.prices,
    }
    if with_demo and made.database_is_new:
        user = demo.make(run, made.config)
        values["demo"] = user.values
        text += f"\n\n{user.text}"
    elif made.database_is_new:
        text += f"\n{_next()}"
    run.out.one(values, text)


def _check_new(run: App, path: Path, *, if_not_exists: bool) -> None:
    """Before anything is written: never half an init."""
    if if_not_exists:
        return
    if path.exists():
        raise AlreadyExists(f"{path} exists already", hint="keep it with: llmctl init --if-not-exists")
    database = run.named_database or path.parent / DATABASE_NAME
    if database.exists():
        raise AlreadyExists(f"{database} exists already", hint="keep it with: llmctl init --if-not-exists")


def _database_entry(run: App, config: Path) -> str:
    """What the new configuration says of the database: a --database that is named now has to be found later too."""
    if not run.flags.database:
        return DATABASE_NAME
    return os.path.relpath(run.flags.database, config.parent)


def _write_config(path: Path, database: str) -> None:
    from .config_file import config_text

    if not path.parent.is_dir():
        raise ConfigError(f"no directory {path.parent}", hint=f"mkdir -p {path.parent}")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            # Whatever the umask: a ./config.toml that others may write is not read.
            os.fchmod(file.fileno(), 0o644)
            file.write(config_text(os.environ, database))
    except OSError as error:
        raise ConfigError(
            f"cannot create {path}: {error.strerror}", hint="choose another place with --config"
        ) from None


def _make_database(run: App, *, config_is_new: bool) -> Made:
    from llmctl.store import database

    config = run.config
    is_new = not run.database.exists()
    if not is_new:
        return Made(config, config_is_new, False, 0, "")
    database.create(run.database, now_s=run.now_s)
    try:
        prices, origin = _import_prices(run, config)
    except BaseException:
        for name in ("", "-wal", "-shm", ".lock"):
            Path(f"{config.database}{name}").unlink(missing_ok=True)
        raise
    return Made(config, config_is_new, True, prices, origin)


def _import_prices(run: App, config: Config) -> tuple[int, str]:
    from llmctl.store import catalogue, prices

    from . import sandbox_prices

    found = catalogue.from_genai_prices()
    with run.writing() as (tx, author):
        prices.replace_source(tx, "catalogue", found.rows, now_s=author.at_s)
        if any(provider.is_sandbox for provider in config.providers.values()):
            sandbox_prices.enter(tx, author.at_s)
    return len(found.rows), found.origin


def _report(run: App, made: Made) -> str:
    config, database = nearby(made.config.path), run.database
    width = max(len(str(config)), len(str(database)))
    providers = ", ".join(made.config.providers) or "none"
    if list(made.config.providers) == ["sandbox"]:
        providers = "sandbox, a built-in stand-in: no provider credential is in your environment"
    lines = [
        f"{'Created' if made.config_is_new else 'Kept   '} {config!s:<{width}}  providers: {providers}",
        f"{'Created' if made.database_is_new else 'Kept   '} {database!s:<{width}}  "
        + (f"0600, {made.prices:,} prices of {made.prices_origin}" if made.database_is_new else "as it is"),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _next() -> str:
    llmctl = program()
    lines = [
        "! No limit yet: any key can spend without end.",
        "Next:",
        f"  {llmctl} limit set --org --cost 200 --per month",
        f"  {llmctl} user add alice",
        f"  {llmctl} serve",
    ]
    return "\n".join(lines)
