"""More ways to fail: those that lie between the plain ones of `faulty`, storms of 429, and TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from functools import partial
from pathlib import Path

from .faulty import Fault, Line, events, no_usage, status, whole

RETRY_AFTER = {
    "empty": "",
    "nan": "nan",
    "infinite": "1e999",
    "past": "Thu, 01 Jan 1970 00:00:00 GMT",
    "far": "Fri, 31 Dec 9999 23:59:59 -2359",
    "no_date": "Thu, 99 Foo 2026 99:99:99 GMT",
    "long": "9" * 5_000,
    "words": "in a while",
}


async def reset_before_body(line: Line) -> None:
    """As soon as something of the request is there."""
    await line.peek()
    line.reset()


async def reset_after_answer(line: Line) -> None:
    """All is well, and the connection that is kept for the next call dies."""
    seen = await line.request()
    await line.send_whole(whole(seen.anthropic))
    await asyncio.sleep(0.005)
    line.reset()


async def half_close_in_stream(line: Line) -> None:
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    line.half_close()
    await line.until_hung_up()


async def until_closed(line: Line) -> None:
    """No length: the answer ends with the connection, as in HTTP/1.0."""
    seen = await line.request()
    await line.send_head()
    await line.send(whole(seen.anthropic))
    line.half_close()
    await line.until_hung_up()


async def garbage_in_stream(line: Line) -> None:
    seen = await line.request()
    await line.start_stream()
    for event in events(seen.anthropic)[:3]:
        await line.send_event(event)
    await asyncio.sleep(0.05)
    await line.send(b"\xff\xfe\x00 no chunk\r\n")
    await line.until_hung_up()


async def stall_unread(line: Line) -> None:
    """Nothing is read: what is sent stays in the kernel's buffers."""
    await asyncio.sleep(3600)


async def tls_reset(line: Line) -> None:
    """In the middle of the handshake."""
    await line.peek()
    line.reset()


MORE: dict[str, Fault] = {
    "reset_before_body": reset_before_body,
    "reset_after_answer": reset_after_answer,
    "half_close_in_stream": half_close_in_stream,
    "until_closed": until_closed,
    "garbage_in_stream": garbage_in_stream,
    "stall_unread": stall_unread,
    "tls_reset": tls_reset,
    "tls_stall": stall_unread,
    "tls_untrusted": no_usage,
    **{f"storm_{name}": status("429 Too Many Requests", f"Retry-After: {text}") for name, text in RETRY_AFTER.items()},
    "storm_twice": status("429 Too Many Requests", "Retry-After: 1", "Retry-After: 86400", "retry-after-ms: nan"),
}


def untrusted(directory: Path) -> ssl.SSLContext:
    """A server's, with a certificate that nobody vouches for."""
    make = partial(subprocess.run, check=True, capture_output=True)
    key, certificate = directory / "tls.key", directory / "tls.pem"
    make(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x".split(),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ]
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
