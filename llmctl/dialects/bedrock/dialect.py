"""Amazon Bedrock's dialect: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html"""

from __future__ import annotations

import msgspec

from ...domain.call import Reading
from ...domain.usage import Usage
from ..base import AnswerReader, Dialect, InputText
from ..request import Request
from ..wire.event_stream import CONTENT_TYPE
from . import usage as bedrock_usage
from .answer import BedrockReader, input_text, read_answer, stream_texts
from .request import read_request

# https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html. Clients raise these by name, and look at
# it to know whether another try is worth it.
_TYPES = {
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
_SPENT = "insufficient_quota"


class Bedrock(Dialect):
    """A credential is a Bedrock API key; where it is an AWS key, each request is signed with it instead."""

    name = "bedrock"
    # models are listed at another address, which takes other rights

    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        return read_request(endpoint, body, path_model)

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        return content_type.startswith(CONTENT_TYPE)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        return BedrockReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return bedrock_usage.read_usage(raw_usage)

    def stream_texts(self, stream: bytes) -> list[str]:
        return stream_texts(stream)

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        kind = _TYPES.get(status, "ValidationException" if status < 500 else "InternalServerException")
        kind = "ServiceQuotaExceededException" if code == _SPENT else kind
        return msgspec.json.encode({"__type": kind, "message": message})


BEDROCK = Bedrock()
