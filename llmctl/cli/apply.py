"""`llmctl apply`: the organisation becomes what a TOML file says, after a look at what that changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import BadInput, LlmctlError
from llmctl.domain.limit import Limit
from llmctl.domain.organisation import Change, LimitSpec, Plan, plan
from llmctl.domain.scope import ORGANISATION

from . import aliases, context, humanize
from .ask import DryRun, Yes, confirm
from .command import single
from .errors import BadFile, UsageMistake
from .humanize import plural
from .overview import limit_text
from .render import GREEN, RED, YELLOW, Column, record
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.domain.organisation import Organisation
    from llmctl.store.audit import Author
    from llmctl.store.database import Tx

    from .context import App

EXIT_PENDING = 3
KEPT_SHOWN_MAX = 10

app, command = single("apply")


class _Rehearsed(Exception):
    """Ends a transaction that was only to show that it can be done."""


@command
def apply(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What llmctl export writes; - reads stdin.")],
    prune: Annotated[bool, typer.Option("--prune", help="Also remove what the file does not name.")] = False,
    dry_run: DryRun = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --dry-run: exit with 3 if there is something to change.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Bring groups, users, model access and limits to what a TOML file says: all of it, or nothing.

    It shows what it will change, and on a terminal asks. What the file does not name stays as it is, unless you
    --prune. Keys and prices are never touched; removed users lose theirs.
    """
    from llmctl.store import organisation

    if exit_code and not dry_run:
        raise UsageMistake("--exit-code goes with --dry-run", hint="add it, or leave --exit-code out")
    run = context.of(ctx)
    said = _read(file, run.now_s)
    wanted = aliases.taken(file, said, run.config.aliases)
    zone = run.config.timezone

    def planned(tx: Tx) -> Plan:
        return plan(organisation.read(tx, default_zone=zone, now_s=run.now_s), wanted, prune=prune)

    def perform(tx: Tx, author: Author, now: Plan) -> None:
        if now != steps:
            raise LlmctlError("the organisation was changed meanwhile", hint="nothing was applied: run it again")
        organisation.perform(tx, author, steps.changes, default_zone=zone)

    with _mistakes_of(file):
        with run.reading() as tx:
            steps = planned(tx)
        if steps.changes:
            with suppress(_Rehearsed), run.writing() as (tx, author):
                organisation.perform(tx, author, steps.changes, default_zone=zone)
                raise _Rehearsed
    _show(run, steps, aliases.named(said, run.config.aliases), applied=not dry_run)
    if dry_run:
        if exit_code and steps.changes:
            raise typer.Exit(EXIT_PENDING)
        return
    if not steps.changes:
        return
    _ask(run, steps, yes=yes)
    run.change(planned, perform)
    if run.out.format == "table":
        run.out.one({}, f"Applied {plural(len(steps.changes), 'change')}.")
    new = [change.member.name for change in steps.changes if change.noun == "user" and change.before is None]
    if new:
        run.out.prose(f"{plural(len(new), 'new user')} without a key. Next: llmctl key create {new[0]}")


def _read(file: str, now_s: int) -> Organisation:
    from . import organisation_file

    size = organisation_file.FILE_BYTES_MAX + 1
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(size)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(size)
    except OSError as error:
        raise LlmctlError(f"cannot read {file}: {error.strerror}", hint="name a file of llmctl export") from None
    if file == "-" and not raw:  # whoever was to write it has failed: with --prune it would be the end of everybody
        raise LlmctlError("nothing on stdin", hint="llmctl apply - < FILE")
    if len(raw) >= size:
        raise LlmctlError(f"{file} is larger than {size >> 20} MiB", hint="name a file of llmctl export")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LlmctlError(f"{file} is not UTF-8, at byte {error.start}", hint="save it as UTF-8") from None
    return organisation_file.read(Path(file), text, now_s=now_s)


@contextmanager
def _mistakes_of(file: str) -> Iterator[None]:
    """What cannot be used comes from the file, not from the command line."""
    try:
        yield
    except BadInput as error:
        raise BadFile(f"{file}: {error.message}", hint=error.hint) from None


def _ask(run: App, steps: Plan, *, yes: bool) -> None:
    """On a terminal always; elsewhere only what removes something needs --yes."""
    removed = sum(change.after is None for change in steps.changes)
    if removed or (sys.stdin.isatty() and sys.stderr.isatty()):
        gone = f" ({plural(removed, 'removal')})" if removed else ""
        confirm(run, f"Apply {plural(len(steps.changes), 'change')}{gone}?", yes=yes)


def _show(run: App, steps: Plan, named: Mapping[str, str], *, applied: bool) -> None:
    if run.out.format == "json":
        columns = _columns()
        values = {
            "changes": [record(columns, change) for change in steps.changes],
            "kept": [record(columns, change) for change in steps.kept],
            "missing_keys": list(steps.no_keys),
            "aliases": dict(named),
            "dry_run": not applied,
        }
        run.out.one(values, "")
        return
    if run.out.format == "csv":
        run.out.rows(_columns(), steps.changes)
        return
    if steps.changes:
        lines = run.out.table([one for one in _columns() if one.title], steps.changes)
        colors = {"+": GREEN, "~": YELLOW, "-": RED}
        painted = [run.out.paint(line, colors[line[0]]) for line in lines[1:]]
        run.out.one({}, "\n".join([*painted, "", _summary(steps)]))
    else:
        run.out.one({}, "Nothing to change.")
    for name, model in named.items():
        run.out.prose(f"{name} is {model}")
    for line in _notes(steps):
        run.out.prose(line)


def _summary(steps: Plan) -> str:
    signs = [_sign(change) for change in steps.changes]
    return f"Plan: {signs.count('+')} to add, {signs.count('~')} to change, {signs.count('-')} to remove."


def _notes(steps: Plan) -> list[str]:
    lines = [f"! no key {name}, left out; {_makes(name)}, then apply this again" for name in steps.no_keys]
    if steps.kept:
        shown = [f"{_what(change)} {change.member.name}".rstrip() for change in steps.kept[:KEPT_SHOWN_MAX]]
        more = f" and {len(steps.kept) - len(shown)} more" if len(steps.kept) > len(shown) else ""
        lines.append(f"! not in the file, stays without --prune: {', '.join(dict.fromkeys(shown))}{more}")
    return lines


def _makes(key: str) -> str:
    user, _, name = key.partition("/")
    return f"llmctl key create {user} --name {name}"


def _what(change: Change) -> str:
    if change.noun in ("group", "user"):
        return change.noun
    return f"{'rule' if change.noun == 'model' else 'limit'} of {change.member.kind}"


def _columns() -> tuple[Column[Change], ...]:
    return (
        Column("sign", None, " ", _sign, fixed=True),
        Column("action", lambda c: {"+": "add", "~": "change", "-": "remove"}[_sign(c)]),
        Column("what", lambda c: c.noun, "WHAT", fixed=True),
        Column("on", None, "ON", lambda c: c.member.name or "organisation", fixed=True),
        Column("kind", lambda c: c.member.kind),
        Column("name", lambda c: c.member.name or None),
        Column("before", lambda c: _text(c.before) or None),
        Column("after", lambda c: _text(c.after) or None),
        Column("change", None, "CHANGE", _difference, fixed=True),  # who says yes has to see all of it
    )


def _sign(change: Change) -> str:
    if change.before is None:
        return "+"
    return "-" if change.after is None else "~"


def _difference(change: Change) -> str:
    before, after = change.before, change.after
    if isinstance(before, dict) and isinstance(after, dict):
        return ", ".join(
            f"{name} {_value(before[name])} -> {_value(after[name])}" for name in after if before[name] != after[name]
        )
    return " -> ".join(text for text in (_text(before), _text(after)) if text) or "-"


def _text(side: object) -> str:
    if isinstance(side, LimitSpec):
        limit = Limit(0, ORGANISATION, side.each, side.measure, side.window, "UTC", side.models, side.amount, side.soft)
        each = f" for each {side.each.replace('_', '-')}" if side.each else ""
        ordered = sorted(side.grants, key=lambda grant: (grant.until_s, grant.member))
        amounts = [humanize.set_amount(side.measure, one.amount) for one in ordered]
        more = [
            f"{amount} more for {one.member or 'all'} until {rfc3339(one.until_s)}"
            for amount, one in zip(amounts, ordered, strict=True)
        ]
        return "; ".join([limit_text(limit) + each, *more])
    if isinstance(side, tuple):
        pattern, effect = side
        return f"{effect} {pattern}"
    if isinstance(side, dict):
        return ", ".join(f"{name} {_value(value)}" for name, value in side.items() if value)
    return ""


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value or "none")
