"""Whether a call would pass now: the same route, rules, price and decision that the gateway takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmctl.domain import access
from llmctl.domain.call import Ask
from llmctl.domain.demand import Demand, model_facts, price_for, worst_case
from llmctl.domain.errors import Refused
from llmctl.domain.limit import Standing, binds, decide
from llmctl.domain.route import Route, resolve
from llmctl.domain.scope import Scope
from llmctl.domain.why import Looked, looked_at

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App


@dataclass(slots=True)
class Supposed:
    """The answer, for JSON and for people."""

    values: dict[str, object]
    fields: list[tuple[str, str]]
    limits: tuple[Looked, ...] = field(default=())

    def answer(self, passes: bool, text: str, *, code: str = "") -> Supposed:
        self.values |= {"passes": passes, "error": code or None, "message": text}
        self.fields.append(("Passes" if passes else "Refused", text))
        return self


@dataclass(frozen=True, slots=True)
class _Who:
    scope: Scope
    user_id: int
    off: str  # why the key is of no use; "" = it is


def suppose(
    run: App,
    *,
    user: str | None,
    key: str | None,
    model: str,
    end_user: str,
    input_tokens: int,
    output_tokens: int | None,
) -> Supposed:
    from llmctl.domain.price import pick
    from llmctl.store import limits, model_rules
    from llmctl.store import why as store

    from . import price_names

    with run.reading() as tx:
        who = _who(tx, run, user, key)
        found = Supposed({"caller": who.scope.name, "model": model}, [("Caller", who.scope.name)])
        if who.off:
            return found.answer(False, who.off, code="invalid_api_key")
        try:
            route, dialect = _route(run, model)
        except Refused as refused:
            return found.answer(False, refused.message, code=refused.code)
        found.values |= {"provider": route.provider, "upstream_model": route.model}
        found.fields.append(("Model", f"{route.provider}/{route.model}"))
        provider = run.config.providers[route.provider]
        sold_as = provider.sold_as(route.model)
        denied = access.denial(model_rules.binding(tx, who.scope), route.provider, route.model, sold_as)
        if denied is not None:
            return found.answer(False, f"the model is {denied}", code="model_not_allowed")
        price = pick(price_names.find(run, tx, route.provider, route.model), run.now_s)
        applying = limits.binding(tx, who.scope, default_zone=run.config.timezone)
        standings = store.now(
            tx,
            applying,
            user_id=who.user_id,
            end_user=end_user,
            provider=route.provider,
            model=route.model,
            sold_as=sold_as,
            at_s=run.now_s,
        )
    # As the gateway takes a body of as many bytes, and no more lessons of the provider's ways than are configured.
    ask = Ask("chat.completions", model, False, input_tokens, output_tokens)
    price = price_for(ask, price)
    facts = model_facts(price, provider.prompt_overhead_tokens, provider.image_tokens_max)
    demand = worst_case(ask, dialect, facts, price, run.config.bounds, ask.service_tier)
    found.limits = looked_at(standings, demand)
    found.values |= {"input_tokens": demand.input_tokens, "output_tokens": demand.output_tokens}
    hidden = provider.prompt_overhead_tokens
    added = f" ({hidden:,} of them for what {provider.name} may add)" if hidden else ""
    tokens = f"{demand.input_tokens:,} input{added}, up to {demand.output_tokens:,} output tokens"
    found.fields.append(("Supposed", tokens))
    if price is None and any(
        one.measure == "cost" and binds(one, provider.name, route.model, sold_as) for one in applying
    ):
        return found.answer(
            False, "the model has no price, and spend is limited: llmctl price set", code="model_unpriced"
        )
    return _decided(run, found, standings, demand)


def _decided(run: App, found: Supposed, standings: list[Standing], demand: Demand) -> Supposed:
    bounds = run.config.bounds
    decision = decide(standings, demand, share_percent=bounds.cap_share_percent, now_s=run.now_s)
    if isinstance(decision, Refused):
        found.values["bound"] = decision.facts.get("limit")
        return found.answer(False, str(decision), code=decision.code)
    found.values["output_tokens_granted"] = decision.output_tokens
    if decision.capped:
        return found.answer(True, f"with its output lowered to {decision.output_tokens:,} tokens")
    return found.answer(True, "as it is")


def _who(tx: Tx, run: App, user: str | None, key: str | None) -> _Who:
    from llmctl.store import keys, scopes, users

    if key is not None:
        one = keys.get(tx, key)
        user, scope = one.user, Scope("key", one.row_id, one.label)
        off = "the key is revoked" if one.revoked_at_s is not None else ""
        if one.expires_at_s is not None and one.expires_at_s <= run.now_s:
            off = off or "the key has expired"
    else:
        assert user is not None
        scope, off = scopes.of_user(tx, user), ""
    who = users.get(tx, user)
    if who.disabled_by:
        off = off or f"{who.disabled_by} is disabled"
    return _Who(scope, who.id, off)


def _route(run: App, model: str) -> tuple[Route, str]:
    """Where the model goes, in whichever dialect finds a way; and that dialect. What takes any name, at a path of its
    own (Azure's deployments), has to be named: else no mistyped name would be told."""
    providers = run.config.providers.values()
    targets = {one.name: replace(one.target, any_model=frozenset()) for one in providers}
    dialects = sorted({dialect for target in targets.values() for dialect in target.dialects}, reverse=True)
    failed = Refused("model_not_found", "no provider is configured", hint="see llmctl config check")
    for dialect in dialects:
        try:
            return resolve(model, dialect, targets, run.config.aliases), dialect
        except Refused as refused:
            failed = refused
    if takers := [f"{one.name}/{model}" for one in providers if one.any_model]:
        raise Refused(failed.code, f"{failed.message}; if it is a deployment, write --model {' or '.join(takers)}")
    raise failed
