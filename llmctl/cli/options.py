"""Options that several commands take: declared once, so that the same flag means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .errors import UsageMistake, not_possible
from .times import duration_s

if TYPE_CHECKING:
    from llmctl.domain.scope import Scope
    from llmctl.store.database import Tx

    from .render import Column

T = TypeVar("T")

NUMBER_MAX = 10**15  # tokens: more than a year of all providers together
NUMBER_DIGITS_MAX = 20

IfNotExists = Annotated[bool, typer.Option("--if-not-exists", help="Change nothing if it exists already.")]
IfExists = Annotated[bool, typer.Option("--if-exists", help="Change nothing if it does not exist.")]
Org = Annotated[bool, typer.Option("--org", help="On the whole organisation.")]
OnGroup = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="On a group and all below it.")]
OnUser = Annotated[str | None, typer.Option("--user", metavar="USER", help="On a user.")]
OnKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="On a key: its id or user/name.")]

LimitId = Annotated[str, typer.Argument(metavar="LIMIT", help="Its id: l3.")]
AllowFrom = Annotated[
    list[str] | None,
    typer.Option("--allow-from", metavar="NETWORK", help="Only from there: 10.0.0.0/8. More with commas."),
]
Now = Annotated[bool, typer.Option("--now", help="End the calls that are open too, within a second or two.")]
NoAllowFrom = Annotated[bool, typer.Option("--no-allow-from", help="From anywhere.")]

Sort = Annotated[
    str | None, typer.Option("--sort", metavar="COLUMN", help="By this column of -o json; -COLUMN: the highest first.")
]
Unused = Annotated[
    str | None, typer.Option("--unused", metavar="SPAN", help="Only what was not used, and not made, for so long: 90d.")
]
Newest = Annotated[str, typer.Option("-n", "--limit", metavar="N", help="Only the N newest. Default: 50.")]


def scope(tx: Tx, *, org: bool, group: str | None, user: str | None, key: str | None) -> Scope | None:
    """The one principal that was named; None if there was none. Raises UsageMistake for two, NotFound."""
    from llmctl.domain.scope import ORGANISATION
    from llmctl.store import scopes

    check_one_scope(org=org, group=group, user=user, key=key)
    if org:
        return ORGANISATION
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


def in_order(columns: Sequence[Column[T]], rows: Sequence[T], by: str | None) -> Sequence[T]:
    """The rows by a column: numbers as such, texts without regard to case, what is empty last. Raises UsageMistake."""
    if by is None:
        return rows
    named = {column.name: column.value for column in columns if column.value is not None}
    value = named.get(by.removeprefix("-").replace("-", "_"))
    if value is None:
        raise not_possible("--sort", by, named)
    there = [row for row in rows if value(row) not in (None, "")]
    empty = [row for row in rows if value(row) in (None, "")]
    return [*sorted(there, key=lambda row: _comparable(value(row)), reverse=by.startswith("-")), *empty]


def containing(text: str | None, names: Callable[[T], Iterable[str | None]], rows: Iterable[T]) -> list[T]:
    """The rows of which a name contains the text, in any letter case."""
    wanted = (text or "").lower()
    return [row for row in rows if not wanted or any(wanted in (name or "").lower() for name in names(row))]


def unused_since(span: str | None, now_s: int) -> int | None:
    """The moment since which what is listed was neither used nor made. Raises UsageMistake."""
    return None if span is None else now_s - duration_s(span)


def _comparable(value: object) -> tuple[float, str]:
    """Money is text in JSON, and sorts as a number."""
    if isinstance(value, (int, float)):
        return (float(value), "")
    text = str(value)
    with suppress(ValueError):
        return (float(text), "") if text[:1].isdigit() or text[:1] == "-" else (0.0, text.lower())
    return (0.0, text.lower())


def differs(name: str, value: str | None, none: bool) -> None:
    """`--group sales --no-group` says two things. Raises UsageMistake."""
    if value is not None and none:
        raise UsageMistake(f"--{name} and --no-{name} are both given", hint="name one of them")


def networks(allow_from: Sequence[str] | None, none: bool, before: str | None) -> str | None:
    """The networks that are named; `before` where none is, None for no list. Raises UsageMistake, BadInput."""
    from llmctl.domain.network import check_networks

    if none and allow_from:
        raise UsageMistake("--allow-from and --no-allow-from are both given", hint="name one of them")
    if none:
        return None
    return check_networks(allow_from) if allow_from else before


def whole_number(text: str, flag: str, *, least: int = 0) -> int:
    """`500`, `500k`, `2M`. Raises UsageMistake."""
    number, factor = text, 1
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), size
    if not (number.isascii() and number.isdigit() and len(number) <= NUMBER_DIGITS_MAX):
        raise UsageMistake(f"{flag} {text!r} is not a number", hint="write it as 500, 500k or 2M")
    if not least <= int(number) * factor <= NUMBER_MAX:
        raise UsageMistake(f"{flag} {text} is not possible", hint=f"write {least:,} to {NUMBER_MAX:,}")
    return int(number) * factor
