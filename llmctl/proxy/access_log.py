"""The access log: a line for each request, where the configuration wants one."""

from __future__ import annotations

import logging
import time

from aiohttp.web import StreamResponse

from llmctl.store import ids

from .call import Arrival
from .logs import FIELDS

logger = logging.getLogger(__name__)

PATH_CHARS_MAX = 200


def note(arrival: Arrival, answer: StreamResponse) -> None:
    """Without the query, in which some clients show their keys; and without prompts, answers and headers."""
    caller, ask = arrival.caller, arrival.asked and arrival.asked.ask
    fields = {
        "call": ids.shown(arrival.id),
        "method": arrival.http.method,
        "path": arrival.path[:PATH_CHARS_MAX],
        "status": answer.status,
        "duration_ms": round((time.perf_counter() - arrival.began_s) * 1000),
        "address": arrival.address,
        "user": caller.user_name if caller else "",
        "key": caller.key_public_id if caller else "",
        "model": ask.model if ask else "",
    }
    logger.info("request", extra={FIELDS: {name: value for name, value in fields.items() if value != ""}})
