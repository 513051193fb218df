"""A provider that keeps what it was sent and answers what a test says, byte for byte."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

WAIT_S = 10.0
POLL_S = 0.005
PIECE_S = 0.01  # between two pieces, so that the gateway reads them one by one


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it arrived."""

    path: str
    headers: CIMultiDict[str]
    body: bytes
    query: str = ""
    raw_path: str = ""

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    pieces: tuple[bytes, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Recorder:
    """A running server. Until told otherwise it answers each endpoint in its own shape and reports `usage`."""

    def __init__(self) -> None:
        self.api_key = "sk-recorder-credential"
        self.sent: list[Sent] = []
        self.usage = (100, 20)
        self._reply: Reply | None = None
        self._held = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    def reset(self) -> None:
        self.sent.clear()
        self.usage = (100, 20)
        self._reply = None
        self._held = False

    def reply(self, *pieces: bytes, status: int = 200, **headers: str) -> None:
        """Every request gets this answer from now on. Each piece is sent by itself; `set_cookie` names Set-Cookie."""
        self._reply = Reply(pieces, status, {name.replace("_", "-"): value for name, value in headers.items()})

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within the block requests arrive and get no answer."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def wait_for(self, count: int) -> None:
        """Until so many requests have arrived."""
        deadline_s = time.monotonic() + WAIT_S
        while len(self.sent) < count:
            assert time.monotonic() < deadline_s, f"{len(self.sent)} requests arrived, not {count}"
            time.sleep(POLL_S)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._started.set()
        await self._stop.wait()
        self._held = False
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("x-recorder") == "refuse-early":
            return web.json_response({"error": {"message": "too large", "code": "too_large"}}, status=413)
        sent = Sent(
            request.path,
            CIMultiDict(request.headers),
            await request.content.read(),
            request.query_string,
            request.raw_path,
        )
        if request.method == "GET":  # the gateway itself, asking for models: no call
            if request.path.endswith("/tags"):  # Ollama
                return web.json_response({"models": [{"name": name} for name in MODELS]})
            models = {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
            return web.json_response(models)
        self.sent.append(sent)
        while self._held:
            await asyncio.sleep(POLL_S)
        reply = self._reply or usual_reply(sent, *self.usage)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        for number, piece in enumerate(reply.pieces):
            if number:
                await asyncio.sleep(PIECE_S)
            await response.write(piece)
        await response.write_eof()
        return response


MODELS = ("echo-1", "echo-2", "other-1")
JSON, EVENTS = {"Content-Type": "application/json"}, {"Content-Type": "text/event-stream"}


def usual_reply(sent: Sent, input_tokens: int, output_tokens: int) -> Reply:
    """A short answer of the endpoint that was called, whole or streamed as asked for."""
    asked = sent.json
    if ":" in sent.path:
        return _gemini_reply(sent, input_tokens, output_tokens)
    endpoint = sent.path.removeprefix("/v1/")
    model = asked["model"]
    chat_usage = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    if endpoint == "messages":
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": None}
        if asked.get("stream"):
            return _messages_stream(message, usage)
        block = {"type": "text", "text": "Hello"}
        return _whole({**message, "content": [block], "stop_reason": "end_turn", "usage": usage})
    if endpoint == "responses":
        answer = {"id": "resp_1", "object": "response", "model": model, "status": "completed", "output": []}
        answer["usage"] = {**usage, "total_tokens": input_tokens + output_tokens}
        if asked.get("stream"):
            begun = {**answer, "status": "in_progress", "usage": None}
            return _named_events(
                {"type": "response.created", "sequence_number": 0, "response": begun},
                {"type": "response.completed", "sequence_number": 1, "response": answer},
            )
        return _whole(answer)
    if endpoint == "embeddings":
        vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
        embedding_usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
        return _whole({"object": "list", "data": [vector], "model": model, "usage": embedding_usage})
    chat = endpoint == "chat/completions"
    kind = "text_completion" if not chat else "chat.completion.chunk" if asked.get("stream") else "chat.completion"
    identity = {"id": "cmpl-1", "object": kind, "created": 1_700_000_000, "model": model}
    said = {"delta" if asked.get("stream") else "message": {"role": "assistant", "content": "Hello"}}
    choice = {"index": 0, "finish_reason": "stop", **(said if chat else {"text": "Hello"})}
    if asked.get("stream"):
        events: list[dict[str, Any]] = [{**identity, "choices": [choice]}]
        if (asked.get("stream_options") or {}).get("include_usage"):
            events.append({**identity, "choices": [], "usage": chat_usage})
        pieces = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
        return Reply((*pieces, b"data: [DONE]\n\n"), headers=EVENTS)
    return _whole({**identity, "choices": [choice], "usage": chat_usage})


def _messages_stream(message: dict[str, Any], usage: dict[str, int]) -> Reply:
    return _named_events(
        {"type": "message_start", "message": {**message, "content": [], "usage": {**usage, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    )


def _gemini_reply(sent: Sent, input_tokens: int, output_tokens: int) -> Reply:
    """A fifth of the output is thoughts; a stream of it comes in two pieces."""
    model, _, method = sent.path.rpartition("/")[2].partition(":")
    if method == "countTokens":
        return _whole({"totalTokens": input_tokens})
    if method == "predict":
        vector = {"values": [0.5], "statistics": {"token_count": input_tokens}}
        return _whole({"predictions": [{"embeddings": vector}], "metadata": {"billableCharacterCount": 29}})
    usage = {"promptTokenCount": input_tokens}
    if "mbed" in method:
        return _whole({"embeddings": [{"values": [0.5]}], "embedding": {"values": [0.5]}, "usageMetadata": usage})
    thoughts = output_tokens // 5
    all_usage = {**usage, "candidatesTokenCount": output_tokens - thoughts, "thoughtsTokenCount": thoughts}

    def answer(text: str, usage: dict[str, int], **end: str) -> dict[str, Any]:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **end}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r-1"}

    last = answer("lo", all_usage, finishReason="STOP")
    if method == "generateContent":
        return _whole(answer("Hello", all_usage, finishReason="STOP"))
    parts = [json.dumps(part).encode() for part in (answer("Hel", usage), last)]
    if sent.query == "alt=sse":
        return Reply(tuple(b"data: %b\r\n\r\n" % part for part in parts), headers=EVENTS)
    return Reply((b"[" + parts[0] + b"\n", b",\r\n" + parts[1] + b"\n]\n"), headers=JSON)


def _named_events(*events: dict[str, Any]) -> Reply:
    lines = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events]
    return Reply((b"".join(lines),), headers=EVENTS)


def _whole(answer: dict[str, Any]) -> Reply:
    return Reply((json.dumps(answer).encode(),), headers=JSON)
