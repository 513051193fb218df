"""How limits look, and how they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmctl.domain.limit import of_each

from . import humanize
from .overview import limit_text, limit_values
from .render import LAST, Column
from .times import end_short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmctl.domain.limit import Each, Limit
    from llmctl.store.standings import Nearest

    from .context import App


def columns(run: App, rows: Sequence[Nearest] = ()) -> tuple[Column[Nearest], ...]:
    """Of these rows: the heading names their time zone, if it is one for all."""
    zones = {row.standing.limit.zone for row in rows}
    alike = len(zones) == 1
    resets = f"RESETS {min(zones)}" if alike else "RESETS"

    def value(name: str, title: str = "") -> Column[Nearest]:
        return Column(name, lambda row: limit_values(row.standing, row.member)[name], title)

    def exact(name: str, title: str, shown: Callable[[Nearest], str], *, drop: int = 0) -> Column[Nearest]:
        return Column(name, lambda row: limit_values(row.standing)[name], title, shown, right=True, drop=drop)

    return (
        Column("id", lambda row: f"l{row.standing.limit.id}", "ID", fixed=True),
        value("on"),
        value("name"),
        Column("shown_on", None, "ON", lambda row: on_text(row.standing.limit)),
        value("each"),
        value("measure"),
        value("amount"),
        value("granted"),
        value("window"),
        value("models"),
        value("soft"),
        Column("limit", None, "LIMIT", lambda row: limit_text(row.standing.limit, row.standing.extra), least=LAST),
        value("timezone"),
        value("member"),
        exact("spent", "SPENT", spent_text),
        exact("held", "HELD", lambda row: amount_text(row, row.standing.held), drop=2),
        exact("left", "LEFT", lambda row: amount_text(row, row.standing.left)),
        value("resets_at"),
        Column("resets", None, resets, lambda row: resets_text(run, row, zone=not alike), drop=1),
    )


def member_columns(each: Each, *, granted: bool) -> tuple[Column[Nearest], ...]:
    """`granted`: more than the limit is, to some of them."""
    return (
        Column("member", None, each.replace("_", " ").upper(), lambda row: row.member),
        *([Column("granted", None, "GRANTED", _granted_text, right=True)] if granted else []),
        Column("spent", None, "SPENT", spent_text, right=True),
        Column("held", None, "HELD", lambda row: amount_text(row, row.standing.held), right=True),
        Column("left", None, "LEFT", lambda row: amount_text(row, row.standing.left), right=True),
    )


def on_text(limit: Limit) -> str:
    return whom_text(limit.scope.principal, limit.scope.name, limit.each)


def whom_text(principal: str, name: str, each: str) -> str:
    """`org`, `sales, each user`."""
    return f"{name or principal}{of_each(each)}"


def spent_text(row: Nearest) -> str:
    limit = row.standing.limit
    return "-" if limit.measure == "concurrency" else humanize.amount(limit.measure, row.standing.settled)


def amount_text(row: Nearest, number: int) -> str:
    return humanize.amount(row.standing.limit.measure, number)


def _granted_text(row: Nearest) -> str:
    return amount_text(row, row.standing.extra)


def nearest_note(row: Nearest, *, is_marked: bool) -> str:
    """`is_marked`: the column with the mark has a place."""
    name = f"l{row.standing.limit.id}"
    whose = "* nearest" if is_marked else f"{name} is shown for {row.member}, nearest"
    return f"{whose} of {row.members}: llmctl limit show {name}"


def resets_text(run: App, row: Nearest, *, zone: bool) -> str:
    """When, and with `zone` in which time zone; of a limit on each user: whose standing is shown, the note below says
    where the others are.
    """
    if row.member:
        return f"{row.member}*"
    if row.standing.limit.window == "minute":
        return "slides"
    if row.standing.window_end_s is None:
        return "-"
    limit = row.standing.limit
    end = end_short(row.standing.window_end_s, ZoneInfo(limit.zone), run.now_s)
    return f"{end} {limit.zone}" if zone else end
