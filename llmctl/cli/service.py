"""`llmctl service`: the gateway as a service of systemd."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import LlmctlError

from . import context
from .ask import DryRun, Yes, confirm
from .command import noun, verb
from .context import program
from .unit import CREDENTIALS, STATE, Unit

if TYPE_CHECKING:
    from llmctl.config import Config

    from .context import App

NAME = "llmctl.service"
UNITS = "/etc/systemd/system"
NOBODY = (-1, -1)  # the account is not there yet

app = noun("""
The gateway as a service of systemd: it says when it serves, is watched, reloads, and is shut off from the machine.

  sudo llmctl init --system      /etc/llmctl/config.toml, /var/lib/llmctl
  sudo llmctl service install    the unit, and what is left to do
""")

RunAs = Annotated[str, typer.Option("--run-as", metavar="ACCOUNT", help="The system user that it runs as.")]


@verb(app, "print")
def print_(ctx: typer.Context, run_as: RunAs = "llmctl") -> None:
    """Print the unit for this configuration."""
    run = context.of(ctx)
    text = _unit(run, run_as).text()
    if run.out.format == "json":
        run.out.one({"name": NAME, "unit": text}, "")
    else:
        run.out.line(text.rstrip("\n"))


@verb(app, "install")
def install(
    ctx: typer.Context,
    run_as: RunAs = "llmctl",
    directory: Annotated[
        str, typer.Option("--directory", metavar="DIRECTORY", help="Where units are. Default: /etc/systemd/system.")
    ] = UNITS,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Write the unit for this configuration, and say what is left to do. It starts and stops nothing."""
    run = context.of(ctx)
    unit, path = _unit(run, run_as), Path(directory) / NAME
    text = unit.text()
    before = _read(path)
    warnings = _warnings(unit)
    values = {"path": str(path), "changed": text != before, "next": _next(unit), "warnings": warnings}
    warned = "".join(f"! {line}\n" for line in warnings)
    steps = "\n".join(["Next:", *(f"  {line}" for line in _next(unit))])
    if text == before:
        run.out.one(values, f"{warned}{path} is so: unchanged.")
        return
    if dry_run:
        run.out.one(values | {"changed": False}, f"Would write {path}.")
        return
    if before is not None:
        confirm(run, f"Replace {path}?", yes=yes)
    try:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
    except OSError as error:
        hint = "run it with sudo, or print it: llmctl service print"
        raise LlmctlError(f"cannot write {path}: {error.strerror}", hint=hint) from None
    run.out.one(values, f"{warned}Wrote {path}.\n{steps}")


def _unit(run: App, user: str) -> Unit:
    config = run.config
    called = program()
    words = (sys.executable, "-m", "llmctl") if " -m " in called else (str(_absolute(called)),)
    return Unit(
        program=words,
        interpreter=Path(sys.executable).resolve(),
        config=config.path.absolute(),
        database=config.database.absolute(),
        user=user,
        credentials=tuple(sorted(_variables(config))),
        port=config.server.listen.port,
        socket=config.server.listen.path,
        shutdown_s=config.server.timeouts.shutdown_s,
    )


def _variables(config: Config) -> set[str]:
    """Where secrets are looked for, of providers and of who is told of alerts."""
    from llmctl.config.alerts import secrets

    found = [source.env for provider in config.providers.values() for source in provider.credentials]
    found += [secret.env for receiver in config.alerts.receivers.values() for secret in secrets(receiver)]
    return {name for variables in found for name in variables.split(":") if name}


def _absolute(called: str) -> Path:
    import shutil

    return Path(shutil.which(called) or called).absolute()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _warnings(unit: Unit) -> list[str]:
    """What the account that it runs as could not start, or read."""
    try:
        account = pwd.getpwnam(unit.user)
        ids = (account.pw_uid, account.pw_gid)
    except KeyError:
        ids = NOBODY
    warnings = []
    for path, needed in (*((path, os.X_OK) for path in unit.programs), (unit.config, os.R_OK)):
        way = (*((each, os.X_OK) for each in reversed(path.parents)), (path, needed))
        closed = next((each for each, right in way if not _is_open_to(ids, each, right)), None)
        if closed is not None:
            what = "is not open" if closed == path else f"is in {closed}, which is not open"
            warnings.append(f"{path} {what} to {unit.user}: the service could not start")
    return warnings


def _is_open_to(ids: tuple[int, int], path: Path, right: int) -> bool:
    """Of an account that is in no group but its own."""
    try:
        found = path.stat()
    except OSError:
        return True  # others will say so
    uid, gid = ids
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return bool(found.st_mode >> shift & right)


def _next(unit: Unit) -> list[str]:
    """What only an admin can do. A secret goes through stdin: never onto a command line."""
    steps = []
    try:
        pwd.getpwnam(unit.user)
    except KeyError:
        steps.append(f"useradd --system --home-dir {STATE} --shell /usr/sbin/nologin {unit.user}")
    if unit.credentials:
        steps.append(f"install -d -m 0700 {CREDENTIALS}")
        steps += [
            f"install -m 0600 /dev/stdin {CREDENTIALS / name}    # paste it, then Ctrl-D" for name in unit.credentials
        ]
    return [*steps, "systemctl daemon-reload", f"systemctl enable --now {NAME}"]
