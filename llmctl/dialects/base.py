"""What the proxy needs from a dialect. Which one speaks is decided by the path table, never by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..domain.call import Reading
from ..domain.errors import Refused
from ..domain.usage import Usage
from .request import Request

__all__ = ["AnswerReader", "Dialect", "InputText", "Request", "credential_headers"]

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class InputText:
    """What an offline token count needs of a request."""

    messages: tuple[tuple[str, str], ...]  # role and text
    tools: str = ""  # tools and the schema of the answer, as JSON
    framed: bool = True  # False: plain texts, without the tokens that a chat puts around each message
    tokens: int = 0  # given as token numbers instead of text


class AnswerReader(Protocol):
    """Reads an answer beside its way to the client."""

    @property
    def first_output(self) -> bool:
        """Generated output has been seen: from the moment of the first token on."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What to forward for `chunk`: itself, unless something is taken out."""
        ...

    def close(self) -> bytes:
        """After the last chunk, or after the answer broke off: the rest to forward."""
        ...

    def reading(self) -> Reading:
        """What was read; after `close`. The client need not wait for it."""
        ...


class Dialect(ABC):
    """What one API's clients and providers say, and how. Here is what most of them do alike."""

    name: str
    models_target = ""  # where a provider lists its models, below its base URL; "" = nowhere

    def read_models(self, body: bytes) -> list[str]:
        """The names in that list. Raises ValueError: it is none."""
        raise ValueError(f"{self.name} lists its models elsewhere")

    def read_request(self, endpoint: str, body: bytes, path_model: str = "") -> Request:
        """`path_model`: the model, where the path names it. Raises Refused."""
        try:
            return self._read_request(endpoint, body, path_model)
        except RecursionError:
            raise Refused("bad_request", "the request body is nested too deeply") from None

    @abstractmethod
    def _read_request(self, endpoint: str, body: bytes, path_model: str) -> Request:
        """As above. May raise RecursionError too."""

    @abstractmethod
    def read_answer(self, endpoint: str, body: bytes) -> Reading:
        """Reads a whole answer. Never raises: what makes no sense counts as absent."""

    def streams(self, endpoint: str, request: Request, content_type: str) -> bool:
        """Whether an answer of this type comes in pieces for `reader`; any other is kept for `read_answer`."""
        return content_type.startswith(EVENT_STREAM)

    @abstractmethod
    def reader(self, endpoint: str, request: Request, strip_usage: bool = False) -> AnswerReader:
        """`strip_usage`: take the usage event out again that we asked for and the client did not."""

    @abstractmethod
    def stream_texts(self, stream: bytes) -> list[str]:
        """The generated text in a stream, or in as much of it as is there: that of each choice and block by itself.
        Costs a full parse. Never raises."""

    @abstractmethod
    def read_usage(self, endpoint: str, raw_usage: bytes) -> Usage | None:
        """The usage of a call again, from its `Reading.raw_usage`. Tool calls that were counted in the answer's output
        are not in it."""

    @abstractmethod
    def input_text(self, request: Request) -> InputText:
        """For estimates; costs a full parse."""

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        """How the provider wants to be shown a credential."""
        return {"Authorization": f"Bearer {credential}"}

    def default_headers(self) -> Mapping[str, str]:
        """What the provider needs where the client sends none."""
        return {}

    @abstractmethod
    def error_body(
        self, status: int, *, code: str, type: str, message: str, param: str | None = None, request_id: str = ""
    ) -> bytes:
        """An error of ours, in the shape that the dialect's clients read. `type` "": the one that fits `status`."""


def credential_headers(dialect: Dialect, auth: str, credential: str) -> Mapping[str, str]:
    """How a provider is shown a credential: as the dialect's own clients do, unless `auth` says otherwise."""
    if auth == "bearer":
        return {"Authorization": f"Bearer {credential}"}
    if auth == "api-key":
        return {"api-key": credential}
    if auth == "sigv4":
        return {}  # no credential is shown: each request is signed with it
    return dialect.credential_headers(credential)
