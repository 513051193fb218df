"""Frames of AWS's binary event streams, made by hand."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any


def frame(payload: bytes, **headers: str) -> bytes:
    """`headers`: by name without its colon, _ for -."""
    block = b""
    for name, value in headers.items():
        written = f":{name.replace('_', '-')}".encode()
        block += bytes([len(written)]) + written + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    body = prelude + block + payload
    return body + struct.pack("!I", zlib.crc32(body))


def event(name: str, **payload: Any) -> bytes:
    """Of Converse."""
    text = json.dumps(payload).encode()
    return frame(text, event_type=name, content_type="application/json", message_type="event")


def chunk(**payload: Any) -> bytes:
    """A vendor's own event, as InvokeModelWithResponseStream wraps it."""
    return event("chunk", bytes=base64.b64encode(json.dumps(payload).encode()).decode(), p="abcd")


def exception(name: str, message: str) -> bytes:
    text = json.dumps({"message": message}).encode()
    return frame(text, exception_type=name, content_type="application/json", message_type="exception")
