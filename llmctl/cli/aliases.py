"""Rules and limits are on models, whatever they are asked by: who names an alias for one means the model behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import BadFile

if TYPE_CHECKING:
    from llmctl.domain.access import Effect
    from llmctl.domain.organisation import LimitSpec, Member, Organisation

    from .context import App


def behind(run: App, pattern: str) -> str:
    """The model behind an alias of the configuration; any other pattern as it is."""
    return run.config.aliases.get(pattern, pattern)


def told(run: App, pattern: str) -> str:
    """`fast is openai/gpt-5. `, to go before what was done; "" where no alias is named."""
    model = behind(run, pattern)
    return "" if model == pattern else f"{pattern} is {model}. "


def named(members: Organisation, aliases: Mapping[str, str]) -> dict[str, str]:
    """The aliases that rules and limits name, and what is behind them."""
    patterns = {
        pattern
        for member in members.values()
        for pattern in (*member.rules, *(limit.models for limit in member.limits.values()))
    }
    return {name: model for name, model in aliases.items() if name in patterns}


def taken(file: str, members: Organisation, aliases: Mapping[str, str]) -> Organisation:
    """The organisation of a file with models in the place of their aliases. Raises BadFile where the two disagree."""
    return {place: _taken(file, member, aliases) for place, member in members.items()}


def _taken(file: str, member: Member, aliases: Mapping[str, str]) -> Member:
    rules: dict[str, Effect] = {}
    limits: dict[tuple[str, ...], LimitSpec] = {}
    on = f"{member.kind} {member.name}" if member.name else "the organisation"
    for pattern, effect in member.rules.items():
        model = aliases.get(pattern, pattern)
        if rules.setdefault(model, effect) != effect:
            what = f"{model}, which has an alias here, is both allowed and denied for {on}"
            raise BadFile(f"{file}: {what}", hint="keep one of them")
    for spec in member.limits.values():
        limit = replace(spec, models=aliases.get(spec.models, spec.models))
        if limits.setdefault(limit.identity, limit) != limit:
            what = f"two limits of {on} on {limit.models}, which has an alias here, differ in their amount only"
            raise BadFile(f"{file}: {what}", hint="keep one of them")
    return replace(member, rules=rules, limits=limits)
