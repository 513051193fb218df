"""Ollama's own dialect: https://docs.ollama.com/api"""

from __future__ import annotations

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from .. import model_list
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from . import answer as ollama_answer
from .answer import OllamaReader, input_text, read_answer, stream_texts
from .request import read_request

JSON_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


class Ollama(Dialect):
    """The server itself asks for no credential; the proxies before it, and ollama.com, for a bearer's."""

    name = "ollama"
    models_target = "/tags"

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        return read_request(endpoint, body)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        return content_type.startswith(JSON_LINES)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        return OllamaReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return ollama_answer.read_usage(raw_usage)

    def read_models(self, body: bytes) -> list[str]:
        return model_list.named(body)

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        return msgspec.json.encode({"error": message})


OLLAMA = Ollama()
