"""A second look at a call whose bytes do not fit a limit: its tokens may. Only for models whose vocabulary is known."""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from llmctl import tokenizer
from llmctl.dialects.request import Request
from llmctl.domain.errors import Refused
from llmctl.domain.why import Looked

from .plan import Plan

logger = logging.getLogger(__name__)

CATALOGUES = frozenset({"openai", "azure"})  # whose models tiktoken counts exactly
BODY_BYTES_MIN = 2_000  # below, there is little to gain
BYTES_PER_TOKEN_MAX = 8  # more, no ordinary text has: what would not fit so either is not counted
MARGIN_PERCENT = 10
_at_once = asyncio.Semaphore(2)  # counting takes a tenth of a second a megabyte, beside those who call


async def input_tokens(asked: Request, plan: Plan, refused: Refused) -> int | None:
    """An upper bound of the input by the tokens of the whole body; None where that cannot help."""
    if plan.provider.catalogue not in CATALOGUES or asked.ask.unbounded_input or asked.ask.server_tool_turns:
        return None
    if asked.ask.guess is not None:  # its bound is not made of bytes alone
        return None
    if asked.ask.input_bytes < BODY_BYTES_MIN or not refused.looked:
        return None
    if not all(_may_fit(one, plan, asked) for one in refused.looked if one.verdict == "refused"):
        return None
    async with _at_once:
        try:
            counted = await asyncio.to_thread(_count, asked.body, plan.model)
        except tokenizer.TokenizerError as error:
            logger.error("cannot count tokens offline: %s", error)
            return None
    lesson = plan.lesson
    bound = counted + counted * MARGIN_PERCENT // 100 + plan.provider.prompt_overhead_tokens + lesson.more_input_tokens
    bound += lesson.more_output_tokens * plan.demand.output_multiplier  # held as input, see `demand_of`
    return bound if bound < plan.demand.input_tokens else None


def _may_fit(one: Looked, plan: Plan, asked: Request) -> bool:
    least = replace(plan.demand, input_tokens=asked.ask.input_bytes // BYTES_PER_TOKEN_MAX)
    if one.measure == "cost":
        return least.cost_nano_usd(least.output_tokens_min) <= one.left
    return one.measure == "tokens" and least.tokens(least.output_tokens_min) <= one.left


def _count(body: bytes, model: str) -> int:
    return tokenizer.count(body.decode(errors="replace"), model)
