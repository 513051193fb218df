"""Options that several commands take: declared once, so that the same flag means the same everywhere."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageMistake

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.scopes import Scope

IfNotExists = Annotated[bool, typer.Option("--if-not-exists", help="Change nothing if it exists already.")]
IfExists = Annotated[bool, typer.Option("--if-exists", help="Change nothing if it does not exist.")]
Org = Annotated[bool, typer.Option("--org", help="On the whole organisation.")]
OnGroup = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="On a group and all below it.")]
OnUser = Annotated[str | None, typer.Option("--user", metavar="USER", help="On a user.")]
OnKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="On a key: its id or user/name.")]

Newest = Annotated[str, typer.Option("-n", "--limit", metavar="N", help="How many. Default: 50.")]


def scope(tx: Tx, *, org: bool, group: str | None, user: str | None, key: str | None) -> Scope | None:
    """The one principal that was named; None if there was none. Raises UsageMistake for two, NotFound."""
    from llmctl.store import scopes

    check_one_scope(org=org, group=group, user=user, key=key)
    if org:
        return scopes.ORGANISATION
    if group is not None:
        return scopes.of_group(tx, group)
    if user is not None:
        return scopes.of_user(tx, user)
    return scopes.of_key(tx, key) if key is not None else None


def check_one_scope(*, org: bool, group: str | None, user: str | None, key: str | None, needed: bool = False) -> None:
    """Never silently the organisation: a forgotten flag must not change it for everybody."""
    named = int(org) + sum(value is not None for value in (group, user, key))
    if named > 1 or (needed and named == 0):
        what = "more than one of" if named else "none of"
        raise UsageMistake(f"{what} --org, --group, --user, --key is given", hint="name exactly one")


def differs(name: str, value: str | None, none: bool) -> None:
    """`--group sales --no-group` says two things. Raises UsageMistake."""
    if value is not None and none:
        raise UsageMistake(f"--{name} and --no-{name} are both given", hint="name one of them")


def whole_number(text: str, flag: str, *, least: int = 0) -> int:
    """`500`, `500k`, `2M`. Raises UsageMistake."""
    number, factor = text, 1
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), size
    with suppress(ValueError):
        if number.isascii() and number.isdigit() and least <= int(number) * factor <= 10**15:
            return int(number) * factor
    raise UsageMistake(f"{flag} {text!r} is not a number", hint="write it as 500, 500k or 2M")
