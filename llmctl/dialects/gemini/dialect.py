"""The Gemini dialect: Google's own API, at Google AI and at Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from .. import model_list
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from . import usage as gemini_usage
from .answer import EMBEDDINGS, GeminiReader, input_text, read_answer, stream_texts
from .request import read_request

# HTTP status -> google.rpc.Code: https://docs.cloud.google.com/apis/design/errors
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


class Gemini(Dialect):
    name = "gemini"
    models_target = "/models?pageSize=1000"

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        return read_request(endpoint, body, path_model)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(endpoint, body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        return request.ask.stream  # as events or as a JSON list: both come in pieces

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        return GeminiReader(endpoint)  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return gemini_usage.read_usage(raw_usage, generates=endpoint not in EMBEDDINGS)

    def read_models(self, body: bytes) -> list[str]:
        return [name.removeprefix("models/") for name in model_list.named(body)]

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        return {"x-goog-api-key": credential}

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        """Google names errors by their status alone; `code` is the reason in the details."""
        name = _STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
        about = {name: value for name, value in (("param", param), ("requestId", request_id)) if value}
        details = [{"@type": _ERROR_INFO, "reason": code.upper(), "domain": "llmctl", "metadata": about}]
        error = {"code": status, "message": message, "status": name, "details": details}
        return msgspec.json.encode({"error": error})


GEMINI = Gemini()
