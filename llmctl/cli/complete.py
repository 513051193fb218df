"""What the shell's completion asks for: the words of a command line in, what may follow out. Silent on any error."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .app import Program
from .command import Branching, Noun
from .context import App
from .render import COLORS, FORMATS

if TYPE_CHECKING:
    from typer._click.core import Command, Parameter

WORDS = {
    "FORMAT": FORMATS,
    "WHEN": COLORS,
    "WINDOW": ("minute", "hour", "day", "week", "month", "total"),
    "MEMBER": ("user", "end-user"),
}


def answer(app: App, args: Sequence[str]) -> list[str]:
    """What may stand in place of the last word."""
    *before, current = args or [""]
    program = Program(name="llmctl")
    command: Command = program
    arguments: list[str] = []
    waiting: Parameter | None = None
    for word in before:
        if waiting is not None:
            _remember(app, waiting, word)
            waiting = None
        elif word.startswith("-") and word != "-":
            waiting = _option(command, word)
        elif isinstance(command, Branching) and word in command.commands:
            command = command.commands[word]
        elif isinstance(command, Noun):
            found = command.get_command(command.make_context(None, [], resilient_parsing=True), word)
            if found is None:
                return []
            command = found
        else:
            arguments.append(word)
    if waiting is not None:
        return _values(app, waiting.metavar or "", current)
    if current.startswith("-"):
        flags = {flag for param in command.params for flag in param.opts if flag.startswith("--")}
        return sorted(flag for flag in flags | {"--help"} if flag.startswith(current))
    if isinstance(command, Branching):
        return [name for name in command.commands if name.startswith(current)]
    if isinstance(command, Noun):
        listed = command.list_commands(command.make_context(None, [], resilient_parsing=True))
        return [name for name in listed if name.startswith(current)]
    places = [param for param in command.params if param.param_type_name == "argument"]
    return _values(app, places[len(arguments)].metavar or "", current) if len(arguments) < len(places) else []


def _option(command: Command, word: str) -> Parameter | None:
    """The option of this name that waits for a value."""
    for param in command.params:
        if word in param.opts and not getattr(param, "is_flag", False):
            return param
    return None


def _remember(app: App, option: Parameter, value: str) -> None:
    if option.name in ("config", "database"):
        setattr(app.flags, option.name, value)


def _values(app: App, metavar: str, current: str) -> list[str]:
    if metavar in WORDS:
        return [word for word in WORDS[metavar] if word.startswith(current)]
    if metavar == "FILE":
        return _files(current)
    from llmctl.store import completion

    with suppress(Exception), app.reading() as tx:
        return completion.names(tx, metavar, current)
    return []


def _files(current: str) -> list[str]:
    folder, slash, start = current.rpartition("/")
    with suppress(OSError):
        found = Path(f"{folder}{slash}" or ".").iterdir()
        return sorted(
            f"{folder}{slash}{one.name}{'/' if one.is_dir() else ''}" for one in found if one.name.startswith(start)
        )[:50]
    return []
