"""What can go wrong, and how each dialect says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Dialect = Literal["openai", "anthropic", "gemini"]


class SandboxError(Exception):
    """An answer to the client that is an error. `code` is a row of `FAULTS`."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of a provider, as each of their APIs names it."""

    status: int
    openai_type: str
    openai_code: str | None
    anthropic_type: str


FAULTS: Final = {
    "invalid": Fault(400, "invalid_request_error", None, "invalid_request_error"),
    "context_overflow": Fault(400, "invalid_request_error", "context_length_exceeded", "invalid_request_error"),
    "bad_credential": Fault(401, "invalid_request_error", "invalid_api_key", "authentication_error"),
    "unknown_model": Fault(404, "invalid_request_error", "model_not_found", "not_found_error"),
    "unknown_object": Fault(404, "invalid_request_error", None, "not_found_error"),
    "no_previous_response": Fault(400, "invalid_request_error", "previous_response_not_found", "invalid_request_error"),
    "unknown_path": Fault(404, "invalid_request_error", "unknown_url", "not_found_error"),
    "wrong_method": Fault(405, "invalid_request_error", "method_not_supported", "invalid_request_error"),
    "too_large": Fault(413, "invalid_request_error", "request_too_large", "request_too_large"),
    "internal": Fault(500, "server_error", None, "api_error"),
}


GOOGLE_STATUSES: Final = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED", 500: "INTERNAL"}


def document(error: SandboxError, dialect: Dialect, request_id: str) -> dict[str, Any]:
    """The error body as the dialect's official SDK reads it."""
    fault = FAULTS[error.code]
    if dialect == "anthropic":
        return {
            "type": "error",
            "error": {"type": fault.anthropic_type, "message": error.message},
            "request_id": request_id,
        }
    if dialect == "gemini":
        status = GOOGLE_STATUSES.get(fault.status, "INVALID_ARGUMENT")
        return {"error": {"code": fault.status, "message": error.message, "status": status}}
    return {
        "error": {
            "message": error.message,
            "type": fault.openai_type,
            "param": error.param,
            "code": fault.openai_code,
        }
    }
