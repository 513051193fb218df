"""The Anthropic dialect."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from .. import model_list
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from . import usage as anthropic_usage
from .answer import AnthropicReader, input_text, read_answer, stream_texts
from .request import read_request

VERSION = "2023-06-01"  # the only one that serves the present shapes

# https://platform.claude.com/docs/en/api/errors
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Anthropic(Dialect):
    name = "anthropic"
    models_target = "/models"

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        return read_request(endpoint, body)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        return AnthropicReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return anthropic_usage.read_usage(raw_usage)

    def read_models(self, body: bytes) -> list[str]:
        return model_list.names(body)

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        return {"x-api-key": credential}

    def default_headers(self) -> Mapping[str, str]:
        return {"anthropic-version": VERSION}

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        kind = type or _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id or None}
        return msgspec.json.encode(error)


ANTHROPIC = Anthropic()
