"""JSON and server-sent events, in and out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec

from .errors import SandboxError

T = TypeVar("T")

Positive = Annotated[int, msgspec.Meta(ge=1)]

DONE: Final = b"data: [DONE]\n\n"
_ID: Final = re.compile(r"[a-z]{2,8}_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer in pieces, as server-sent events unless it says otherwise. The frames are made while they are sent."""

    frames: Iterator[bytes]
    content_type: str = "text/event-stream; charset=utf-8"


Reply = dict[str, Any] | Stream
# Request body in, answer out: pure, may run in any thread, raises SandboxError.
Endpoint = Callable[[bytes], Reply]


def parse(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise SandboxError("invalid", f"The request is not valid: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SandboxError("invalid", f"The request body is not JSON: {error}.") from None
    except RecursionError:
        raise SandboxError("invalid", "The request body is nested too deeply.") from None


def frame(data: dict[str, Any], event: str = "") -> bytes:
    """One server-sent event. JSON has no raw line break, so one `data:` line always suffices."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def new_id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex


def is_id(text: str) -> bool:
    """One that `new_id` made, by its looks."""
    return _ID.fullmatch(text) is not None
