"""Requests in Ollama's own dialect: chat, generate, embed.

Shapes: https://docs.ollama.com/api and the types of the `ollama` package 0.6.
"""

from __future__ import annotations

from msgspec import Raw

from ...domain.call import Ask
from ...domain.demand import IMAGES
from ..content import Images, Names, list_reason
from ..openai.tools import tools_turns
from ..request import Path, Request, read_model
from ..wire.fields import Fields, bad_request, read_object

MONEY_NAMES = frozenset(
    {"model", "messages", "prompt", "suffix", "system", "template", "context", "images", "input", "options", "stream"}
    | {"tools", "raw"}
)
OUTPUT_PATH: Path = ("options", "num_predict")
OPTIONS = frozenset({"num_predict"})

TEXT = ""
MESSAGE_NAMES: Names = {
    "role": TEXT,
    "thinking": TEXT,
    "tool_calls": TEXT,
    "tool_name": TEXT,
    "tool_call_id": TEXT,
    "images": IMAGES,
}
EMBEDS = ("ollama.embed", "ollama.embeddings")
SHOW = "ollama.show"


def read_request(endpoint: str, body: bytes) -> Request:
    """The request in `body`. Raises Refused("bad_request")."""
    fields = read_object(body, MONEY_NAMES)
    if endpoint == SHOW:
        ask = Ask(endpoint, read_model(fields), stream=False, input_bytes=len(body), generates=False, free=True)
        return Request(ask, body, fields)
    if endpoint in EMBEDS:
        ask = Ask(endpoint, read_model(fields), stream=False, input_bytes=len(body), generates=False)
        return Request(ask, body, fields)
    stream = fields.boolean("stream")
    output_tokens_max = _output_maximum(fields)
    ask = Ask(
        endpoint=endpoint,
        model=read_model(fields),
        stream=stream is None or stream,  # unlike everybody else's, streams are the default
        input_bytes=len(body),
        output_tokens_max=output_tokens_max,
        unbounded_input=_unbounded(fields),
        server_tool_turns=tools_turns(fields.raw("tools"), "tools"),
    )
    return Request(ask, body, fields, () if output_tokens_max is None else ((OUTPUT_PATH, output_tokens_max),))


def _output_maximum(fields: Fields) -> int | None:
    """`num_predict`; None where it bounds nothing: absent, or 0 or less (-1: without end, -2: until the context is
    full; the server itself stops at ten contexts)."""
    options = fields.object("options", OPTIONS)
    value = options.raw("num_predict") if options is not None else None
    if value is None:
        return None
    if bytes(value) in (b"-1", b"-2"):
        return None
    assert options is not None
    return options.integer("num_predict") or None


def _unbounded(fields: Fields) -> str:
    if "template" in fields:
        return "a template of the request's own"  # a loop in it makes much of little
    if _holds(fields.raw("images")):
        return IMAGES
    for name in ("prompt", "suffix", "system"):
        fields.string(name)
    messages = fields.raw("messages")
    if messages is not None and memoryview(messages)[0] != ord("["):
        raise bad_request("messages must be a list", param="messages")
    return list_reason(messages, {}, "messages", Images(), MESSAGE_NAMES)


def _holds(value: Raw | None) -> bool:
    return value is not None and bytes(value).strip(b"[ \t\r\n]") != b""
