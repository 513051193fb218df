"""Whose calls, and from when to when: the filters that `usage` and `calls` share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from llmctl.domain.errors import NotFound
from llmctl.domain.window import window_start

from . import aliases, times
from .errors import UsageMistake

if TYPE_CHECKING:
    from llmctl.store import keys
    from llmctl.store.database import Tx
    from llmctl.store.filters import Filters

    from .context import App

Group = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Of a group and all groups below it.")]
User = Annotated[str | None, typer.Option("--user", metavar="USER", help="Of a user.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Of a key: its id or user/name.")]
Model = Annotated[str | None, typer.Option("--model", metavar="PATTERN", help="Of a model, pattern or alias.")]
EndUser = Annotated[
    str | None, typer.Option("--end-user", metavar="NAME", help="For one end user, as your app names them.")
]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="With this tag among theirs.")]
Provider = Annotated[str | None, typer.Option("--provider", metavar="PROVIDER", help="Of a provider.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on: 2026-11-01, today, 7d.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until then, exclusive.")]
Last = Annotated[str | None, typer.Option("--last", metavar="SPAN", help="24h, 7d (today and six days), 4w, 1mo.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters as they were written."""

    group: str | None
    user: str | None
    key: str | None
    model: str | None
    provider: str | None
    end_user: str | None
    tag: str | None
    since: str | None
    until: str | None
    last: str | None

    def as_flags(self) -> str:
        """The same filters for another command line: ` --group sales --last 7d`."""
        named = [(name, getattr(self, name)) for name in self.__slots__]
        return "".join(
            f" --{name.replace('_', '-')} {shlex.quote(value)}" for name, value in named if value is not None
        )


class Found(NamedTuple):
    """The filters as the store takes them."""

    which: Filters
    group: str
    user: str
    key: str
    zone: ZoneInfo
    ends_now: bool

    @property
    def partial(self) -> str:
        """For a heading: which of the subject's calls; "" for all."""
        of = self.which
        named = (of.provider, of.model, of.end_user and f"for {of.end_user}", of.tag and f"tag {of.tag}")
        return " ".join(part for part in named if part)

    @property
    def whose(self) -> str:
        """For a heading: all that were named, as only what is of all of them counts."""
        return ", ".join(name for name in (self.group, self.user, self.key) if name) or self.subject

    @property
    def subject(self) -> str:
        """The narrowest that was named."""
        return self.key or self.user or self.group or "organisation"


def booked_name(end_user: str | None) -> str:
    """An end user as the ledger names them: long names and odd characters are hashed. "" = none was named."""
    if not end_user:
        return ""
    from llmctl.dialects.request import end_user_id

    return end_user_id(end_user)


def find(tx: Tx, run: App, asked: Asked, *, all_time: bool = False) -> Found:
    """Raises NotFound, UsageMistake. Times are in the zone of the group that is reported, or of the user's."""
    from llmctl.store import groups, users
    from llmctl.store.filters import Filters

    group = groups.get_past(tx, asked.group) if asked.group is not None else None
    key = _key(tx, asked.key) if asked.key is not None else None
    user = users.get_past(tx, asked.user) if asked.user is not None else None
    home = group.name if group else (user.group if user else (key.group if key else None))
    group_id = groups.get_past(tx, home).id if home else None
    zone = ZoneInfo(groups.zone(tx, group_id, run.config.timezone))
    since_s, until_s = _window(run, asked, zone, all_time=all_time)
    _check_labels(tx, asked)
    if asked.provider is not None:
        _check_provider(tx, run, asked.provider)
    which = Filters(
        since_s=since_s,
        until_s=until_s,
        group_id=group.id if group else None,
        user_id=user.id if user else None,
        key_id=key.row_id if key else None,
        model=aliases.behind(run, asked.model) if asked.model else "",
        provider=asked.provider or "",
        end_user=booked_name(asked.end_user),
        tag=asked.tag or "",
    )
    return Found(
        which,
        group=past_name(group.name, removed=group.removed) if group else "",
        user=past_name(user.name, removed=user.removed) if user else "",
        key=key.label if key else "",
        zone=zone,
        ends_now=asked.until is None,
    )


def past_name(name: str, *, removed: bool) -> str:
    """Somebody else may have the name now."""
    return f"{name} (removed)" if removed else name


def _key(tx: Tx, reference: str) -> keys.Key:
    from llmctl.store import keys

    return keys.get(tx, reference, revoked=True)


def _window(run: App, asked: Asked, zone: ZoneInfo, *, all_time: bool) -> tuple[int, int]:
    if asked.last is not None and (asked.since is not None or asked.until is not None):
        raise UsageMistake("--last goes without --since and --until", hint="use one or the other")
    if asked.last is not None:
        times.duration_s(asked.last)
    start = asked.last or asked.since
    if start is not None:
        since_s = times.since(start, zone, run.now_s)
    else:
        since_s = 0 if all_time else window_start("month", zone, run.now_s)
    until_s = times.moment(asked.until, zone, run.now_s) if asked.until is not None else run.now_s + 1
    if asked.until is not None and start is None and not all_time:
        since_s = min(since_s, window_start("month", zone, max(0, until_s - 1)))
    if until_s <= since_s:
        raise UsageMistake("the time asked for ends before it begins", hint="check --since and --until")
    return since_s, until_s


def _check_labels(tx: Tx, asked: Asked) -> None:
    """Names that came with calls: one that none ever had is a slip, and an empty report would hide it."""
    from llmctl.store import labels

    if asked.tag is not None and not labels.with_tag(tx, asked.tag):
        raise NotFound(f'no call has the tag "{asked.tag}"', hint="See: llmctl usage --by tag")
    if asked.end_user is not None and labels.of_end_user(tx, booked_name(asked.end_user)) is None:
        raise NotFound(f'no call is for the end user "{asked.end_user}"', hint="See: llmctl usage --by end-user")


def _check_provider(tx: Tx, run: App, name: str) -> None:
    from llmctl.store import labels
    from llmctl.store.names import unknown

    known = {*run.config.providers, *labels.providers(tx)}
    if name not in known:
        raise unknown("provider", name, known)
