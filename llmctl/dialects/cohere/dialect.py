"""Cohere's own dialect, version 2: https://docs.cohere.com/reference/about"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...domain.call import Reading
from ...domain.errors import Refused
from ...domain.usage import Usage
from ..base import InputText, StreamReader, is_event_stream
from ..request import Request
from . import usage as cohere_usage
from .answer import CohereReader, input_text, read_answer
from .request import read_request


class Cohere:
    name = "cohere"
    models_target = ""  # in version 1 alone, beside the base URL

    def read_request(self, endpoint: str, body: bytes, path_model: str = "") -> Request:
        try:
            return read_request(endpoint, body)
        except RecursionError:  # nested to just what the first look at it still took
            raise Refused("bad_request", "the request body is nested too deeply") from None

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        return is_event_stream(content_type)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> StreamReader:
        return CohereReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return cohere_usage.read_usage(raw_usage)

    def read_models(self, body: bytes) -> list[str]:
        raise ValueError("Cohere lists its models elsewhere")

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {credential}"}

    def default_headers(self) -> Mapping[str, str]:
        return {}

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        return msgspec.json.encode({"id": request_id, "message": message})


COHERE = Cohere()
