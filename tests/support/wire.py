"""A client without manners: sends what it is told, whole or not, right or wrong, over a socket of its own."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Self

PROMPT = "PROMPT-TEXT of a user"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


@dataclass
class Reply:
    """What came back. `cut`: the connection broke before the answer was whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    @property
    def error(self) -> dict[str, Any]:
        """The error object, asserting that the body is one in the shape of a dialect."""
        document = json.loads(self.body)
        found = document["error"]
        assert isinstance(found["message"], str) and found["message"], document
        if document.get("type") == "error":
            assert found["type"], document
        else:
            assert set(found) == {"message", "type", "param", "code"}, document
        return dict(found)


class Wire:
    """A TCP connection to the gateway."""

    def __init__(self, url: str, timeout_s: float = 15, receive_bytes: int = 0) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect((host, int(port)))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def reply(self, method: str = "POST") -> Reply:
        """The next whole answer, or as much of one as came before the connection broke."""
        answer = http.client.HTTPResponse(self.socket, method=method)
        try:
            answer.begin()
        except (OSError, http.client.HTTPException):
            return Reply(0, {}, b"", cut=True)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        body = b""
        try:
            while piece := answer.read1(1 << 20):
                body += piece
        except (OSError, http.client.HTTPException):
            return Reply(answer.status, headers, body, cut=True)
        short = answer.length is not None and answer.length > 0
        return Reply(answer.status, headers, body, cut=short)

    def rest(self) -> bytes:
        """All that comes until the other side closes."""
        data = b""
        try:
            while piece := self.socket.recv(1 << 16):
                data += piece
        except ConnectionError:
            pass
        return data


def request_bytes(
    path: str, body: bytes | dict[str, Any], key: str, *headers: str, method: str = "POST", length: int | None = None
) -> bytes:
    """One request as it goes over the wire. `length`: what it says of its length, where that is not the truth."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(data) if length is None else length}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + data


def chunked(path: str, body: bytes, key: str, *headers: str) -> bytes:
    """The same in one chunk."""
    head = request_bytes(path, b"", key, "Transfer-Encoding: chunked", *headers)
    return head.replace(b"Content-Length: 0\r\n", b"") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def post(url: str, path: str, body: bytes | dict[str, Any], key: str, *headers: str, timeout_s: float = 15) -> Reply:
    with Wire(url, timeout_s) as wire:
        wire.send(request_bytes(path, body, key, *headers))
        return wire.reply()


def ask(model: str, *, path: str = CHAT, **more: Any) -> dict[str, Any]:
    """The body of a small request."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}
    return {"max_tokens": 100, **body} if path == MESSAGES else body
