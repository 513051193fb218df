"""How commands are declared: Typer underneath, with flags that work before and after a command's name, help without
boxes, and mistakes as one line.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from . import help as help_page
from .errors import UsageMistake
from .render import COLORS, FOCUS, FORMATS

if TYPE_CHECKING:
    from typer._click.core import Command as AnyCommand
    from typer._click.core import Context, Parameter

    # The only way to name these types: Typer vendors click and does not export it.

HELP_NAMES = ["-h", "--help"]


class Command(TyperCommand):
    """One verb: `llmctl user add`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_text_as_it_is(self.params)
        self.params = [*self.params, *flags_of(_common)]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        with _mistakes_of(ctx):
            return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        return _light(super().get_help_option(ctx))

    def get_help(self, ctx: Context) -> str:
        return help_page.of_command(self, ctx)


class Branching(Command):
    """A command that has verbs besides: `llmctl usage`, and `llmctl usage reprice`. It takes no arguments itself."""

    module = ""  # where its verbs are; imported only when one is asked for

    @cached_property
    def commands(self) -> dict[str, Command]:
        found = built(importlib.import_module(self.module).app)
        assert isinstance(found, Command) and found.name
        return {found.name: found}

    def make_context(self, info_name: str | None, args: list[str], parent: Context | None = None, **more: Any) -> Any:
        place = _first_word(args)
        if place is None or args[place] not in self.commands:
            return super().make_context(info_name, args, parent, **more)
        rest = args[:place] + args[place + 1 :]
        return self.commands[args[place]].make_context(f"{info_name} {args[place]}", rest, parent, **more)

    def get_help(self, ctx: Context) -> str:
        return help_page.of_command(self, ctx, self.commands.values())


def _first_word(args: list[str]) -> int | None:
    """The place of the first argument that is no common flag, nor the value of one; None: other flags come first."""
    common = {name: param for param in flags_of(_common) for name in param.opts}
    place = 0
    while place < len(args) and args[place].startswith("-"):
        flag = args[place]
        name, joined, _ = flag.partition("=") if flag.startswith("--") else (flag[:2], flag[2:], "")
        if name not in common:
            return None
        takes_next = not joined and not getattr(common[name], "is_flag", False)
        place += 2 if takes_next else 1
    return place if place < len(args) else None


class Noun(TyperGroup):
    """`llmctl user`: bare, it prints its help. Nouns with one meaning are commands of their own (`llmctl usage`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"invoke_without_command": True, "callback": None}
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *flags_of(_common)]

    def invoke(self, ctx: Context) -> Any:
        if not ctx._protected_args:
            typer.echo(ctx.get_help())
            return None
        return super().invoke(ctx)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        with _mistakes_of(ctx):
            return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        return _light(super().get_help_option(ctx))

    def get_help(self, ctx: Context) -> str:
        return help_page.of_noun(self, ctx)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, AnyCommand | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            suggestion = f'did you mean "{close[0]}"?  ' if close else ""
            raise UsageMistake(
                f'no command "{ctx.command_path} {args[0]}"', hint=f"{suggestion}See: {ctx.command_path} --help"
            )
        return super().resolve_command(ctx, args)


@contextmanager
def _mistakes_of(ctx: Context) -> Iterator[None]:
    """Typer's parser does not say in which command a mistake is; the hint wants to know."""
    try:
        yield
    except typer.TyperException as mistake:
        if getattr(mistake, "ctx", None) is None:
            mistake.ctx = ctx  # type: ignore[attr-defined]
        raise


def noun(help_text: str) -> typer.Typer:
    """The declaration of a noun; its verbs are added with `@app.command(cls=Command)`, see `verb`."""
    return typer.Typer(cls=Noun, help=help_text, rich_markup_mode=None, add_completion=False)


def verb(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function as `llmctl NOUN name`; its docstring is the help."""
    return app.command(name, cls=Command)


def single(name: str) -> tuple[typer.Typer, Callable[[Callable[..., None]], Callable[..., None]]]:
    """A noun that is a command itself: `llmctl usage`."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    return app, app.command(name, cls=Command)


def branching(name: str, module: str) -> tuple[typer.Typer, Callable[[Callable[..., None]], Callable[..., None]]]:
    """The same with a verb besides, which is the command of that module: `llmctl usage reprice`."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    return app, app.command(name, cls=type("Branching", (Branching,), {"module": module}))


def built(app: typer.Typer) -> Command | Noun:
    command = typer.main.get_command(app)
    assert isinstance(command, Command | Noun)
    return command


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: object) -> object:
    """Common flags end in one place, wherever they stand. A flag that is not given changes nothing."""
    choices = {"format_": FORMATS, "color": COLORS}.get(str(param.name))
    if value and choices and value not in choices and (param.name, value) != ("format_", FOCUS):
        raise UsageMistake(f"{param.opts[0]} {value} is not possible", hint=f"write one of {', '.join(choices)}")
    if value:
        setattr(ctx.obj.flags, str(param.name), value)
    return value


def _flag(*names: str, **more: Any) -> Any:
    return typer.Option(*names, expose_value=False, callback=_keep, **more)


def _common(
    config: Annotated[str | None, _flag("--config", metavar="FILE", help="Configuration file.")] = None,
    database: Annotated[str | None, _flag("--database", metavar="FILE", help="Database file.")] = None,
    format_: Annotated[str | None, _flag("-o", "--format", metavar="FORMAT", help="table, json or csv.")] = None,
    quiet: Annotated[bool, _flag("-q", "--quiet", help="No prose, only results.")] = False,
    color: Annotated[str | None, _flag("--color", metavar="WHEN", help="auto, always or never.")] = None,
) -> None:
    """Only its parameters count."""


def flags_of(function: Callable[..., None]) -> list[Parameter]:
    """The parameters of a function, as Typer reads them."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    params = typer.main.get_command(app).params
    _take_text_as_it_is(params)
    return params


class _AsItIs:
    """Typer hands every value, even plain text, to Pydantic, whose import takes longer than all else that a command
    does (measured: 0.12 of 0.19 s). Our parameters are texts and flags: what is more, the command parses itself.

    No flag takes an empty text: `--model "$MODEL"` would be for all models where a script forgot to set MODEL.
    """

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
        if param.param_type_name == "option" and any(not text.strip() for text in texts):
            hint = f"write {param.opts[-1]} {param.metavar}"
            raise UsageMistake(f"{param.opts[-1]} is empty", hint=hint if param.required else f"{hint} or leave it out")
        return () if value is None and (param.multiple or param.nargs == -1) else value


def _light(option: TyperOption | None) -> TyperOption | None:
    if option is not None:
        _take_text_as_it_is([option])
    return option


def _take_text_as_it_is(params: list[Parameter]) -> None:
    for param in params:
        annotation = param.type_descriptor.annotation  # type: ignore[attr-defined]
        assert annotation in (str, bool, list[str]), (param.name, annotation)
        param._runtime_param = _AsItIs()  # type: ignore[attr-defined]
