"""`llmctl init`: a configuration, a database with prices, and what to type next."""

from __future__ import annotations

import os
import pwd
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import AlreadyExists, ConfigError

from . import context, demo
from .command import single
from .context import nearby, program
from .errors import UsageMistake
from .unit import STATE

if TYPE_CHECKING:
    from llmctl.config import Config

    from .context import App

app, command = single("init")

CONFIG_NAME = "config.toml"
DATABASE_NAME = "llmctl.db"
SERVICE_USER = "llmctl"
AGAIN_SYSTEM = "sudo llmctl init --system --if-not-exists"


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
    system: Annotated[
        bool, typer.Option("--system", help="For the whole machine: /etc/llmctl and /var/lib/llmctl.")
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
    again = _again(run, system=system)
    if system:
        _choose_system(run)
        _make_directories()
    path = run.named_config or Path(os.environ.get("LLMCTL_CONFIG") or CONFIG_NAME)
    config_is_new = not path.exists()
    if not (config_is_new or if_not_exists):
        raise _exists(path, again)
    entry = _database_entry(run, path)
    run.flags.config = str(path)
    database = (run.named_database or path.parent / DATABASE_NAME) if config_is_new else run.database
    _check_database(database, None if if_not_exists else again)
    if config_is_new:
        _write_config(path, entry)
    try:
        made = _make_database(run, config_is_new=config_is_new)
    except BaseException:
        if config_is_new:
            path.unlink(missing_ok=True)
        raise
    if system:
        _hand_over(run.database)
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
        user = demo.make(run, made.config, _called(run))
        values["demo"] = user.values
        text += f"\n\n{user.text}"
    elif made.database_is_new:
        text += f"\n{_next(_called(run))}"
    run.out.one(values, text)


def command_for(run: App) -> str:
    """The command that makes the database that is missing, of the configuration that counts."""
    from llmctl.config import SYSTEM_CONFIG

    path = run.config.path
    if path == SYSTEM_CONFIG and run.config.database == STATE / DATABASE_NAME:
        return AGAIN_SYSTEM
    words = ["llmctl"]
    if path != Path(CONFIG_NAME) or os.environ.get("LLMCTL_CONFIG"):
        words += ["--config", str(path)]
    if run.flags.database:
        words += ["--database", run.flags.database]
    return shlex.join([*words, "init", *(["--if-not-exists"] if path.exists() else [])])


def _choose_system(run: App) -> None:
    from llmctl.config import SYSTEM_CONFIG

    if run.flags.config or run.flags.database:
        raise UsageMistake("--system has places of its own", hint="leave out --config and --database, or --system")
    run.flags.config, run.flags.database = str(SYSTEM_CONFIG), str(STATE / DATABASE_NAME)


def _make_directories() -> None:
    """Everybody may read the configuration, which holds no secret; the database is the gateway's alone."""
    from llmctl.config import SYSTEM_CONFIG

    for directory, mode in ((SYSTEM_CONFIG.parent, 0o755), (STATE, 0o700)):
        try:
            if not directory.is_dir():
                directory.mkdir(parents=True)
                directory.chmod(mode)  # whatever the umask
        except OSError as error:
            hint = "sudo llmctl init --system" if isinstance(error, PermissionError) else "make room for it"
            raise ConfigError(f"cannot create {directory}: {error.strerror}", hint=hint) from None


def _hand_over(database: Path) -> None:
    """To the user of the service, where there is one: root makes what llmctl shall write."""
    try:
        account = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    if os.geteuid() == 0:
        for path in (database.parent, *database.parent.glob(f"{database.name}*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _again(run: App, *, system: bool) -> str:
    """The same command, to keep what is there."""
    if system:
        return AGAIN_SYSTEM
    named = (("--config", run.flags.config), ("--database", run.flags.database))
    words = [word for flag, value in named if value for word in (flag, value)]
    return shlex.join(["llmctl", "init", *words, "--if-not-exists"])


def _exists(path: Path, again: str) -> AlreadyExists:
    return AlreadyExists(f"{path} exists already", hint=f"keep it with: {again}")


def _check_database(path: Path, again: str | None) -> None:
    """Before anything is written: never half an init. `again` is what would keep it, None: it is kept. Raises
    LlmctlError where there can be no database, or lies something else."""
    from llmctl.store import database

    if not path.exists():
        database.check_place(path)
        return
    database.schema_of(path, hint="move it away, or name another place with --database")
    if again is not None:
        raise _exists(path, again)


def _database_entry(run: App, config: Path) -> str:
    """What the new configuration says of the database: a --database that is named now has to be found later too."""
    if not run.flags.database:
        return DATABASE_NAME
    named = Path(run.flags.database)
    return str(named) if named.is_absolute() else os.path.relpath(named, config.parent)


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
    database.create(run.database)
    try:
        prices, origin = _import_prices(run, config)
    except BaseException:
        for name in ("", "-wal", "-shm", ".lock"):
            Path(f"{config.database}{name}").unlink(missing_ok=True)
        raise
    return Made(config, config_is_new, True, prices, origin)


def _import_prices(run: App, config: Config) -> tuple[int, str]:
    from llmctl.store import catalogue, price_import

    from . import sandbox_prices

    found = catalogue.from_genai_prices()
    with run.writing() as (tx, author):
        price_import.replace_source(tx, "catalogue", found.rows, now_s=author.at_s)
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


def _called(run: App) -> str:
    """How to call this program so that it finds what was made: where it stands elsewhere, it has to be named."""
    from llmctl.config import find, load

    path, flags = run.config.path, ""
    try:
        is_found = find(None).samefile(path)
    except ConfigError:
        is_found = False
    if not is_found:
        flags = f" --config {shlex.quote(str(path))}"
    if run.flags.database and load(path).database.resolve() != run.database.resolve():
        flags += f" --database {shlex.quote(run.flags.database)}"
    return f"{program()}{flags}"


def _next(llmctl: str) -> str:
    lines = [
        "! No limit yet: any key can spend without end.",
        "Next:",
        f"  {llmctl} limit set --org --cost 200 --per month",
        f"  {llmctl} user add alice",
        f"  {llmctl} serve",
    ]
    return "\n".join(lines)
