"""The OpenAI dialect, which most providers speak."""

from __future__ import annotations

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from .. import model_list
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from ..wire.multipart import Form
from . import usage as openai_usage
from .answer import OpenAiReader, read_answer
from .media_answer import SpeechReader, read_media_usage
from .media_request import MEDIA, read_form, read_media
from .request import read_request
from .text import input_text, stream_texts

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAi(Dialect):
    name = "openai"
    models_target = "/models"

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        if endpoint in MEDIA:
            return read_media(endpoint, body, path_model)
        return read_request(endpoint, body, path_model)

    def read_form(self, endpoint: str, form: Form, path_model: str = "") -> Request:
        """Where requests come as multipart/form-data. Raises Refused."""
        return read_form(endpoint, form, path_model)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(endpoint, body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        if endpoint == "audio.speech":
            return not content_type.startswith("application/json")  # sound is heard as it comes
        return super().streams(endpoint, request, content_type)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        if endpoint == "audio.speech":
            return SpeechReader(lambda: OpenAiReader(endpoint))
        return OpenAiReader(endpoint, strip=strip_usage)

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        if endpoint in MEDIA:
            return read_media_usage(endpoint, raw_usage)
        return openai_usage.read_usage(raw_usage, generates=endpoint != "embeddings")

    def read_models(self, body: bytes) -> list[str]:
        return model_list.names(body)

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        kind = type or _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


OPENAI = OpenAi()
