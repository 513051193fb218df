"""Requested model -> provider and upstream model. Pure: configuration in, route out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .access import matches_name
from .errors import Refused


@dataclass(frozen=True, slots=True)
class Target:
    """What routing needs to know of a provider, in the order of the configuration."""

    name: str
    dialects: frozenset[str]
    models: tuple[str, ...]  # patterns of requested models that route here
    any_model: frozenset[str] = frozenset()  # dialects in which models that no pattern leads elsewhere route here


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes."""

    provider: str
    model: str  # upstream model


def resolve(model: str, dialect: str, targets: Mapping[str, Target], aliases: Mapping[str, str]) -> Route:
    """Where a requested model goes: an alias, else `provider/model`, else the first provider whose pattern matches.

    Raises Refused("model_not_found") with what would work.
    """
    asked = aliases.get(model, model)
    candidates = list(_candidates(asked, dialect, targets))
    for target, upstream_model in candidates:
        if dialect in target.dialects:
            return Route(target.name, upstream_model)
    if candidates:
        target = candidates[0][0]
        spoken = ", ".join(sorted(target.dialects))
        raise Refused(
            "model_not_found",
            f"model {model!r} is served by {target.name}, which does not speak the {dialect} API",
            hint=f"call it through its own API ({spoken})",
            param="model",
        )
    raise Refused(
        "model_not_found",
        f"model {model!r} does not exist here",
        hint="GET /v1/models lists the models that this key may use",
        param="model",
    )


def _candidates(asked: str, dialect: str, targets: Mapping[str, Target]) -> Iterable[tuple[Target, str]]:
    name, slash, rest = asked.partition("/")
    if slash and rest and name in targets:
        yield targets[name], rest
    for target in targets.values():
        if any(matches_name(pattern, asked) for pattern in target.models):
            yield target, asked
    for target in targets.values():
        if dialect in target.any_model:
            yield target, asked
