"""`llmctl`: the table of commands, and what happens when one fails."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TextIO

import typer

from llmctl import __version__
from llmctl.domain.errors import LlmctlError

from . import errors
from . import help as help_page
from .command import HELP_NAMES, Noun, built, flags_of
from .context import App

if TYPE_CHECKING:
    from typer._click.core import Command as AnyCommand
    from typer._click.core import Context

ABOUT = "Keys, limits and exact metering for LLM APIs: one gateway, one SQLite file."


class Row(NamedTuple):
    name: str
    module: str  # imported only when this command runs
    help: str


COMMANDS: dict[str, tuple[Row, ...]] = {
    "Start": (
        Row("init", "llmctl.cli.init", "Make a configuration and a database."),
        Row("serve", "llmctl.cli.serve", "Run the gateway."),
        Row("reload", "llmctl.cli.reload", "Have the running gateway read its configuration anew."),
        Row("service", "llmctl.cli.service", "The gateway as a service of systemd."),
        Row("completion", "llmctl.cli.completion", "Complete commands and names in bash, zsh or fish."),
        Row("doctor", "llmctl.cli.doctor", "Whether all is well, and what to do if not."),
        Row("migrate", "llmctl.cli.migrate", "Bring the database of an older llmctl up to date."),
        Row("backup", "llmctl.cli.backup", "Copy the database, while it is in use."),
        Row("restore", "llmctl.cli.restore", "Put a copy in the place of the database."),
        Row("prune", "llmctl.cli.prune", "Forget old calls; sums stay."),
        Row("config", "llmctl.cli.config", "Find and check the configuration."),
    ),
    "The organisation": (
        Row("group", "llmctl.cli.group", "Groups: departments, or tiers of customers."),
        Row("user", "llmctl.cli.user", "Users: people, or apps."),
        Row("key", "llmctl.cli.key", "Keys: what users show the gateway."),
        Row("model", "llmctl.cli.model", "Who may use which models."),
        Row("limit", "llmctl.cli.limit", "Limits on cost, tokens, requests and calls at once."),
        Row("export", "llmctl.cli.export", "The organisation as TOML: groups, users, access, limits."),
        Row("apply", "llmctl.cli.apply", "Bring the organisation to what a TOML file says."),
        Row("price", "llmctl.cli.price", "What models cost."),
        Row("provider", "llmctl.cli.provider", "Providers: who serves and bills."),
    ),
    "What happened": (
        Row("usage", "llmctl.cli.usage", "Who used how much, and how much of the limits is gone."),
        Row("calls", "llmctl.cli.calls", "The single calls."),
        Row("why", "llmctl.cli.why", "Why a call passed or not: every limit that was looked at."),
        Row("status", "llmctl.cli.status", "Whether the gateway is up, and what is near its end."),
        Row("top", "llmctl.cli.top", "What goes on now, live."),
        Row("content", "llmctl.cli.content", "Prompts and answers, of groups that want them kept."),
        Row("alert", "llmctl.cli.alert", "What the gateway told, and whom it reached."),
        Row("audit", "llmctl.cli.audit", "Who changed what, and when."),
    ),
}
MODULES = {row.name: row.module for rows in COMMANDS.values() for row in rows}


class Program(Noun):
    """The root: it knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: Context, cmd_name: str) -> AnyCommand | None:
        if cmd_name not in self.commands and cmd_name in MODULES:
            self.commands[cmd_name] = built(importlib.import_module(MODULES[cmd_name]).app)
        return self.commands.get(cmd_name)

    def get_help(self, ctx: Context) -> str:
        sections = [(title, [(row.name, row.help) for row in rows]) for title, rows in COMMANDS.items()]
        return help_page.of_program(ctx, ABOUT, sections)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"llmctl {__version__}")
        raise typer.Exit


def _version(
    version: Annotated[
        bool, typer.Option("--version", help="The version.", callback=_print_version, is_eager=True, expose_value=False)
    ] = False,
) -> None:
    """Only its parameter counts."""


def run(args: Sequence[str], *, clock_s: Callable[[], float] = time.time) -> int:
    """Runs one command line; returns its exit code."""
    app = App(clock_s, has_stdout=sys.stdout is not None)
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout, sys.stderr = sys.stdout or _nowhere("w"), sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character must not end the command
    if os.environ.get("_LLMCTL_COMPLETE"):
        return _complete(app, args)
    settings = {"help_option_names": HELP_NAMES}
    program = Program(name="llmctl", context_settings=settings, params=flags_of(_version))
    try:
        _check_text(args)
        with program.make_context("llmctl", list(args), obj=app) as ctx:
            program.invoke(ctx)
        sys.stdout.flush()
    except typer.Exit as exit_:
        return exit_.exit_code
    except LlmctlError as error:
        if error.code == "no_database":
            from .init import command_for

            error.hint += f", or: {command_for(app)}"
        return _failed(error, args)
    except typer.TyperException as mistake:
        return _failed(_usage_mistake(mistake), args)
    except (typer.Abort, KeyboardInterrupt):
        return errors.EXIT_INTERRUPTED
    except BrokenPipeError:
        # `llmctl calls | head`: the reader has what it wanted. Nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if not _output_is_full(error):
            return _bug(error, args)
        hint = "what was to be done may be done: look before you repeat it"
        return _failed(LlmctlError(f"cannot write the output: {error.strerror}", hint=hint, code="output"), args)
    except Exception as error:
        return _bug(error, args)
    finally:
        app.close()
    return errors.EXIT_OK


def _check_text(args: Sequence[str]) -> None:
    """Bytes that are no text reach Python as lone surrogates: they go neither into the database nor to a terminal."""
    for arg in args:
        try:
            arg.encode()
        except UnicodeEncodeError:
            shown = arg.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise errors.UsageMistake(f"argument '{shown}' is not UTF-8", hint="write it as UTF-8") from None


def _bug(error: Exception, args: Sequence[str]) -> int:
    if os.environ.get("LLMCTL_DEBUG"):
        traceback.print_exc()
    text = f"{type(error).__name__}: {error}"
    return _failed(LlmctlError(text, hint="this is a bug; LLMCTL_DEBUG=1 shows where", code="bug"), args)


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    """In the place of a stream that was closed (`llmctl user disable alice >&-`): what is to be done is done."""
    return Path(os.devnull).open(mode, encoding="utf-8")


def _output_is_full(error: OSError) -> bool:
    """Whether it is our own output that cannot be written: all else that has to do with files names one. If so, what is
    left of it must not be tried again at exit."""
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _complete(app: App, args: Sequence[str]) -> int:
    """For the shell: no word of ours may disturb the line that somebody is typing."""
    from .complete import answer

    try:
        for name in answer(app, args):
            typer.echo(name)
    except Exception:
        return errors.EXIT_FAILED
    finally:
        app.close()
    return errors.EXIT_OK


def _failed(error: LlmctlError, args: Sequence[str]) -> int:
    errors.report(error, as_json=_wants_json(args), stream=sys.stderr)
    return errors.exit_code(error)


def _usage_mistake(mistake: typer.TyperException) -> errors.UsageMistake:
    """Typer's message in our words: no capital, no full stop, and where to look."""
    context = getattr(mistake, "ctx", None)
    see = f"See: {context.command_path if context is not None else 'llmctl'} --help"
    if hasattr(mistake, "possibilities"):
        flag = getattr(mistake, "option_name", "")
        close = "-o json" if flag == "--json" else " or ".join(mistake.possibilities or ())
        return errors.UsageMistake(f"no flag {flag}", hint=f"did you mean {close}?  {see}" if close else see)
    message = mistake.format_message().strip().rstrip(".")
    if surplus := _SURPLUS.fullmatch(message):
        return errors.UsageMistake(f"{surplus[1]} is one argument too many", hint=see)
    return errors.UsageMistake(message[:1].lower() + message[1:], hint=see)


_SURPLUS = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)


def _wants_json(args: Sequence[str]) -> bool:
    """Whether errors are to be JSON. From the arguments themselves: parsing them may be what failed."""
    joined = {"-ojson", "--format=json"}
    apart = [("-o", "json"), ("--format", "json")]
    return any(arg in joined for arg in args) or any(pair in apart for pair in pairwise(args))
