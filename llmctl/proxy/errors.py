"""Refusals as HTTP: one table, code -> status and the names that each dialect gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmctl.domain.errors import LlmctlError, Refused, StoreError
from llmctl.domain.moment import rfc3339

Retry = Literal["as the SDK thinks", "never", "later"]


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How one code looks on the wire."""

    status: int
    openai_type: str
    openai_code: str | None
    anthropic_status: int
    anthropic_type: str
    retry: Retry = "as the SDK thinks"


def _bad(status: int, code: str | None, anthropic_type: str = "invalid_request_error") -> ErrorShape:
    return ErrorShape(status, "invalid_request_error", code, status, anthropic_type)


# SDKs retry 408, 409, 429 and >= 500 twice unless x-should-retry says otherwise, and one of them obeys any
# retry-after: so what will not pass soon says "never", and only short waits are named.
SHAPES: dict[str, ErrorShape] = {
    "invalid_api_key": _bad(401, "invalid_api_key", "authentication_error"),
    "address_not_allowed": _bad(403, "address_not_allowed", "permission_error"),
    "model_not_allowed": _bad(403, "model_not_allowed", "permission_error"),
    "model_unpriced": _bad(403, "model_unpriced", "permission_error"),
    "model_not_found": _bad(404, "model_not_found", "not_found_error"),
    "path_not_found": _bad(404, "path_not_found", "not_found_error"),
    "object_not_found": _bad(404, None, "not_found_error"),
    # OpenAI's own code, which agents know; with 404 as for any other object that is not the caller's.
    "previous_response_not_found": _bad(404, "previous_response_not_found", "not_found_error"),
    "method_not_allowed": _bad(405, "method_not_allowed"),
    "not_supported": _bad(404, "not_supported", "not_found_error"),
    "limit_spent": ErrorShape(429, "insufficient_quota", "insufficient_quota", 402, "billing_error", "never"),
    "limit_held": ErrorShape(429, "rate_limit_exceeded", "rate_limit_exceeded", 429, "rate_limit_error", "later"),
    "rate_limited": ErrorShape(429, "rate_limit_exceeded", "rate_limit_exceeded", 429, "rate_limit_error", "later"),
    "request_exceeds_limit": _bad(400, "request_exceeds_limit"),
    "bad_request": _bad(400, "bad_request"),
    "body_too_large": _bad(413, "body_too_large", "request_too_large"),
    "body_timeout": _bad(408, "body_timeout"),
    "database_unavailable": ErrorShape(503, "server_error", "database_unavailable", 503, "api_error", "later"),
    "shutting_down": ErrorShape(503, "server_error", "shutting_down", 503, "api_error", "later"),
    "overloaded": ErrorShape(503, "server_error", "overloaded", 529, "overloaded_error", "later"),
    "provider_unreachable": ErrorShape(502, "server_error", "provider_unreachable", 502, "api_error"),
    "provider_failed": ErrorShape(502, "server_error", "provider_failed", 502, "api_error", "never"),
    "provider_credential": ErrorShape(502, "server_error", "provider_credential", 502, "api_error", "never"),
    "provider_timeout": ErrorShape(504, "server_error", "provider_timeout", 504, "timeout_error", "never"),
    "internal_error": ErrorShape(500, "server_error", "internal_error", 500, "api_error", "never"),
}

# Where a dialect's own servers answer otherwise, and its SDKs act on it. Cohere's SDK retries every 429:
# https://docs.cohere.com/reference/errors
STATUSES: dict[tuple[str, str], int] = {
    ("cohere", "limit_spent"): 402,
    # AWS's SDKs retry 429, 500, 502, 503, 504, whatever else an answer says:
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors
    ("bedrock", "limit_spent"): 400,
    ("bedrock", "provider_failed"): 424,
    ("bedrock", "provider_credential"): 424,
    ("bedrock", "provider_timeout"): 408,
}

RETRY_AFTER_S_MAX = 60


def as_refused(error: LlmctlError) -> Refused:
    """Any of our errors as a refusal. What is wrong with the database is for the admin's log, not for clients."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, StoreError):
        return Refused("database_unavailable", "the gateway cannot book calls right now", hint="retry in a moment")
    return Refused("internal_error", "the gateway failed", hint="ask your admin to look at its log")


def status_of(code: str, dialect: str) -> int:
    shape = SHAPES[code]
    return shape.anthropic_status if dialect == "anthropic" else STATUSES.get((dialect, code), shape.status)


def headers_of(refused: Refused, dialect: str, now_s: float) -> dict[str, str]:
    """Headers that tell SDKs what to do next."""
    shape = SHAPES[refused.code]
    headers = {}
    if shape.retry == "never":
        headers["x-should-retry"] = "false"
    elif shape.retry == "later":
        wait_s = min(max(refused.retry_after_s or 1.0, 1.0), RETRY_AFTER_S_MAX)
        headers["retry-after"] = str(round(wait_s))
        headers["retry-after-ms"] = str(round(wait_s * 1000))
        headers.update(_rate_headers(refused, dialect, now_s))
    return headers


def _rate_headers(refused: Refused, dialect: str, now_s: float) -> dict[str, str]:
    """The rate-limit set of the dialect, for limits that count requests or tokens."""
    facts = refused.facts
    measure, amount, spent, held = (facts.get(name) for name in ("measure", "amount", "spent", "held"))
    resets_at_s = facts.get("resets_at_s")
    if measure not in ("requests", "tokens") or not isinstance(amount, int) or not isinstance(resets_at_s, int):
        return {}
    remaining = max(0, amount - (spent if isinstance(spent, int) else 0) - (held if isinstance(held, int) else 0))
    if dialect == "anthropic":
        name = f"anthropic-ratelimit-{measure}"
        reset = rfc3339(resets_at_s)
        return {f"{name}-limit": str(amount), f"{name}-remaining": str(remaining), f"{name}-reset": reset}
    reset = f"{max(0, round(resets_at_s - now_s))}s"
    return {
        f"x-ratelimit-limit-{measure}": str(amount),
        f"x-ratelimit-remaining-{measure}": str(remaining),
        f"x-ratelimit-reset-{measure}": reset,
    }
