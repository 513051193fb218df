"""What a call would be: where it goes, what it may cost at most. Access is judged here; limits by the ledger."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from llmctl.config import Provider
from llmctl.domain.bounds import Bounds
from llmctl.domain.call import Ask
from llmctl.domain.demand import Demand, model_facts, price_for, refuse_unbounded, worst_case
from llmctl.domain.errors import Refused
from llmctl.domain.hints import price_set
from llmctl.domain.price import Price
from llmctl.domain.principal import Caller
from llmctl.store.objects import StoredObject

from .directory import Directory
from .lessons import NOTHING as NOT_LEARNED
from .lessons import Lesson


class Plan(Struct, frozen=True):
    provider: Provider
    model: str  # upstream model
    price: Price | None
    demand: Demand
    bounded: bool  # a hard limit on money or tokens applies: what the request leaves open is written into it
    lesson: Lesson = NOT_LEARNED  # what was known of the route by then
    stored: StoredObject | None = None  # what it is about or goes on from: it goes where that is kept
    free: bool = False  # the provider bills nothing for it


NOTHING = Demand(0, 0, 0, 1, False, None)  # of a call that the provider does not bill (token counting)
READING = replace(NOTHING, reads=True)


def plan_of(
    caller: Caller,
    ask: Ask,
    dialect: str,
    directory: Directory,
    bounds: Bounds,
    now_s: int,
    stand_in: str = "",
    stored: StoredObject | None = None,
) -> Plan:
    """Route, access, price and worst case; of what stands in for the model that was asked for, if it is said. Raises
    Refused."""
    if stored is not None and not ask.model:
        # What was made with a model that is denied since can still be read, and ended.
        provider = directory.keeper(stored, dialect)
        price = directory.price(provider, stored.model, now_s)
        return Plan(provider, stored.model, price, READING, False, stored=stored, free=True)
    provider, model = directory.route(stand_in or ask.model, dialect)
    if stored is not None:
        provider = _keeper(stored, provider, ask, directory.keeper(stored, dialect))
    terms = directory.terms(caller, provider, model)
    if terms.denied is not None:
        raise Refused(
            "model_not_allowed",
            f"model {ask.model!r} is not allowed for this key: {terms.denied}",
            hint="GET /v1/models lists the models that it may use",
            param="model",
        )
    price = directory.price(provider, model, now_s)
    if ask.free or model.startswith(ask.free_models):
        return Plan(provider, model, price, NOTHING, False, stored=stored, free=True)
    price = price_for(ask, price)
    if price is None and "cost" in terms.binding:
        raise Refused(
            "model_unpriced",
            f"model {ask.model!r} has no price, and your organisation limits spend",
            hint=f"ask your admin: {price_set(f'{provider.name}/{model}')}, or a --ceiling",
            param="model",
        )
    if terms.binding and (refused := refuse_unbounded(ask, bounds, provider.image_tokens_max)) is not None:
        raise refused
    lesson = directory.lessons.of(provider.name, model)
    facts = model_facts(
        price,
        provider.prompt_overhead_tokens + lesson.more_input_tokens,
        provider.image_tokens_max,
        lesson.more_output_tokens,
        lesson.ignores_caps,
    )
    demand = worst_case(ask, dialect, facts, price, bounds, lesson.tier_of(ask))
    return Plan(provider, model, price, demand, bool(terms.binding), lesson, stored)


def _keeper(stored: StoredObject, routed: Provider, ask: Ask, keeper: Provider) -> Provider:
    """The provider that keeps what a call goes on from, also where the model's name leads elsewhere by now; but not
    against the client's own word."""
    if routed is not keeper and ask.model.startswith(f"{routed.name}/"):
        raise Refused(
            "bad_request",
            f"response {stored.id!r} is kept by {keeper.name}, and model {ask.model!r} is {routed.name}'s",
            hint=f"name a model of {keeper.name}",
            param="model",
        )
    return keeper
