"""What answers teach about a route's worst case: hidden prompts larger than was allowed for, output maxima that the
provider does not keep to, a dearer tier that the provider's own settings ask for. Each worker learns by itself, from
the next call on; the log says what to configure."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from llmctl.domain.call import Ask
from llmctl.store.booking import Closing

if TYPE_CHECKING:
    from .call import Call
    from .plan import Plan

logger = logging.getLogger(__name__)

ROUTES_MAX = 1_000
STEP_TOKENS = 1_024  # input is raised by whole ones, so that a few lessons are enough
OUTPUT_STEP_TOKENS = 64
NO_OPTION_S = 3_600.0
UNSAID = ("", "auto")  # what the provider makes of these, its own settings say
MORE_OUTPUT_TOKENS_MAX = 1_024  # beyond it a maximum is not kept to, but ignored


class Lesson(NamedTuple):
    more_input_tokens: int = 0  # than what the configuration allows for
    more_output_tokens: int = 0  # for each choice, than the maximum that it was told
    ignores_caps: bool = False
    service_tier: str = ""  # dearer than the standard one, and served to those who ask for none
    no_usage_option_until_s: float = 0.0  # by the performance counter: its streams cannot be asked for usage

    def tier_of(self, ask: Ask) -> str:
        """For which a call has to hold."""
        return self.service_tier if self.service_tier and ask.service_tier in UNSAID else ask.service_tier


NOTHING = Lesson()


class Lessons:
    """By provider and upstream model. Belongs to the event loop."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, str], Lesson] = {}

    def of(self, provider: str, model: str) -> Lesson:
        return self._learned.get((provider, model), NOTHING) if self._learned else NOTHING

    def learn(self, call: Call, closing: Closing) -> None:
        """From a call that ended above what it held, or was served dearer than it asked."""
        usage, plan = closing.usage, call.plan
        if closing.service_tier and call.asked.ask.service_tier in UNSAID:
            self._learn_tier(plan, closing)
        more_input = usage.input_tokens - plan.demand.input_tokens
        more_output = usage.output_tokens - call.held_output_tokens
        if (more_input <= 0 and more_output <= 0) or closing.usage_source != "reported":
            return
        place = (plan.provider.name, plan.model)
        lesson = known = self.of(*place)
        if more_input > 0 and _bytes_bound(call.asked.ask):
            # More than this call allowed for: it may have been judged before an earlier lesson.
            more = max(known.more_input_tokens, plan.lesson.more_input_tokens + _whole(more_input, STEP_TOKENS))
            lesson = lesson._replace(more_input_tokens=more)
            logger.warning(
                "%s/%s counts more input than its bytes: %d tokens more are held from now on; for good: "
                "prompt_overhead_tokens = %d in [providers.%s]",
                *place,
                more,
                plan.provider.prompt_overhead_tokens + more,
                plan.provider.name,
            )
        if (cap := call.output_tokens_sent) is not None and more_output > 0:
            each = -(-usage.output_tokens // plan.demand.output_multiplier) - cap
            more = max(known.more_output_tokens, _whole(each, OUTPUT_STEP_TOKENS))
            lesson = lesson._replace(more_output_tokens=more, ignores_caps=more > MORE_OUTPUT_TOKENS_MAX)
            if lesson.ignores_caps > known.ignores_caps:
                logger.warning("%s/%s does not keep to output maxima: its own maximum is held from now on", *place)
        self._keep(place, lesson)

    def _learn_tier(self, plan: Plan, closing: Closing) -> None:
        """An OpenAI project may default to priority, an Anthropic workspace to one place:
        https://developers.openai.com/api/docs/guides/priority-processing"""
        place, tier = (plan.provider.name, plan.model), closing.service_tier
        known, price = self.of(*place), plan.price
        if known.service_tier == tier or price is None:
            return
        if price.cost_nano_usd(closing.usage, tier) > price.cost_nano_usd(closing.usage, known.service_tier):
            self._keep(place, known._replace(service_tier=tier))
            logger.warning("%s/%s serves tier %s to those who ask for none: it is held from now on", *place, tier)

    def refuses_usage_option(self, provider: str, model: str) -> None:
        """It does not know `stream_options`: streams are counted by their text, until it is asked once more."""
        logger.warning("%s/%s takes no stream_options: streams without usage are estimated", provider, model)
        until_s = time.perf_counter() + NO_OPTION_S
        self._keep((provider, model), self.of(provider, model)._replace(no_usage_option_until_s=until_s))

    def _keep(self, place: tuple[str, str], lesson: Lesson) -> None:
        if len(self._learned) < ROUTES_MAX or place in self._learned:
            self._learned[place] = lesson


def _whole(tokens: int, step: int) -> int:
    return -(-tokens // step) * step


def _bytes_bound(ask: Ask) -> bool:
    return not ask.unbounded_input and not ask.server_tool_turns and not ask.images
