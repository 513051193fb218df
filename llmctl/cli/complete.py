"""What the shell's completion asks for: the words of a command line in, what may follow out. Silent on any error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from llmctl.domain.alert import KINDS

from .app import Program
from .command import Branching, Noun
from .completion import SCRIPTS
from .context import App
from .render import COLORS, FORMATS, Column

if TYPE_CHECKING:
    from typer._click.core import Command, Parameter

WORDS = {
    "FORMAT": FORMATS,
    "WHEN": COLORS,
    "WINDOW": ("minute", "hour", "day", "week", "month", "total"),
    "MEMBER": ("user", "end-user"),
    "KIND": KINDS,
    "SHELL": tuple(SCRIPTS),
}
UTC = ZoneInfo("UTC")
# Where the columns of each list are, and how to get them, for --sort.
SORTED: Mapping[str, tuple[str, Callable[[Any, App], Iterable[Column[Any]]]]] = {
    "alert list": ("alert", lambda module, run: module.columns(run)),
    "audit": ("audit", lambda module, run: module.columns(run)),
    "calls": ("calls_table", lambda module, run: module.columns(run, UTC)),
    "content list": ("content", lambda module, run: module.COLUMNS),
    "group list": ("group", lambda module, run: module.columns()),
    "key list": ("key_table", lambda module, run: module.columns(run, {})),
    "limit list": ("limit_table", lambda module, run: module.columns(run)),
    "model list": ("model", lambda module, run: module.columns()),
    "price history": ("price_table", lambda module, run: module.history_columns(run)),
    "price list": ("price_table", lambda module, run: module.columns(run)),
    "provider list": ("provider", lambda module, run: module.columns()),
    "usage": ("usage_table", lambda module, run: module.sort_columns([])),
    "user list": ("user_table", lambda module, run: module.columns(run, {})),
}


def answer(app: App, args: Sequence[str]) -> list[str]:
    """What may stand in place of the last word."""
    *before, current = args or [""]
    program = Program(name="llmctl")
    command: Command = program
    path: list[str] = []
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
            path.append(word)
        elif isinstance(command, Noun):
            found = command.get_command(command.make_context(None, [], resilient_parsing=True), word)
            if found is None:
                return []
            command = found
            path.append(word)
        else:
            arguments.append(word)
    if waiting is not None:
        return _values(app, waiting.metavar or "", current, " ".join(path))
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


def _values(app: App, metavar: str, current: str, path: str = "") -> list[str]:
    if metavar in WORDS:
        return [word for word in WORDS[metavar] if word.startswith(current)]
    if metavar == "FILE":
        return _files(current)
    with suppress(Exception):
        if metavar == "COLUMN":
            return _sorted_by(app, path, current)
        if metavar == "COLUMNS":
            return _reported_by(current)
        if metavar == "PROVIDER":
            return [name for name in app.config.providers if name.startswith(current)]
        return _names(app, metavar, current)
    return []


def _names(app: App, metavar: str, current: str) -> list[str]:
    from llmctl.store import completion

    catalogues: list[str] = []
    if metavar == "MODEL":
        catalogues = [name for one in app.config.providers.values() for name in (one.name, one.catalogue)]
    with app.reading() as tx:
        return completion.names(tx, metavar, current, catalogues)


def _sorted_by(app: App, path: str, current: str) -> list[str]:
    """`cost_usd`, or `-cost_usd` where a dash is there already."""
    module, columns_of = SORTED[path]
    dash = "-" if current.startswith("-") else ""
    columns = columns_of(import_module(f"llmctl.cli.{module}"), app)
    names = [f"{dash}{column.name}" for column in columns if column.value is not None]
    return [name for name in dict.fromkeys(names) if name.startswith(current)]


def _reported_by(current: str) -> list[str]:
    """`user,d` -> `user,day`."""
    from llmctl.store.usage import BYS

    before, comma, begin = current.rpartition(",")
    return [f"{before}{comma}{name}" for name in BYS if name.startswith(begin)]


def _files(current: str) -> list[str]:
    folder, slash, start = current.rpartition("/")
    with suppress(OSError):
        found = Path(f"{folder}{slash}" or ".").iterdir()
        return sorted(
            f"{folder}{slash}{one.name}{'/' if one.is_dir() else ''}" for one in found if one.name.startswith(start)
        )[:50]
    return []
