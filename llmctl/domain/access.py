"""Which models a caller may use. Every level must agree; deny beats allow; no rule means all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from .errors import BadInput

Effect = Literal["allow", "deny"]

PATTERN_CHARS_MAX = 200
LATEST = ":latest"  # https://docs.ollama.com/api#model-names
# OpenRouter takes these behind any model's name: they choose who serves it, or let it search (`:online`, deprecated).
# Others are in its catalogue, with prices of their own. https://openrouter.ai/docs/guides/routing/model-variants/overview
_ROUTING = re.compile(r"(?::(?:nitro|floor|exacto|online))+\Z", re.IGNORECASE)
_VARIANTS = re.compile(r"(?::(?:nitro|floor|exacto|online|batch|extended|free|thinking))+\Z", re.IGNORECASE)
# Where Bedrock may serve a model, before its maker's name: us.anthropic.claude-opus-4-20250514-v1:0.
# https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
_GEOGRAPHY = re.compile(r"\A(?:global|apac|us-gov|[a-z]{2})\.(?=[a-z0-9-]+\.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelRule:
    """What is allowed or denied, and where that was set."""

    effect: Effect
    pattern: str
    level: str  # for messages: "organisation", "group sales", "user alice", "key alice/laptop"


def check_pattern(pattern: str) -> str:
    """A usable pattern (`gpt-5*`, `openai/*`), or BadInput. `*` and `?` are the only wildcards."""
    if not pattern or len(pattern) > PATTERN_CHARS_MAX or not pattern.isprintable() or " " in pattern:
        hint = "write a name or a pattern such as gpt-5* or openai/*"
        raise BadInput(f"{pattern!r} is not a model pattern", hint=hint)
    return pattern


def is_pattern(text: str) -> bool:
    """Whether it is for more than one name."""
    return "*" in text or "?" in text


def matches(pattern: str, provider: str, model: str) -> bool:
    """True if the pattern is for the resolved `provider/model` or the bare model name, in any letter case.

    Resolved, never as asked: an alias evades nothing.
    """
    return matches_name(pattern, model) or matches_name(pattern, f"{provider}/{model}")


def matches_name(pattern: str, model: str) -> bool:
    """True if the pattern is for a name as it is, with or without the tag that Ollama takes where none is named."""
    if _compile(pattern).fullmatch(model) is not None:
        return True
    if not (pattern.endswith(LATEST) or model.endswith(LATEST)):
        return False
    return _compile(pattern.removesuffix(LATEST)).fullmatch(model.removesuffix(LATEST)) is not None


def covers(pattern: str, provider: str, model: str, sold_as: str = "") -> bool:
    """As `matches`, by any name of the upstream model, and of the one that a deployment is (`sold_as`): for what binds
    it, and no other spelling may evade."""
    if any(matches(pattern, provider, name) for name in names_of(model)):
        return True
    return sold_as not in ("", model) and any(matches(pattern, provider, name) for name in names_of(sold_as))


@lru_cache(maxsize=4096)
def names_of(model: str) -> tuple[str, ...]:
    """By which an upstream model goes: itself, without how it is routed and which variant it is, and each without what
    stands before its last slash: a reseller's name for who made it (openrouter/openai/gpt-5), the account and region of
    an ARN; then without the geography that may serve it."""
    names = (model, without_routing(model), _VARIANTS.sub("", model))
    last = [name.rpartition("/")[2] for name in names]
    return tuple(dict.fromkeys((*names, *last, _GEOGRAPHY.sub("", last[-1]))))


def without_routing(model: str) -> str:
    return _ROUTING.sub("", model)


def denial(levels: Iterable[tuple[ModelRule, ...]], provider: str, model: str, sold_as: str = "") -> str | None:
    """Why this model is not allowed (`denied for group sales by gpt-5*`), or None if every level agrees.

    Allowed it is by its own name alone: a deployment may be kept for some, and who allows gpt-5 need not mean it.
    """
    for rules in levels:
        allows = []
        allowed = False
        for rule in rules:
            if rule.effect == "allow":
                allows.append(rule.pattern)
                allowed = allowed or matches(rule.pattern, provider, model)
            elif covers(rule.pattern, provider, model, sold_as):
                because = "" if sold_as in ("", model) else f": it is {sold_as}"
                return f"denied for {rule.level} by the rule {rule.pattern}{because}"
        if allows and not allowed:
            return f"not among the models allowed for {rules[0].level}: {', '.join(allows)}"
    return None


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[str]:
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    # What lies between two * is taken where it first fits, for good: with plain .* a dozen of them backtrack for years.
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    text = f"{first}{middle}.*{rest[-1]}" if rest else first
    return re.compile(text, re.IGNORECASE | re.DOTALL)
