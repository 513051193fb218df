"""A static OpenAI-compatible provider, as fast as Python can be, so that it is never what a benchmark measures.

    python -m tests.bench.upstream --events 20 --interval-ms 1

The first line printed is its address. Every POST gets the same answer: a small chat completion, or, where the body asks
for `"stream": true`, that many events, each handed to the kernel by itself, and then the usage if asked for. Events of
the model `bench-paced` come at the interval; of `bench-talk` there are more, as fast as people talk, and each says when
it was sent; those of others come as fast as the kernel takes them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import cast

import uvloop

MODEL, PACED_MODEL, TALK_MODEL = "bench-model", "bench-paced", "bench-talk"
TALK_EVENTS, TALK_INTERVAL_S = 100, 0.05
STAMP = "0" * 19  # in its place stands when the event was sent, in ns since 1970
INPUT_TOKENS, OUTPUT_TOKENS = 12, 20

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_PACED, _TALK = PACED_MODEL.encode(), TALK_MODEL.encode()
_STAMP = STAMP.encode()
_WITH_USAGE = re.compile(rb'"include_usage": ?true')

_IDENTITY = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": MODEL, "system_fingerprint": "fp_bench"}
_USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def whole_answer() -> bytes:
    message = {"role": "assistant", "content": "A small answer, as from a fast model.", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = json.dumps({**_IDENTITY, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()
    return _head("application/json", f"Content-Length: {len(body)}") + body


def streamed_answer(events: int, *, with_usage: bool, text: str = " word") -> list[bytes]:
    """Head and first event, the other events, the end: one write each."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    end = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    head = _head("text/event-stream", "Transfer-Encoding: chunked")
    usage = _event([], usage=_USAGE) if with_usage else b""
    first, *others = [_event([choice]) for _ in range(events)]
    return [head + first, *others, _event([end]) + usage + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def _head(content_type: str, framing: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{framing}\r\nx-request-id: req_bench\r\n\r\n".encode()


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    event = {**_IDENTITY, "object": "chat.completion.chunk", "choices": choices, **more}
    return _chunked(f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode())


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answers:
    """Made once."""

    def __init__(self, events: int, interval_s: float) -> None:
        self.whole = whole_answer()
        self.streamed = streamed_answer(events, with_usage=False)
        self.streamed_with_usage = streamed_answer(events, with_usage=True)
        self.talk = streamed_answer(TALK_EVENTS, with_usage=False, text=STAMP)
        self.talk_with_usage = streamed_answer(TALK_EVENTS, with_usage=True, text=STAMP)
        self.interval_s = interval_s

    def stream(self, body: bytearray) -> tuple[list[bytes], float]:
        """Its parts, and the seconds between them."""
        asked = _WITH_USAGE.search(body) is not None
        if _TALK in body:
            return self.talk_with_usage if asked else self.talk, TALK_INTERVAL_S
        return self.streamed_with_usage if asked else self.streamed, self.interval_s if _PACED in body else 0.0


class Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, one after another, and answers each."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._needed = 0  # bytes until the next look: a large body is not searched with every packet
        self._next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own

    def connection_lost(self, _error: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) > self._needed:
            head_end = received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            found = _LENGTH.search(received, 0, head_end)
            if found is None:
                self._transport.write(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self._transport.close()
                return
            end = head_end + 4 + int(found[1])
            if len(received) < end:
                self._needed = end - 1
                return
            self._answer(received[head_end:end])
            del received[:end]
            self._needed = 0

    def _answer(self, body: bytearray) -> None:
        if _STREAM.search(body) is None:
            self._transport.write(self._answers.whole)
        else:
            parts, interval_s = self._answers.stream(body)
            self._send(iter(parts), interval_s)

    def _send(self, parts: Iterator[bytes], interval_s: float) -> None:
        part = next(parts, None)
        if part is None:
            return
        self._transport.write(part.replace(_STAMP, b"%d" % time.time_ns()) if _STAMP in part else part)
        if interval_s:
            self._next = self._loop.call_later(interval_s, self._send, parts, interval_s)
        else:
            self._next = self._loop.call_soon(self._send, parts, interval_s)


async def serve(port: int, answers: Answers) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(answers), "127.0.0.1", port, backlog=4096
    )
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--interval-ms", type=float, default=1)
    args = parser.parse_args()
    uvloop.run(serve(args.port, Answers(args.events, args.interval_ms / 1000)))


if __name__ == "__main__":
    main()
