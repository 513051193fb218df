"""`llmctl provider`: who serves and bills, as the configuration has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import ConfigError

from . import context
from .command import noun, verb
from .humanize import milliseconds
from .options import Sort, containing, in_order
from .provider_check import Answer, ask, source_name
from .render import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmctl.config import Config, Provider

app = noun("""
Providers: who serves and bills. They stand in the configuration: [providers.NAME] of config.toml.

  llmctl provider check           is each there, and does it take our credential?
""")


@verb(app, "list")
def list_(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only those whose name or address contains it.")
    ] = None,
    sort: Sort = None,
) -> None:
    """List the providers of the configuration, and where each one's credential comes from."""
    run = context.of(ctx)
    rows = [_row(one) for one in run.config.providers.values()]
    found = containing(text, lambda row: [row.provider.name, row.address], rows)
    notes = [f"! {row.provider.name}: {row.missing}" for row in found if row.missing]
    empty = "No providers: calls find no model. Add [providers.openai] or [providers.sandbox] to the configuration"
    if rows:
        empty = "No providers."
    run.out.rows(columns(), in_order(columns(), found, sort), notes=notes, empty=empty)


@verb(app, "check")
def check(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="PROVIDER", help="Only this one.")] = None,
) -> None:
    """Ask each provider for its models, with each of its credentials. Costs nothing. Ends with 1 if one fails."""
    from llmctl.store import owners

    run = context.of(ctx)
    serving = bool(owners.living(run.database))
    answers = [answer for provider in _named(run.config, name) for answer in _ask(provider, serving=serving)]
    notes = [f"! {answer.provider}: {answer.mend}" for answer in answers if answer.mend]
    empty = "No providers: add [providers.openai] or [providers.sandbox] to the configuration"
    run.out.rows(_answer_columns(), answers, notes=notes, empty=empty)
    if any(answer.state == "failed" for answer in answers):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Row:
    provider: Provider
    missing: str  # why a credential cannot be read, in this process

    @property
    def credentials(self) -> list[str]:
        return [source_name(source) for source in self.provider.credentials]

    @property
    def address(self) -> str:
        return "built in" if self.provider.is_sandbox else next(iter(self.provider.base_urls.values()))


def _row(provider: Provider) -> _Row:
    try:
        for source in provider.credentials:
            source.check()
    except ConfigError as error:
        return _Row(provider, str(error))
    return _Row(provider, "")


def _named(config: Config, name: str | None) -> list[Provider]:
    if name is None:
        return list(config.providers.values())
    if name not in config.providers:
        from llmctl.store.names import unknown

        raise unknown("provider", name, config.providers)
    return [config.providers[name]]


def _ask(provider: Provider, *, serving: bool) -> list[Answer]:
    if provider.is_sandbox:
        return [Answer(provider.name, "none", "ok", "built in: llmctl serve answers itself")]
    return ask(provider, serving=serving)


def columns() -> tuple[Column[_Row], ...]:
    def listed(name: str, title: str, names: Callable[[Provider], Iterable[str]], *, drop: int = 0) -> Column[_Row]:
        return Column(
            name, lambda row: list(names(row.provider)), title, lambda row: _list(names(row.provider)), drop=drop
        )

    return (
        Column("name", lambda row: row.provider.name, "PROVIDER", fixed=True),
        listed("dialects", "DIALECT", lambda provider: sorted(provider.dialects)),
        Column("base_urls", lambda row: dict(row.provider.base_urls)),
        Column("address", None, "ADDRESS", lambda row: row.address, drop=2),
        Column("credentials", lambda row: row.credentials, "CREDENTIAL", lambda row: _list(row.credentials)),
        Column("credential_there", lambda row: not row.missing),
        listed("models", "MODELS", lambda provider: provider.models, drop=1),
        Column("catalogue", lambda row: row.provider.catalogue),
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "-"


def _answer_columns() -> tuple[Column[Answer], ...]:
    return (
        Column("provider", lambda one: one.provider, "PROVIDER", fixed=True),
        Column("credential", lambda one: one.credential, "CREDENTIAL", drop=1),
        Column("state", lambda one: one.state, "STATE", fixed=True),
        Column("text", lambda one: one.text, "WHAT"),
        Column("mend", lambda one: one.mend),
        Column("status", lambda one: one.status),
        Column("models", lambda one: one.models, "MODELS", right=True),
        Column("latency_ms", lambda one: one.latency_ms, "LATENCY", _latency, right=True),
        Column("clock_off_s", lambda one: one.clock_off_s),
    )


def _latency(answer: Answer) -> str:
    return milliseconds(answer.latency_ms)
