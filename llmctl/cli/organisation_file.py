"""The organisation as a TOML file: what `export` writes and `apply` reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from llmctl.config.toml_table import Table, parsed
from llmctl.domain.access import Effect, check_pattern
from llmctl.domain.errors import BadInput, ConfigError
from llmctl.domain.limit import MEASURES, Each, Measure
from llmctl.domain.money import parse_usd, usd_plain
from llmctl.domain.network import check_networks
from llmctl.domain.organisation import ATTRIBUTES, ORG, GrantSpec, LimitSpec, Member, Organisation, organisation
from llmctl.domain.scope import PrincipalKind
from llmctl.domain.window import WINDOWS

from .times import rfc3339

SECTIONS: dict[str, PrincipalKind] = {"groups": "group", "users": "user", "keys": "key"}
FILE_BYTES_MAX = 64 << 20


def written(members: Organisation, *, head: str) -> str:
    """TOML text. Keys stand in it only where rules or limits are set on them; secrets never."""
    import tomli_w

    return f"{head}\n{tomli_w.dumps(values(members))}"


def values(members: Organisation) -> dict[str, dict[str, object]]:
    """The file as plain values, for TOML and JSON."""
    found: dict[str, dict[str, object]] = {}
    if any(_set_on(members[ORG])):
        found["organisation"] = _member(members[ORG])
    for section, kind in SECTIONS.items():
        listed = {
            member.name: _member(member)
            for member in members.values()
            if member.kind == kind and (kind != "key" or any(_set_on(member)))
        }
        if listed:
            found[section] = listed  # type: ignore[assignment]
    return found


def read(path: Path, text: str, *, now_s: int) -> Organisation:
    """What the file says; grants that have ended say nothing any more. Raises ConfigError: it names file, line, key and
    what to write."""
    file = parsed(path, text)
    of_all = file.table("organisation")
    members = [_read_member(of_all, *ORG, now_s)] if "organisation" in file.names() else []
    for section, kind in SECTIONS.items():
        listed = file.table(section)
        members += [_read_member(listed.table(name), kind, name, now_s) for name in listed.names()]
    file.finish()
    found = organisation(members)
    if len(found) != len(members):
        seen: set[object] = set()
        twice = next(one for one in members if one.place in seen or seen.add(one.place))  # type: ignore[func-returns-value]
        raise ConfigError(f'{path.name}: {twice.kind} "{twice.name}" stands there twice', hint="keep one of them")
    return found


def _set_on(member: Member) -> tuple[object, ...]:
    return (member.rules, member.limits)


def _member(member: Member) -> dict[str, object]:
    found: dict[str, object] = {name: value for name, value in member.attributes.items() if value}
    for effect in ("allow", "deny"):
        patterns = sorted(pattern for pattern, one in member.rules.items() if one == effect)
        if patterns:
            found[effect] = patterns
    if member.limits:
        found["limits"] = [_limit(limit) for _, limit in sorted(member.limits.items())]
    return found


def _limit(limit: LimitSpec) -> dict[str, object]:
    found: dict[str, object] = {limit.measure: usd_plain(limit.amount) if limit.measure == "cost" else limit.amount}
    if limit.measure != "concurrency":
        found["per"] = limit.window
    if limit.each:
        found["each"] = limit.each.replace("_", "-")
    if limit.models:
        found["models"] = limit.models
    if limit.soft:
        found["soft"] = True
    if limit.grants:
        ordered = sorted(limit.grants, key=lambda grant: (grant.until_s, grant.member, grant.amount, grant.reason))
        found["grants"] = [_grant(limit, grant) for grant in ordered]
    return found


def _grant(limit: LimitSpec, grant: GrantSpec) -> dict[str, object]:
    found: dict[str, object] = {"member": grant.member} if grant.member else {}
    found["amount"] = usd_plain(grant.amount) if limit.measure == "cost" else grant.amount
    return found | {"until": rfc3339(grant.until_s), "reason": grant.reason}


def _read_member(table: Table, kind: PrincipalKind, name: str, now_s: int) -> Member:
    attributes: dict[str, str | bool | None] = {}
    for key, default in ATTRIBUTES[kind].items():
        value = table.boolean(key, False) if default is False else table.string(key, "") or None
        if key in table.names():
            attributes[key] = _networks(table, str(value)) if key == "allow_from" and value else value
    rules: dict[str, Effect] = {}
    for effect, pattern in _patterns(table):
        if rules.get(pattern, effect) != effect:
            raise table.error(effect, f"{pattern!r} is both allowed and denied", "keep one of them")
        rules[pattern] = effect
    limits: dict[tuple[str, ...], LimitSpec] = {}
    for row in table.tables("limits"):
        limit = _read_limit(row, kind, now_s)
        if limit.identity in limits:
            raise table.error("limits", "two limits differ in their amount only", "keep one of them")
        limits[limit.identity] = limit
    table.finish()
    return Member(kind, name, attributes, rules, limits)


def _networks(table: Table, text: str) -> str:
    try:
        return check_networks([text])
    except BadInput as error:
        raise table.error("allow_from", error.message, error.hint) from None


def _patterns(table: Table) -> Iterator[tuple[Effect, str]]:
    effects: tuple[Effect, ...] = ("allow", "deny")
    for effect in effects:
        for pattern in table.strings(effect, ()):
            try:
                yield effect, check_pattern(pattern)
            except BadInput as error:
                raise table.error(effect, error.message, error.hint) from None


def _read_limit(table: Table, kind: PrincipalKind, now_s: int) -> LimitSpec:
    named = [measure for measure in MEASURES if measure in table.names()]
    if len(named) != 1:
        raise table.error("", f"a limit has one of {', '.join(MEASURES)}", '{ cost = "200", per = "month" }')
    measure = named[0]
    amount = _read_amount(table, measure, measure)
    window = "total"
    if measure == "concurrency" and "per" in table.names():
        raise table.error("per", "calls at once have no window", "leave per out")
    if measure != "concurrency":
        if "per" not in table.names():
            raise table.error(measure, "its window is missing", f"per = {', '.join(WINDOWS)}")
        window = table.choice("per", "month", WINDOWS)
    each: Each = ""
    if "each" in table.names():
        each = "end_user" if table.choice("each", "user", ("user", "end-user")) == "end-user" else "user"
        if kind in ("user", "key") and each == "user":
            raise table.error("each", f"a {kind} has no users", "leave it out")
    return LimitSpec(
        measure,
        amount,
        next(one for one in WINDOWS if one == window),
        each,
        _named(table, "models", "name a pattern or leave it out"),
        table.boolean("soft", False),
        frozenset(grant for row in table.tables("grants") if (grant := _read_grant(row, measure)).until_s > now_s),
    )


def _named(table: Table, key: str, mend: str) -> str:
    """Who or what is meant; "" for all, where the key is not there: an empty text says it by mistake."""
    text = table.string(key, "")
    if key in table.names() and not text.strip():
        raise table.error(key, "is empty", mend)
    return text


def _read_amount(table: Table, key: str, measure: Measure) -> int:
    if measure != "cost":
        return table.integer(key, 1, most=10**15)
    try:
        return parse_usd(table.string(key, "200"))
    except BadInput as error:
        raise table.error(key, error.message, error.hint) from None


def _read_grant(table: Table, measure: Measure) -> GrantSpec:
    moment = table.string("until", "")
    try:
        until_s = int(datetime.fromisoformat(moment).timestamp()) if moment[10:11] == "T" else 0
    except (ValueError, OverflowError):
        until_s = 0
    if not until_s:
        raise table.error("until", "is no moment", 'until = "2026-12-01T00:00:00Z"')
    grant = GrantSpec(
        _named(table, "member", "name one or leave it out"),
        _read_amount(table, "amount", measure),
        until_s,
        table.string("reason", ""),
    )
    table.finish()
    return grant
