"""The worst case of a call, before it is sent: what is held until the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from .bounds import Bounds
from .errors import Refused
from .money import PRICE_UNITS
from .price import IMAGE_TOOL_METERS

if TYPE_CHECKING:
    from .call import Ask
    from .price import CacheWrites, Price

IMAGES = "images"  # the reason of a request whose images alone are not bounded by its bytes
# OpenAI's model that makes images takes 16, and bills one with 6,240 tokens at most and some for its tiles:
# https://developers.openai.com/api/docs/guides/image-generation, .../images-vision#calculating-costs
IMAGES_SEEN_MAX, IMAGE_SEEN_TOKENS_MAX = 16, 7_000
IMAGE_PROMPT_TOKENS_MAX = 32_000  # as many characters: https://developers.openai.com/api/reference/resources/images
UNKNOWN_TURNS = -1  # server-side tools without a bound of their own: the configured default counts


class ModelFacts(Struct, frozen=True, gc=False):
    """What is known of the model that a call is routed to. None = unknown."""

    context_tokens: int | None
    output_tokens_max: int | None
    prompt_overhead_tokens: int  # hidden prompts that the provider adds to what is in the body
    image_tokens_max: int | None = None  # what one image is billed with at most, whatever its size
    more_output_tokens: int = 0  # than the maximum that it is told: it was seen to answer so
    ignores_caps: bool = False  # it was seen to answer far beyond it


class Rates(Struct, frozen=True, gc=False):
    """The dearest rates that a request could trigger: nano-USD per million tokens, and nano-USD per call."""

    input_rate: int
    output_rate: int
    request_nano_usd: int = 0


class Demand(Struct, frozen=True, gc=False):
    """An upper bound. `output_tokens` is per choice; `rates is None`: the model is unpriced."""

    input_tokens: int
    output_tokens: int
    output_tokens_min: int
    output_multiplier: int
    output_tokens_injected: bool  # the request had no maximum: the held one must be written into it
    rates: Rates | None
    reads: bool = False  # of what is there already: it waits for no open call to end, least of all the one it is about

    def cost_nano_usd(self, output_tokens: int) -> int:
        """The dearest that the call can be with this output maximum; 0 for an unpriced model."""
        if self.rates is None:
            return 0
        micro = self.input_tokens * self.rates.input_rate
        micro += output_tokens * self.output_multiplier * self.rates.output_rate
        return -(-micro // PRICE_UNITS) + self.rates.request_nano_usd

    def tokens(self, output_tokens: int) -> int:
        return self.input_tokens + output_tokens * self.output_multiplier

    def output_tokens_for_cost(self, budget_nano_usd: int) -> int:
        """The largest output maximum whose cost stays within the budget (may be negative: nothing fits)."""
        if self.rates is None or self.rates.output_rate == 0:
            return self.output_tokens
        micro = (budget_nano_usd - self.rates.request_nano_usd) * PRICE_UNITS
        micro -= self.input_tokens * self.rates.input_rate
        return micro // (self.rates.output_rate * self.output_multiplier)

    def output_tokens_for_tokens(self, budget_tokens: int) -> int:
        return (budget_tokens - self.input_tokens) // self.output_multiplier


def model_facts(
    price: Price | None,
    prompt_overhead_tokens: int,
    image_tokens_max: int | None,
    more_output_tokens: int = 0,
    ignores_caps: bool = False,
) -> ModelFacts:
    return ModelFacts(
        price.context_tokens if price else None,
        price.output_tokens_max if price else None,
        prompt_overhead_tokens,
        image_tokens_max,
        more_output_tokens,
        ignores_caps,
    )


def price_for(ask: Ask, price: Price | None) -> Price | None:
    """The price of a model, if it is one for such a call: what has a price for audio alone is unpriced in a chat."""
    if price is not None and ask.generates and not ask.units and not price.bills_text():
        return None
    return price


def worst_case(
    ask: Ask, dialect: str, facts: ModelFacts, price: Price | None, bounds: Bounds, service_tier: str
) -> Demand:
    """What is held for one call at this price. `service_tier`: for which it has to be held, whatever was asked."""
    rates = None
    if price is not None:
        ceiling = price.ceiling(
            input_bound(ask, facts, bounds),
            service_tier,
            _cache_writes(ask, dialect),
            media=bool(ask.unbounded_input) or ask.media_input,
            media_output=ask.media_output,
        )
        turns = tool_turns(ask, bounds)
        fees = ceiling.fees_nano_usd(turns, image_tool=ask.image_tool_tokens > 0)
        if ask.image_tool_tokens:  # billed by the token, or by the call where the answer does not say how many
            by_token = price.units_ceiling(_image_tool_units(ask, turns), service_tier)
            fees = max(fees, ceiling.fees_nano_usd(turns, image_tool=False) + by_token)
        if ask.units or ask.extras:
            fees += price.units_ceiling((*ask.units, *ask.extras), service_tier)
        rates = Rates(ceiling.input_rate, ceiling.output_rate, fees)
    return demand_of(ask, facts, rates, bounds)


def _image_tool_units(ask: Ask, turns: int) -> Iterator[tuple[str, int]]:
    """What the model behind the tool for images reads and makes at most: in each turn a prompt, the images of the
    conversation and those that earlier turns made."""
    given = IMAGES_SEEN_MAX if ask.unbounded_input else 0
    seen = turns * min(given + turns // 2, IMAGES_SEEN_MAX)
    most = turns * IMAGE_PROMPT_TOKENS_MAX, seen * IMAGE_SEEN_TOKENS_MAX, turns * ask.image_tool_tokens
    return zip(IMAGE_TOOL_METERS, most, strict=True)


def _cache_writes(ask: Ask, dialect: str) -> CacheWrites:
    """Anthropic bills cache writes only where asked for; others write their caches unasked."""
    if ask.cache_write_ttl == "1h":
        return "1h"
    if ask.cache_write_ttl:
        return "5m"
    return "" if dialect == "anthropic" else "implicit"


def input_bound(ask: Ask, facts: ModelFacts, bounds: Bounds) -> int:
    """Input tokens that the call cannot exceed: no tokeniser makes more than one token of a byte."""
    in_body = ask.input_bytes + facts.prompt_overhead_tokens
    if not (ask.unbounded_input or ask.images or ask.server_tool_turns):
        return in_body
    context_tokens = facts.context_tokens or bounds.context_tokens_default
    turns = tool_turns(ask, bounds)
    unbounded = unbounded_reason(ask, facts.image_tokens_max)
    if ask.images and facts.image_tokens_max is not None and not unbounded:
        in_body += ask.images * facts.image_tokens_max - ask.image_bytes
    if turns:
        return (1 + turns) * max(context_tokens, in_body)
    # A context window that is only assumed may be smaller than what is sent.
    return max(ask.inputs * context_tokens, in_body) if unbounded else in_body


def unbounded_reason(ask: Ask, image_tokens_max: int | None) -> str:
    """Why nothing that is known bounds the input; "" if something does. Images do where the provider says what one
    costs at most."""
    if ask.unbounded_input == IMAGES and ask.images and image_tokens_max is not None:
        return ""
    return ask.unbounded_input


def tool_turns(ask: Ask, bounds: Bounds) -> int:
    """How often server-side tools may bill the input again, and their fee."""
    return bounds.server_tool_turns_max if ask.server_tool_turns == UNKNOWN_TURNS else ask.server_tool_turns


def demand_of(ask: Ask, facts: ModelFacts, rates: Rates | None, bounds: Bounds) -> Demand:
    """The worst case of one call. `rates` must be for at least `input_bound` input tokens."""
    input_tokens = input_bound(ask, facts, bounds)
    if not ask.generates:
        return Demand(input_tokens, 0, 0, 1, False, rates)
    wanted = ask.output_tokens_max
    injected = False
    if facts.ignores_caps:
        own = facts.output_tokens_max or facts.context_tokens or bounds.context_tokens_default
        wanted = max(wanted or 0, own)
        return Demand(input_tokens, wanted, wanted, ask.output_multiplier, False, rates)
    if facts.more_output_tokens:
        # Whatever its maximum will be: held beside it, as input that costs as much as output.
        more = facts.more_output_tokens * ask.output_multiplier
        input_tokens += more
        if rates is not None:
            fee = -(-more * max(0, rates.output_rate - rates.input_rate) // PRICE_UNITS)
            rates = replace(rates, request_nano_usd=rates.request_nano_usd + fee)
    if wanted is None:
        wanted = facts.output_tokens_max
    if wanted is None:
        wanted, injected = max(bounds.output_tokens_default, ask.output_tokens_floor), True
    if ask.output_fixed:
        return Demand(input_tokens, wanted, wanted, ask.output_multiplier, False, rates)
    least = min(wanted, max(bounds.output_tokens_min, ask.output_tokens_floor))
    return Demand(input_tokens, wanted, least, ask.output_multiplier, injected, rates)


def refuse_unbounded(ask: Ask, bounds: Bounds, image_tokens_max: int | None = None) -> Refused | None:
    """The admin's choice `unbounded = "refuse"`: calls whose input cannot be bounded do not pass a hard limit."""
    if bounds.unbounded == "hold":
        return None
    reason = unbounded_reason(ask, image_tokens_max)
    if not (reason or ask.server_tool_turns):
        return None
    why = reason or "server-side tools"
    return Refused(
        "bad_request",
        f"this call's input cannot be bounded ({why}), and your organisation refuses such calls under a limit",
        hint="send the content itself, or ask your admin",
    )
