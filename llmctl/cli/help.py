"""Help pages: plain text, no boxes, what matters first."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer._click.core import Command, Context, Parameter
    from typer.core import TyperGroup

WIDTH_MAX = 100
NAMES_WIDTH_MAX = 28
GAP = " " * 4  # between an example and what it does
COMMON = ("config", "database", "format_", "quiet", "color", "version", "help")
Rows = Sequence[tuple[str, str]]


def of_command(command: Command, ctx: Context, verbs: Iterable[Command] = ()) -> str:
    own = [param for param in command.get_params(ctx) if param.name not in COMMON]
    arguments = [param for param in own if param.param_type_name == "argument"]
    options = [param for param in own if param.param_type_name == "option"]
    pieces = [ctx.command_path, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])]
    parts = [_usage_line(pieces), text(command.help or "")]
    parts += section("Arguments", [(_metavar(param), _help(param)) for param in arguments if _help(param)])
    parts += section("Options", [(_names(param), _help(param)) for param in options])
    parts += section("Commands", [(verb.name or "", first_line(verb.help or "")) for verb in verbs])
    parts += _common(command, ctx)
    return "\n\n".join(part for part in parts if part)


def of_noun(group: TyperGroup, ctx: Context) -> str:
    rows = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            rows.append((name, first_line(command.help or "")))
    parts = [_usage_line([ctx.command_path, "COMMAND"]), text(group.help or ""), *section("Commands", rows)]
    return "\n\n".join([*parts, *_common(group, ctx)])


def of_program(ctx: Context, about: str, sections: Iterable[tuple[str, Rows]]) -> str:
    parts = [_usage_line([ctx.command_path, "COMMAND"]), text(about)]
    listed = list(sections)
    names_width = max(len(name) for _, rows in listed for name, _ in rows)
    for title, rows in listed:
        parts += section(title, rows, least=names_width)
    return "\n\n".join([*parts, *_common(ctx.command, ctx), f"{ctx.command_path} COMMAND --help tells more."])


def section(title: str, rows: Rows, *, least: int = 0) -> list[str]:
    if not rows:
        return []
    names_width = min(NAMES_WIDTH_MAX, max(least, *(len(name) for name, _ in rows)))
    lines = [f"{title}:"]
    for name, meaning in rows:
        wrapped = textwrap.wrap(meaning, max(20, _width() - names_width - 4)) or [""]
        if len(name) > names_width:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name:<{names_width}}  {wrapped.pop(0)}".rstrip())
        lines += [f"{'':{names_width + 4}}{line}" for line in wrapped]
    return ["\n".join(lines)]


def text(paragraphs: str) -> str:
    """Wrapped to the terminal; examples stay as they are, a line each."""
    blocks = paragraphs.strip("\n").split("\n\n")
    return "\n\n".join(_examples(block) if _is_example(block) else textwrap.fill(block, _width()) for block in blocks)


def _is_example(block: str) -> bool:
    """By its form too: Typer takes the indentation away from what follows a single line."""
    return block.startswith("  ") or all(line.startswith("llmctl ") or GAP in line for line in block.splitlines())


def _examples(block: str) -> str:
    return textwrap.indent(textwrap.dedent(block), "  ")


def first_line(paragraphs: str) -> str:
    return " ".join(inspect.cleandoc(paragraphs).split("\n\n")[0].split())


def _common(command: Command, ctx: Context) -> list[str]:
    params = [param for param in command.get_params(ctx) if param.name in COMMON]
    return section("Common options, wherever you write them", [(_names(param), _help(param)) for param in params])


def _usage_line(pieces: Sequence[str]) -> str:
    return f"Usage: {' '.join(pieces)}"


def _usage(param: Parameter) -> str:
    return _metavar(param) if param.required else f"[{_metavar(param)}]"


def _metavar(param: Parameter) -> str:
    return param.metavar or (param.name or "").upper()


def _names(param: Parameter) -> str:
    # Short names first: Typer keeps --help's in a set.
    names = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        names += " / " + ", ".join(param.secondary_opts)
    takes_value = param.metavar and param.name != "help"
    return f"{names} {param.metavar}" if takes_value else names


def _help(param: Parameter) -> str:
    if param.name == "help":
        return "This page."
    return getattr(param, "help", None) or ""


def _width() -> int:
    return max(40, min(WIDTH_MAX, shutil.get_terminal_size().columns))
