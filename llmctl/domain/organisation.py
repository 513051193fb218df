"""An organisation as values, and what has to change to turn one into another. Names count without regard to case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from .access import Effect
from .errors import BadInput
from .limit import Each, Measure
from .scope import PrincipalKind
from .window import Window

Value = str | bool | None
Place = tuple[PrincipalKind, str]  # kind and name in lower case; ("org", "") is the organisation itself
ORG: Place = ("org", "")

# What a group or a user is, beside its rules and limits, and what it is where nothing is said.
ATTRIBUTES: dict[PrincipalKind, dict[str, Value]] = {
    "org": {},
    "group": {"parent": None, "timezone": None, "allow_from": None, "keeps_content": False, "disabled": False},
    "user": {"group": None, "email": None, "disabled": False},
    "key": {},
}
_ABOVE = {"group": "parent", "user": "group"}
NAMED_MAX = 5  # in a message


@dataclass(frozen=True, slots=True)
class GrantSpec:
    """More than a limit says, until a moment."""

    member: str  # "" = everyone
    amount: int
    until_s: int
    reason: str


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """A limit without its owner. Grants end by themselves: those that are not wanted are left to."""

    measure: Measure
    amount: int  # nano-USD, tokens, calls or calls at once
    window: Window
    each: Each
    models: str  # "" = all
    soft: bool
    grants: frozenset[GrantSpec] = frozenset()

    def becomes(self, wanted: LimitSpec) -> bool:
        """Whether there is something to change."""
        return replace(self, grants=frozenset()) != replace(wanted, grants=frozenset()) or not (
            wanted.grants <= self.grants
        )

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.each, self.measure, self.window, self.models)


@dataclass(frozen=True, slots=True)
class Member:
    """The organisation, a group, a user or a key, with what is set on exactly it."""

    kind: PrincipalKind
    name: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    rules: Mapping[str, Effect] = field(default_factory=dict)  # by pattern
    limits: Mapping[tuple[str, ...], LimitSpec] = field(default_factory=dict)  # by identity

    @property
    def place(self) -> Place:
        return (self.kind, self.name.lower())


Organisation = Mapping[Place, Member]


@dataclass(frozen=True, slots=True)
class Change:
    """One step. `before` is None for what is new, `after` for what goes."""

    noun: Literal["group", "user", "model", "limit"]
    member: Member  # as it is wanted; for what goes, as it is
    before: Mapping[str, Value] | LimitSpec | tuple[str, Effect] | None
    after: Mapping[str, Value] | LimitSpec | tuple[str, Effect] | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`kept`: what is there and not wanted, and stays. `no_keys`: wanted for keys that do not exist."""

    changes: tuple[Change, ...]
    kept: tuple[Change, ...]
    no_keys: tuple[str, ...]


def organisation(members: Iterable[Member]) -> dict[Place, Member]:
    return {member.place: member for member in members}


def plan(now: Organisation, wanted: Organisation, *, prune: bool) -> Plan:
    """The steps from one organisation to the other, in an order in which they can be done.

    What `wanted` does not name stays as it is; with `prune` it goes. Raises BadInput for groups below each other, and
    for members of a group that would go.
    """
    if prune:
        _check_homes(now, wanted)
    changes: list[Change] = []
    no_keys = [member.name for place, member in wanted.items() if member.kind == "key" and place not in now]
    there = {place: member for place, member in wanted.items() if member.kind != "key" or place in now}
    for member in _parents_first(there):
        changes += _attributes(now.get(member.place), member, prune=prune)
    for member in there.values():
        changes += _rules(now.get(member.place), member)
    for member in there.values():
        changes += _limits(now.get(member.place), member)
    surplus = list(_surplus(now, wanted))
    return Plan((*changes, *(surplus if prune else ())), () if prune else tuple(surplus), tuple(no_keys))


def _check_homes(now: Organisation, wanted: Organisation) -> None:
    for place, group in now.items():
        if place[0] != "group" or place in wanted:
            continue
        inside = [
            member.name
            for member in wanted.values()
            if str(member.attributes.get(_ABOVE.get(member.kind, "")) or "").lower() == place[1]
        ]
        if inside:
            more = f" and {len(inside) - NAMED_MAX} more" if len(inside) > NAMED_MAX else ""
            raise BadInput(
                f"group {group.name} is not named, but {', '.join(inside[:NAMED_MAX])}{more} shall be in it",
                hint=f'add [groups."{group.name}"], or another group there, or leave out --prune',
            )


def _parents_first(wanted: Organisation) -> list[Member]:
    """Groups after the group that they go below, then users."""
    groups = {place: member for place, member in wanted.items() if member.kind == "group"}
    order: dict[Place, Member] = {}

    def visit(member: Member, above: tuple[str, ...]) -> None:
        if member.place in order:
            return
        if member.name in above:
            raise BadInput(f"groups lie below each other: {', '.join(above)}", hint="give one of them another parent")
        parent = member.attributes.get("parent")
        if isinstance(parent, str) and ("group", parent.lower()) in groups:
            visit(groups["group", parent.lower()], (*above, member.name))
        order[member.place] = member

    for group in groups.values():
        visit(group, ())
    return [*order.values(), *(member for member in wanted.values() if member.kind == "user")]


def _attributes(now: Member | None, wanted: Member, *, prune: bool) -> Iterator[Change]:
    noun: Literal["group", "user"] = "group" if wanted.kind == "group" else "user"
    defaults = ATTRIBUTES[wanted.kind]
    if now is None:
        yield Change(noun, wanted, None, {**defaults, **wanted.attributes})
        return
    before = {**defaults, **now.attributes}
    after = {**(defaults if prune else before), **wanted.attributes}
    above = _ABOVE[wanted.kind]
    if _same_name(before[above], after[above]):
        after[above] = before[above]
    if before != after:
        yield Change(noun, wanted, before, after)


def _rules(now: Member | None, wanted: Member) -> Iterator[Change]:
    there = now.rules if now else {}
    for pattern, effect in wanted.rules.items():
        if there.get(pattern) != effect:
            before = (pattern, there[pattern]) if pattern in there else None
            yield Change("model", wanted, before, (pattern, effect))


def _limits(now: Member | None, wanted: Member) -> Iterator[Change]:
    there = now.limits if now else {}
    for identity, limit in wanted.limits.items():
        before = there.get(identity)
        if before is None or before.becomes(limit):
            yield Change("limit", wanted, before, limit)


def _surplus(now: Organisation, wanted: Organisation) -> Iterator[Change]:
    """What goes with --prune: limits and rules, then users, then groups from the leaves up. Keys are never named."""
    gone = [member for place, member in now.items() if place not in wanted and member.kind in ("group", "user")]
    for place, member in now.items():
        if member in gone:
            continue  # its limits and rules go with it
        kept = wanted.get(place)
        for identity, limit in member.limits.items():
            if kept is None or identity not in kept.limits:
                yield Change("limit", member, limit, None)
        for pattern, effect in member.rules.items():
            if kept is None or pattern not in kept.rules:
                yield Change("model", member, (pattern, effect), None)
    for member in gone:
        if member.kind == "user":
            yield Change("user", member, member.attributes, None)
    depth = {member.place: len(list(_above(now, member))) for member in gone}
    for member in sorted(gone, key=lambda one: -depth[one.place]):
        if member.kind == "group":
            yield Change("group", member, member.attributes, None)


def _above(now: Organisation, member: Member) -> Iterator[Member]:
    parent = member.attributes.get("parent")
    while isinstance(parent, str):
        above = now["group", parent.lower()]
        yield above
        parent = above.attributes.get("parent")


def _same_name(first: Value, second: Value) -> bool:
    return isinstance(first, str) and isinstance(second, str) and first.lower() == second.lower()
