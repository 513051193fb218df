"""Cohere's own dialect, version 2: https://docs.cohere.com/reference/about"""

from __future__ import annotations

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from . import usage as cohere_usage
from .answer import CohereReader, input_text, read_answer, stream_texts
from .request import read_request


class Cohere(Dialect):
    name = "cohere"
    # models are listed in version 1 alone, beside the base URL

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        return read_request(endpoint, body)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        return CohereReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return cohere_usage.read_usage(raw_usage)

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        return msgspec.json.encode({"id": request_id, "message": message})


COHERE = Cohere()
