"""One turn of load: the same call again and again, on some connections, for some seconds."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .machine import output

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
NO_MORE: Mapping[str, str] = {}
FINISH_TIMEOUT_S = 10.0  # how long a call may take that was begun before the end


@dataclass(frozen=True, slots=True)
class Load:
    url: str
    keys: Sequence[str]  # they take turns
    headers: Mapping[str, str]
    body: str
    connections: int
    seconds: int  # wrk takes no others

    @classmethod
    def chat(
        cls, url: str, keys: Sequence[str], body: str, connections: int, seconds: int, more: Mapping[str, str] = NO_MORE
    ) -> Load:
        """`more`: headers."""
        headers = {"Content-Type": "application/json", **more}
        return cls(f"{url}/v1/chat/completions", keys, headers, body, connections, seconds)


@dataclass(frozen=True, slots=True)
class Result:
    calls: int  # answered with 200
    refused: int  # answered with anything else
    broken: int  # connections that failed, answers that did not come
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds


class LoadFailed(Exception):
    """A server that refuses fast must not look fast."""


def wrk_version() -> str:
    """Empty where there is no wrk."""
    if shutil.which("wrk") is None:
        return ""
    words = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split()
    return words[1].removeprefix("debian/")


def request_bytes(load: Load, key: str) -> bytes:
    url, body = urlsplit(load.url), load.body.encode()
    headers = {"Host": url.netloc, "Authorization": f"Bearer {key}", **load.headers, "Content-Length": str(len(body))}
    lines = [f"POST {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def is_whole(answer: bytearray) -> bool:
    """Whether nothing more of it will come."""
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    found = _LENGTH.search(answer, 0, head_end)
    return answer.endswith(_LAST_CHUNK) if found is None else len(answer) >= head_end + 4 + int(found[1])


def run(load: Load, *, core: int | None, with_wrk: bool, scratch: Path) -> Result:
    """Raises LoadFailed unless every answer was a 200."""
    result = (_wrk if with_wrk else _client)(load, core, scratch)
    if result.refused or result.broken or not result.calls:
        seen = f"{result.calls} answers with 200, {result.refused} others, {result.broken} broken"
        raise LoadFailed(f"{load.url}: {seen}")
    return result


def _wrk(load: Load, core: int | None, scratch: Path) -> Result:
    """wrk aborts the calls that are open at the end; they are in none of its counts."""
    script = scratch / "load.lua"
    headers = {"Authorization": f"Bearer {load.keys[0]}", **load.headers}
    lines = [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()]
    if len(load.keys) > 1:
        lines += [f"local keys = {{{', '.join(map(_lua, load.keys))}}}", _WRK_IN_TURNS]
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = {_lua(load.body)}", *lines, _WRK_DONE]))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", f"{FINISH_TIMEOUT_S:g}s"]
    said = output([*command, "-s", str(script), load.url], core)
    found = json.loads(said.splitlines()[-1])
    # wrk counts 4xx and 5xx as errors. Neither a static upstream nor a proxy in front of it has 2xx or 3xx but 200.
    return Result(
        calls=found["requests"] - found["status"],
        refused=found["status"],
        broken=found["broken"],
        seconds=found["us"] / 1e6,
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
    )


def _client(load: Load, core: int | None, scratch: Path) -> Result:
    file = scratch / "load.json"
    file.write_text(json.dumps(dataclasses.asdict(load)))
    return Result(**json.loads(output([sys.executable, "-m", "tests.bench.client", str(file)], core)))


def _lua(text: str) -> str:
    """A Lua string; for ASCII without control characters its escapes are JSON's."""
    assert text.isascii() and text.isprintable()
    return json.dumps(text)


# Made beforehand, as wrk makes the one request of others.
_WRK_IN_TURNS = """
local requests, last = {}, 0
init = function()
    for place, key in ipairs(keys) do
        wrk.headers["Authorization"] = "Bearer " .. key
        requests[place] = wrk.format()
    end
end
request = function()
    last = last % #requests + 1
    return requests[last]
end
"""
_WRK_DONE = """
done = function(summary, latency, requests)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "us": %d, "status": %d, "broken": %d, "p50_us": %d, "p99_us": %d}',
        summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""
