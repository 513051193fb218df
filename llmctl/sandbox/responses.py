"""/v1/responses and what is below it, in the dialect of OpenAI. Background responses take as long as their stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from . import brain, models, response_shape
from .brain import Answer, Prompt, Turn
from .content import Content, as_text, read_texts
from .errors import SandboxError
from .shelf import Record, Shelf
from .wire import Reply, Stream, frame, new_id, parse

# Each points at something that a provider has stored apart from responses.
UNKNOWN_FIELDS: Final = ("conversation", "prompt")
STORES_RESPONSES: Final = "The sandbox stores responses alone, so {} cannot work here."
COMPACTED: Final = "What was said before, for the sandbox's eyes only."
PAGE_ITEMS: Final = 20


class ResponseRequest(msgspec.Struct):
    model: str
    input: str | Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=16)] | None = None  # 16 is OpenAI's minimum
    tools: list[msgspec.Raw] | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    store: bool | None = None

    @property
    def stores(self) -> bool:
        return self.store is not False


class InputItem(msgspec.Struct):
    type: str = "message"
    role: str = ""
    content: Content = None


_DECODER: Final = msgspec.json.Decoder(ResponseRequest)
_ITEM: Final = msgspec.json.Decoder(InputItem)


class Responses:
    """`event_s`: what passes before each event of a stream."""

    def __init__(self, shelf: Shelf, event_s: float) -> None:
        self._shelf = shelf
        self._event_s = event_s

    def create(self, body: bytes) -> Reply:
        request = parse(body, _DECODER)
        if request.background and not request.stores:
            raise SandboxError("invalid", "Background mode requires store to be true.", param="background")
        record = self._read(request)
        prompt, answer = _think(record)
        if request.stores:
            self._shelf.put(record)
        if request.stream:
            return Stream(self._frames(record, -1))
        if record.background:
            return record.shell
        return response_shape.finished(record.shell, prompt, answer, record.item_id)

    def count(self, body: bytes) -> Reply:
        prompt, _ = _think(self._read(parse(body, _DECODER)))
        return {"object": "response.input_tokens", "input_tokens": prompt.input_tokens}

    def compact(self, body: bytes) -> Reply:
        record = self._read(parse(body, _DECODER))
        prompt, _ = _think(record)
        tokens = brain.read_chat([], [COMPACTED], record.shell["model"]).input_tokens
        return response_shape.compacted(record.items, prompt, COMPACTED, tokens)

    def retrieve(self, response_id: str, *, stream: bool = False, starting_after: int = -1) -> Reply:
        record = self._stored(response_id)
        if stream:
            return Stream(self._frames(record, starting_after))
        return self._now(record)

    def cancel(self, response_id: str) -> Reply:
        record = self._stored(response_id)
        if not record.background:
            raise SandboxError("invalid", "Cannot cancel a synchronous response.")
        if not self._is_done(record):
            self._shelf.mark(response_id, "cancelled")
        return self._now(record)

    def delete(self, response_id: str) -> Reply:
        self._stored(response_id)
        self._shelf.delete(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    def input_items(self, response_id: str, *, after: str, limit: int, newest_first: bool) -> dict[str, Any]:
        items = self._stored(response_id).items
        items = items[::-1] if newest_first else items
        start = next((place + 1 for place, item in enumerate(items) if item["id"] == after), 0)
        page = items[start : start + limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + limit < len(items),
        }

    def _read(self, request: ResponseRequest) -> Record:
        models.find(request.model, "chat")
        for field in UNKNOWN_FIELDS:
            if getattr(request, field):
                raise SandboxError("invalid", STORES_RESPONSES.format(field), param=field)
        items, turns, tools = _read_input(request)
        return Record(
            shell=_shell(request),
            item_id=new_id("msg_"),
            turns=[*self._said_before(request), *turns],
            tools=tools,
            items=items,
            output_tokens_max=request.max_output_tokens,
            started_at_s=time.time(),
        )

    def _said_before(self, request: ResponseRequest) -> list[tuple[str, list[str]]]:
        if not request.previous_response_id:
            return []
        previous = self._shelf.get(request.previous_response_id)
        if previous is None:
            message = f"Previous response with id '{request.previous_response_id[:200]}' not found."
            raise SandboxError("no_previous_response", message, param="previous_response_id")
        _, answer = _think(previous)
        return [*previous.turns, ("assistant", [answer.text])]

    def _stored(self, response_id: str) -> Record:
        record = self._shelf.get(response_id)
        if record is None:
            raise SandboxError("unknown_object", f"Response with id '{response_id[:200]}' not found.")
        return record

    def _is_done(self, record: Record) -> bool:
        if not record.background or self._shelf.is_marked(record.shell["id"], "streamed"):
            return True
        events = 8 + len(_think(record)[1].pieces)
        return time.time() >= record.started_at_s + events * self._event_s

    def _now(self, record: Record) -> dict[str, Any]:
        if self._shelf.is_marked(record.shell["id"], "cancelled"):
            return response_shape.unfinished(record.shell, "cancelled")
        if not self._is_done(record):
            return response_shape.unfinished(record.shell, "in_progress")
        return response_shape.finished(record.shell, *_think(record), record.item_id)

    def _frames(self, record: Record, starting_after: int) -> Iterator[bytes]:
        for event in response_shape.events(record.shell, *_think(record), record.item_id):
            if record.background and self._shelf.is_marked(record.shell["id"], "cancelled"):
                return
            if record.background and event["type"] in ("response.completed", "response.incomplete"):
                self._shelf.mark(record.shell["id"], "streamed")
            if event["sequence_number"] > starting_after:
                yield frame(event, event["type"])


def _think(record: Record) -> tuple[Prompt, Answer]:
    """What is asked, and what the sandbox says to it: always the same."""
    model = models.find(record.shell["model"], "chat")
    turns = [Turn(role, texts) for role, texts in record.turns]
    prompt = brain.read_chat(turns, record.tools, model.name)
    return prompt, brain.answer(prompt, model, record.output_tokens_max)


def _read_input(request: ResponseRequest) -> tuple[list[dict[str, Any]], list[tuple[str, list[str]]], list[str]]:
    """The input as items, the turns in it, and what is counted as the JSON that it came as."""
    turns = [("system", [request.instructions])] if request.instructions else []
    tools = [as_text(tool) for tool in request.tools or []]
    if isinstance(request.input, str):
        part = {"type": "input_text", "text": request.input}
        message = {"id": new_id("msg_"), "type": "message", "role": "user", "content": [part]}
        return [message], [*turns, ("user", [request.input])], tools
    items = []
    for raw in request.input:
        item = parse(bytes(raw), _ITEM)
        if item.type == "item_reference":
            raise SandboxError("invalid", STORES_RESPONSES.format("item_reference"), param="input")
        if item.type == "message":
            turns.append((item.role, read_texts(item.content)))
        else:  # a tool's call, its result, reasoning
            tools.append(as_text(raw))
        items.append({"id": new_id("msg_"), "type": item.type, **msgspec.json.decode(raw)})
    return items, turns, tools


def _shell(request: ResponseRequest) -> dict[str, Any]:
    """The response object before there is an answer in it."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if request.background else "in_progress",
        "background": bool(request.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": request.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": request.stores,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [msgspec.json.decode(tool) for tool in request.tools or []],
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }
