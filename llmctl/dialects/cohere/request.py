"""Requests in Cohere's own dialect, version 2: chat, embed, rerank.

Shapes: the types of the `cohere` package 7.3 and https://docs.cohere.com/reference/chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from ...domain.call import Ask
from ...domain.demand import IMAGES
from ..content import Images, Names, Rules, list_reason
from ..openai.tools import tools_turns
from ..request import Request, read_model, read_outputs, thinking_floor
from ..wire.fields import Fields, bad_request, is_obscure, read_object, read_objects
from ..wire.shortened import full_size

OUTPUT_NAMES = frozenset({"max_tokens"})
MONEY_NAMES = OUTPUT_NAMES | {
    *("model", "messages", "stream", "thinking", "tools", "documents"),
    *("texts", "images", "inputs", "query", "max_tokens_per_doc"),
}
THINKING = frozenset({"type", "token_budget"})

TEXT = ""
PARTS: Rules = {
    b'"text"': TEXT,
    b'"thinking"': TEXT,
    b'"document"': TEXT,  # of a tool's result: the text itself
    b'"image_url"': IMAGES,
}
MESSAGE_NAMES: Names = {
    "role": TEXT,
    "tool_calls": TEXT,
    "tool_call_id": TEXT,
    "tool_plan": TEXT,
    "citations": TEXT,
}

DOCUMENTS_MAX = 10_000  # of one request: https://docs.cohere.com/docs/reranking-best-practices
DOCUMENTS_PER_UNIT = 100
# A document longer than a chunk counts as several; query and document share one: https://cohere.com/pricing
CHUNK_TOKENS = 500
CHUNK_TOKENS_MIN = 100  # of the document, beside a query that nearly fills a chunk
DOCUMENT_TOKENS_MAX = 4_096  # longer ones are cut off, unless max_tokens_per_doc says otherwise

_items = msgspec.json.Decoder(list[Raw]).decode
_IMAGE = re.compile(rb'"type"\s*+:\s*+"image')


def read_request(endpoint: str, body: bytes) -> Request:
    """The request in `body`. Raises Refused("bad_request")."""
    return _READ[endpoint](read_object(body, MONEY_NAMES))


def read_chat(fields: Fields) -> Request:
    outputs = read_outputs(fields, OUTPUT_NAMES)
    output_tokens_max = outputs[0][1] if outputs else None
    images = Images()
    reason = list_reason(fields.values.get("messages"), PARTS, "messages", images, MESSAGE_NAMES)
    ask = Ask(
        endpoint="cohere.chat",
        model=read_model(fields),
        stream=bool(fields.boolean("stream")),
        input_bytes=len(fields.body),
        output_tokens_max=output_tokens_max,
        output_tokens_floor=_thinking_floor(fields, output_tokens_max),
        unbounded_input=images.reason(reason),
        images=images.count,
        image_bytes=images.bytes,
        server_tool_turns=tools_turns(fields.raw("tools"), "tools"),
    )
    return Request(ask, fields.body, fields, outputs)


def read_embed(fields: Fields) -> Request:
    images = len(_list(fields, "images"))
    inputs = fields.raw("inputs")
    if inputs is not None and read_objects(inputs, "inputs") is None:
        raise bad_request("inputs must be a list of objects", param="inputs")
    if inputs is not None and is_obscure(bytes(inputs)):
        raise bad_request("letters of inputs are written as escapes; write them as they are", param="inputs")
    mixed = len(_IMAGE.findall(bytes(inputs))) if inputs is not None else 0
    ask = Ask(
        endpoint="cohere.embed",
        model=read_model(fields),
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        unbounded_input=IMAGES if images or mixed else "",
        inputs=max(1, images + mixed),
        units=(("images", images + mixed),) if images or mixed else (),
    )
    return Request(ask, fields.body, fields)


def read_rerank(fields: Fields) -> Request:
    ask = Ask(
        endpoint="cohere.rerank",
        model=read_model(fields),
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        units=(("search_units", rerank_units(fields)),),
    )
    return Request(ask, fields.body, fields)


def rerank_units(fields: Fields) -> int:
    """How many search units reranking can be billed with at most."""
    documents = _list(fields, "documents")
    if len(documents) > DOCUMENTS_MAX:
        raise bad_request(f"documents holds more than {DOCUMENTS_MAX:,} documents", param="documents")
    query = fields.raw("query")
    room = max(CHUNK_TOKENS - (full_size(query) if query is not None else 0), CHUNK_TOKENS_MIN)
    longest = fields.integer("max_tokens_per_doc") or DOCUMENT_TOKENS_MAX
    chunks = sum(max(1, -(-min(full_size(document), longest) // room)) for document in documents)
    return max(1, -(-chunks // DOCUMENTS_PER_UNIT))


_READ: dict[str, Callable[[Fields], Request]] = {
    "cohere.chat": read_chat,
    "cohere.embed": read_embed,
    "cohere.rerank": read_rerank,
}


def _thinking_floor(fields: Fields, output_tokens_max: int | None) -> int:
    """A thinking budget must fit below max_tokens, of which its tokens are a part."""
    thinking = fields.object("thinking", THINKING)
    return thinking_floor(thinking.integer("token_budget") if thinking is not None else None, output_tokens_max)


def _list(fields: Fields, name: str) -> list[Raw]:
    value = fields.raw(name)
    if value is None:
        return []
    try:
        return _items(value)
    except msgspec.ValidationError:
        raise bad_request(f"{name} must be a list", param=name) from None
