"""Offline counts for answers that report no usage. Rare, slow (the first loads a vocabulary), and so in a thread."""

from __future__ import annotations

import asyncio
import logging

from llmctl import tokenizer
from llmctl.domain.call import Reading
from llmctl.domain.usage import Usage

from . import settlement
from .call import Call

logger = logging.getLogger(__name__)


async def estimate(call: Call, reading: Reading) -> Usage:
    """What was sent and seen, counted; the worst case where that is not possible."""
    if call.asked.ask.guess is not None:
        return call.asked.ask.guess
    try:
        input_tokens, seen_tokens = await asyncio.to_thread(_count, call, reading)
    except tokenizer.TokenizerError as error:
        logger.error("cannot count tokens offline, booking the worst case: %s", error)
        input_tokens, seen_tokens = call.plan.demand.input_tokens, call.held.output_tokens
    return settlement.estimated(call, reading, input_tokens=input_tokens, seen_tokens=seen_tokens)


def _count(call: Call, reading: Reading) -> tuple[int, int]:
    model, text = call.plan.model, call.endpoint.dialect.input_text(call.asked)
    if text.framed:
        messages = [tokenizer.ChatText(role, content) for role, content in text.messages]
        input_tokens = tokenizer.count_chat(messages, model)
    else:
        input_tokens = sum(tokenizer.count(content, model) for _, content in text.messages)
    input_tokens += tokenizer.count(text.tools, model) + text.tokens
    return input_tokens, tokenizer.count(reading.output_text, model)
