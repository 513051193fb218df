"""Amazon Bedrock's dialect: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...domain.call import Reading
from ...domain.errors import Refused
from ...domain.usage import Usage
from ..base import InputText, StreamReader
from ..request import Request
from ..wire.event_stream import CONTENT_TYPE
from . import usage as bedrock_usage
from .answer import BedrockReader, input_text, read_answer
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


class Bedrock:
    name = "bedrock"
    models_target = ""  # at another address, which takes other rights

    def read_request(self, endpoint: str, body: bytes, path_model: str = "") -> Request:
        try:
            return read_request(endpoint, body, path_model)
        except RecursionError:  # nested to just what the first look at it still took
            raise Refused("bad_request", "the request body is nested too deeply") from None

    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        return read_answer(body)

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        return content_type.startswith(CONTENT_TYPE)

    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> StreamReader:
        return BedrockReader()  # usage always comes: there is nothing to ask for, nothing to strip

    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        return bedrock_usage.read_usage(raw_usage)

    def read_models(self, body: bytes) -> list[str]:
        raise ValueError("Bedrock lists its models elsewhere")

    def input_text(self, request: Request) -> InputText:
        return input_text(request)

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        """A Bedrock API key; where the credential is an AWS key, each request is signed with it instead."""
        return {"Authorization": f"Bearer {credential}"}

    def default_headers(self) -> Mapping[str, str]:
        return {}

    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        kind = _TYPES.get(status, "ValidationException" if status < 500 else "InternalServerException")
        kind = "ServiceQuotaExceededException" if code == _SPENT else kind
        return msgspec.json.encode({"__type": kind, "message": message})


BEDROCK = Bedrock()
