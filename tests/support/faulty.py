"""A provider that fails on purpose, on real sockets.

Each fault has a port of its own, so that `model = "FAULT/m"` calls it through the gateway and so that what one does to
a connection does not touch another's. `Faulty.providers()` is the configuration for all of them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Self

CREDENTIAL = "sk-provider-SECRET-0123456789abcdef"
ANSWER = "An answer of some words from the provider"
INPUT_TOKENS, OUTPUT_TOKENS = 11, 7
HUGE_BYTES = 20 << 20
UNSOLICITED = b"this answer belongs to nobody"


@dataclass(eq=False)
class Seen:
    """A request that reached the provider."""

    path: str
    headers: dict[str, str]
    body: bytes
    hung_up: threading.Event = field(default_factory=threading.Event)  # the gateway closed the connection

    @property
    def stream(self) -> bool:
        return bool(self.body and json.loads(self.body).get("stream"))

    @property
    def anthropic(self) -> bool:
        return self.path.endswith("/messages")


class Line:
    """One connection from the gateway, as a fault sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[Seen]) -> None:
        self._reader = reader
        self._writer = writer
        self._seen = seen

    async def request(self) -> Seen:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(first.split()[1], headers, body)
        self._seen.append(seen)
        return seen

    async def peek(self) -> None:
        """Until something came."""
        await self._reader.read(1)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_head(self, *headers: str, status: str = "200 OK", content: str = "application/json") -> None:
        lines = (f"HTTP/1.1 {status}", f"Content-Type: {content}", *headers, "", "")
        await self.send("\r\n".join(lines).encode("latin-1"))

    async def send_whole(self, body: bytes, *headers: str, **more: str) -> None:
        await self.send_head(f"Content-Length: {len(body)}", *headers, **more)
        await self.send(body)

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def start_stream(self, *headers: str) -> None:
        await self.send_head("Transfer-Encoding: chunked", *headers, content="text/event-stream")

    async def send_event(self, event: dict[str, Any] | bytes) -> None:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        name = b"event: %b\n" % event["type"].encode() if isinstance(event, dict) and "type" in event else b""
        await self.send_chunk(b"%bdata: %b\n\n" % (name, data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """RST instead of FIN, and what was not sent yet is lost."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    @property
    def closing(self) -> bool:
        return self._writer.is_closing()

    async def until_hung_up(self) -> None:
        while await self._reader.read(1 << 16):
            pass


Fault = Callable[[Line], Awaitable[None]]  # one request and its answer; called again until the connection ends


class Faulty:
    """All faults, listening; in a thread with an event loop of its own."""

    def __init__(self, faults: dict[str, Fault] | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: with what "tls_untrusted" is served."""
        self._tls = tls
        self._faults = FAULTS if faults is None else faults
        self._seen: dict[str, list[Seen]] = {name: [] for name in self._faults}
        self._ports: dict[str, int] = {}
        self._held: list[socket.socket] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self._ports["refused"] = self._port_that_refuses()
        self._ports["unreachable"] = self._port_that_swallows()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for held in self._held:
            held.close()

    def providers(self, directory: Path) -> str:
        """TOML for a configuration in this directory; the credential is put beside it."""
        (directory / "credential").write_text(CREDENTIAL)
        text = ""
        for name, port in self._ports.items():
            scheme = "https" if name == "no_tls" or name.startswith("tls_") else "http"
            text += (
                f'[providers.{name}]\ndialect = ["openai", "anthropic"]\n'
                f'base_url = "{scheme}://127.0.0.1:{port}/v1"\ncredential_file = "credential"\n'
            )
        return text

    def base_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}/v1"

    def seen(self, name: str) -> list[Seen]:
        """The requests that reached this fault, as far as it read them."""
        return list(self._seen.get(name, ()))

    def last(self, name: str, timeout_s: float = 5) -> Seen:
        """The request that arrived last, waiting for one."""
        assert wait_until(lambda: self._seen[name], timeout_s), f"nothing reached {name}"
        return self._seen[name][-1]

    def clear(self) -> None:
        for seen in self._seen.values():
            seen.clear()

    async def _listen(self) -> None:
        self._servers = []
        self._tasks: set[asyncio.Task[None]] = set()
        for name in self._faults:
            tls = self._tls if name == "tls_untrusted" else None
            server = await asyncio.start_server(
                lambda r, w, name=name: self._serve(name, r, w), "127.0.0.1", 0, ssl=tls
            )
            self._servers.append(server)
            self._ports[name] = server.sockets[0].getsockname()[1]

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        mine: list[Seen] = []
        line = Line(reader, writer, _Both(mine, self._seen[name]))
        try:
            while not line.closing:
                await self._faults[name](line)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            for seen in mine:
                seen.hung_up.set()
            self._tasks.discard(task)
            writer.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close in the next round of the loop

    def _port_that_refuses(self) -> int:
        """Bound, so that nobody else gets it, and not listening."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        self._held.append(held)
        return int(held.getsockname()[1])

    def _port_that_swallows(self) -> int:
        """Its queue of connections is full and nobody accepts: the kernel drops who knocks, as a firewall does."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        self._held.append(held)
        for _ in range(3):
            knocking = socket.socket()
            knocking.setblocking(False)
            knocking.connect_ex(held.getsockname())
            self._held.append(knocking)
        return int(held.getsockname()[1])


class _Both(list[Seen]):
    """Appends to the connection's requests and to the fault's."""

    def __init__(self, *lists: list[Seen]) -> None:
        self._lists = lists

    def append(self, seen: Seen) -> None:
        for one in self._lists:
            one.append(seen)


def wait_until(true: Callable[[], object], timeout_s: float = 5) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


# ---- answers ----


def usage(anthropic: bool) -> dict[str, int]:
    if anthropic:
        return {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }


def whole(anthropic: bool, *, with_usage: bool = True) -> bytes:
    if anthropic:
        answer: dict[str, Any] = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": ANSWER}],
        }  # fmt: skip
    else:
        message = {"role": "assistant", "content": ANSWER}
        answer = {
            "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }  # fmt: skip
    if with_usage:
        answer["usage"] = usage(anthropic)
    return json.dumps(answer).encode()


def events(anthropic: bool, *, with_usage: bool = True) -> list[dict[str, Any] | bytes]:
    """A whole stream; the OpenAI one ends in [DONE]."""
    words = [f"{word} " for word in ANSWER.split()]
    if anthropic:
        message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
        delta: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        if with_usage:
            message["usage"] = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
            delta["usage"] = {"output_tokens": OUTPUT_TOKENS}
        return [
            {"type": "message_start", "message": message},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
                for word in words
            ),
            delta,
            {"type": "message_stop"},
        ]
    found: list[dict[str, Any] | bytes] = [chunk(word) for word in words]
    if with_usage:
        found.append({**chunk(""), "choices": [], "usage": usage(False)})
    return [*found, b"[DONE]"]


def chunk(text: str) -> dict[str, Any]:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [delta]}


def error(anthropic: bool, kind: str, message: str) -> bytes:
    if anthropic:
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": kind}}).encode()


# ---- faults ----


async def fine(line: Line) -> None:
    seen = await line.request()
    if seen.stream:
        await line.start_stream("Set-Cookie: session=provider", "x-request-id: req-provider")
        for event in events(seen.anthropic):
            await line.send_event(event)
        await line.end_stream()
    else:
        await line.send_whole(whole(seen.anthropic), "Set-Cookie: session=provider", "x-request-id: req-provider")


async def no_tls(line: Line) -> None:
    """Spoken to in TLS, where plain HTTP is served."""
    await line.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    line.close()


async def reset_on_accept(line: Line) -> None:
    line.reset()


async def reset_after_request(line: Line) -> None:
    await line.request()
    line.reset()


async def close_after_request(line: Line) -> None:
    await line.request()
    line.close()


async def half_close(line: Line) -> None:
    await line.request()
    line.half_close()
    await line.until_hung_up()


async def reset_in_headers(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await asyncio.sleep(0.05)
    line.reset()


async def reset_after_headers(line: Line) -> None:
    await line.request()
    await line.send_head("Content-Length: 100")
    await asyncio.sleep(0.05)
    line.reset()


async def reset_in_body(line: Line) -> None:
    seen = await line.request()
    body = whole(seen.anthropic)
    await line.send_head(f"Content-Length: {len(body)}")
    await line.send(body[:40])
    await asyncio.sleep(0.05)
    line.reset()


async def reset_in_event(line: Line) -> None:
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    await line.send_chunk(b'data: {"choi')
    await asyncio.sleep(0.05)
    line.reset()


async def reset_after_usage(line: Line) -> None:
    """All that matters was sent; only the end of the stream is missing."""
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:-1]:
        await line.send_event(event)
    await asyncio.sleep(0.05)
    line.reset()


async def stream_cut_short(line: Line) -> None:
    """Ends with a FIN, politely, but in the middle of a chunked body."""
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    line.close()


async def stall_before_headers(line: Line) -> None:
    await line.request()
    await line.until_hung_up()


async def stall_after_headers(line: Line) -> None:
    await line.request()
    await line.send_head("Content-Length: 100")
    await line.until_hung_up()


async def stall_in_body(line: Line) -> None:
    seen = await line.request()
    await line.send_head("Content-Length: 1000")
    await line.send(whole(seen.anthropic)[:40])
    await line.until_hung_up()


async def stall_in_stream(line: Line) -> None:
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    await line.until_hung_up()


async def stall_in_error(line: Line) -> None:
    await line.request()
    await line.send_head("Content-Length: 1000", status="500 Oops")
    await line.send(b'{"error":')
    await line.until_hung_up()


def says(data: bytes) -> Fault:
    """Answers each connection's request with these bytes, then closes."""

    async def fault(line: Line) -> None:
        await line.request()
        await line.send(data)
        line.half_close()
        await line.until_hung_up()

    return fault


async def headers_without_end(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await line.send(b"x-more: and more\r\n" * 100)
        await asyncio.sleep(0)


async def continue_without_end(line: Line) -> None:
    await line.request()
    while True:
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.005)


async def length_too_long(line: Line) -> None:
    seen = await line.request()
    body = whole(seen.anthropic, with_usage=False)
    await line.send_head(f"Content-Length: {len(body) + 50}")
    await line.send(body)
    line.close()


async def length_too_long_with_usage(line: Line) -> None:
    seen = await line.request()
    body = whole(seen.anthropic)
    await line.send_head(f"Content-Length: {len(body) + 50}")
    await line.send(body)
    line.close()


async def length_too_short(line: Line) -> None:
    seen = await line.request()
    body = whole(seen.anthropic)
    await line.send_head(f"Content-Length: {len(body) - 20}")
    await line.send(body)


async def unsolicited(line: Line) -> None:
    """A good answer, and some time later another one that nobody asked for, on the same connection."""
    seen = await line.request()
    await line.send_whole(whole(seen.anthropic))
    await asyncio.sleep(0.1)
    await line.send_whole(UNSOLICITED)


def status(code: str, *headers: str, kind: str = "some_error", body: bytes | None = None) -> Fault:
    async def fault(line: Line) -> None:
        seen = await line.request()
        await line.send_whole(error(seen.anthropic, kind, code) if body is None else body, *headers, status=code)

    return fault


def echoing(code: str) -> Fault:
    """As providers do: the error says which credential was wrong."""

    async def fault(line: Line) -> None:
        seen = await line.request()
        shown = seen.headers.get("x-api-key") or seen.headers["authorization"]
        body = error(seen.anthropic, "authentication_error", f"Incorrect API key provided: {shown}")
        await line.send_whole(body, f"x-your-key: {shown}", status=code)

    return fault


async def error_broken(line: Line) -> None:
    await line.request()
    await line.send_head("Content-Length: 1000", status="500 Oops")
    await line.send(b'{"error": {"mess')
    line.close()


async def html(line: Line) -> None:
    await line.request()
    await line.send_whole(b"<html><body>Welcome to nginx</body></html>", content="text/html")


async def empty(line: Line) -> None:
    await line.request()
    await line.send_whole(b"")


async def no_usage(line: Line) -> None:
    seen = await line.request()
    if seen.stream:
        await line.start_stream()
        for event in events(seen.anthropic, with_usage=False):
            await line.send_event(event)
        await line.end_stream()
    else:
        await line.send_whole(whole(seen.anthropic, with_usage=False))


async def error_event(line: Line) -> None:
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    kind = "overloaded_error" if seen.anthropic else "server_error"
    body = error(seen.anthropic, kind, "the model fell over")
    await line.send_chunk((b"event: error\n" if seen.anthropic else b"") + b"data: " + body + b"\n\n")
    await line.end_stream()


async def huge_event(line: Line) -> None:
    seen = await line.request()
    first, *rest = events(seen.anthropic)
    await line.start_stream()
    await line.send_event(first)
    await line.send_event(chunk("x" * HUGE_BYTES))
    for event in rest:
        await line.send_event(event)
    await line.end_stream()


async def endless(line: Line) -> None:
    await line.request()
    await line.start_stream()
    try:
        while True:
            await line.send_event(chunk("word " * 100))
            await asyncio.sleep(0.002)
    finally:
        await asyncio.sleep(0)


async def flood(line: Line) -> None:
    """As fast as the gateway takes it, without end."""
    await line.request()
    await line.start_stream()
    while True:
        await line.send_event(chunk("word " * 10_000))


async def slow(line: Line) -> None:
    """A stream of a second or so, with usage at its end."""
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic):
        await line.send_event(event)
        await asyncio.sleep(0.1)
    await line.end_stream()


async def slow_whole(line: Line) -> None:
    """Nothing for a second, then a whole answer."""
    seen = await line.request()
    await asyncio.sleep(1)
    await line.send_whole(whole(seen.anthropic))


async def broken_gzip(line: Line) -> None:
    seen = await line.request()
    packed = bytearray(gzip.compress(whole(seen.anthropic)))
    packed[10:40] = b"\xff" * 30
    await line.send_whole(bytes(packed), "Content-Encoding: gzip")


async def broken_gzip_stream(line: Line) -> None:
    seen = await line.request()
    buffer = BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as packing:
        for event in events(seen.anthropic):
            packing.write(b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n")
    packed = bytearray(buffer.getvalue())
    packed[10:40] = b"\xff" * 30
    await line.start_stream("Content-Encoding: gzip")
    await line.send_chunk(bytes(packed))
    await line.end_stream()


FAULTS: dict[str, Fault] = {
    "fine": fine,
    "no_tls": no_tls,
    "reset_on_accept": reset_on_accept,
    "reset_after_request": reset_after_request,
    "close_after_request": close_after_request,
    "half_close": half_close,
    "reset_in_headers": reset_in_headers,
    "reset_after_headers": reset_after_headers,
    "reset_in_body": reset_in_body,
    "reset_in_event": reset_in_event,
    "reset_after_usage": reset_after_usage,
    "stream_cut_short": stream_cut_short,
    "stall_before_headers": stall_before_headers,
    "stall_after_headers": stall_after_headers,
    "stall_in_body": stall_in_body,
    "stall_in_stream": stall_in_stream,
    "stall_in_error": stall_in_error,
    "garbage": says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nonsense \xff\xfe\r\n\r\n" * 3),
    "another_protocol": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "bad_header": says(b"HTTP/1.1 200 OK\r\nContent-Length 5\r\nx\x00y: z\r\n\r\nhello"),
    "huge_header": says(b"HTTP/1.1 200 OK\r\nx-huge: " + b"x" * (1 << 20) + b"\r\n\r\n"),
    "two_lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello"),
    "bad_chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n"),
    "switching": says(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x05hello"
    ),
    "headers_without_end": headers_without_end,
    "continue_without_end": continue_without_end,
    "length_too_long": length_too_long,
    "length_too_long_with_usage": length_too_long_with_usage,
    "length_too_short": length_too_short,
    "unsolicited": unsolicited,
    "moved": status("301 Moved Permanently", "Location: http://127.0.0.1:1/evil"),
    "temporarily_moved": status("307 Temporary Redirect", "Location: /v1/elsewhere"),
    "bad_request": status("400 Bad Request", kind="invalid_request_error"),
    "not_found": status("404 Not Found", kind="not_found_error"),
    "rate_limited": status("429 Too Many Requests", "Retry-After: 86400", "x-ratelimit-remaining-requests: 0"),
    "rate_limited_oddly": status("429 Too Many Requests", "Retry-After: Thu, 99 Foo \xe9", "retry-after-ms: -1"),
    "server_error": status("500 Internal Server Error", "x-odd: caf\xe9", "x-empty: "),
    "server_error_html": status("500 Oops", body=b"<html>500</html>"),
    "unavailable": status("503 Service Unavailable", "Retry-After: -5"),
    "overloaded": status("529 Overloaded", kind="overloaded_error"),
    "odd_status": status("799 Whatever"),
    "unauthorized": echoing("401 Unauthorized"),
    "forbidden": echoing("403 Forbidden"),
    "rate_limited_echoing": echoing("429 Too Many Requests"),
    "error_broken": error_broken,
    "html": html,
    "empty": empty,
    "no_usage": no_usage,
    "error_event": error_event,
    "control_characters": says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-good: a\tb\r\nx-bad: a\x1bb\r\nx-worse: a\x7fb\r\n\r\n{}"
    ),
    "huge_event": huge_event,
    "endless": endless,
    "flood": flood,
    "slow": slow,
    "slow_whole": slow_whole,
    "broken_gzip": broken_gzip,
    "broken_gzip_stream": broken_gzip_stream,
}
