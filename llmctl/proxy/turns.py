"""Work beside the calls, in turns: one that fails is logged, and the next one comes all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


async def take_turns(name: str, turn: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Until cancelled, with a pause before each. What a turn expects to go wrong, it handles itself."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await turn()
        except Exception:
            logger.exception("%s: a turn failed", name)
