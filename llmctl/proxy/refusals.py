"""A refusal as an HTTP answer, in the shape of the dialect that was called."""

from __future__ import annotations

from aiohttp import web

from llmctl.dialects.base import Dialect
from llmctl.domain.errors import Refused
from llmctl.store import ids

from .errors import SHAPES, headers_of, status_of

CALL_ID = "x-llmctl-call-id"
# What is left of such a request's body would be read as the next request.
_CLOSES = frozenset({"body_too_large", "body_timeout", "shutting_down"})


def response_of(refused: Refused, dialect: Dialect, call_id: int, now_s: float) -> web.Response:
    """Both spellings of the request id are ours: nothing went to a provider that would name another."""
    shape, status, shown = SHAPES[refused.code], status_of(refused.code, dialect.name), ids.shown(call_id)
    headers = headers_of(refused, dialect.name, now_s)
    headers.update(
        {
            CALL_ID: shown,
            "x-request-id": shown,
            "request-id": shown,
            "Content-Type": "application/json",
            "Server": "llmctl",
        }
    )
    if isinstance(allowed := refused.facts.get("allow"), str):
        headers["Allow"] = allowed
    body = dialect.error_body(
        status,
        code=shape.openai_code or refused.code,
        type=shape.anthropic_type if dialect.name == "anthropic" else shape.openai_type,
        message=str(refused),
        param=refused.param,
        request_id=shown,
    )
    response = web.Response(status=status, body=body, headers=headers)
    if refused.code in _CLOSES:
        response.force_close()
    return response
