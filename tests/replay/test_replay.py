"""The replay itself, on a recording of its own: it finds what is right, and would find what is wrong."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHUNK = 'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"grüß"}}]}\r\n\r\n'
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
LAST = f'data: {{"id":"1","model":"m","choices":[],"usage":{json.dumps(USAGE)}}}\r\n\r\n'


def exchange(name: str, answer: str, **more: Any) -> dict[str, Any]:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    request["stream_options"] = {"include_usage": True}
    return {
        "id": name,
        "provider": "openai",
        "endpoint": "chat.completions",
        "method": "POST",
        "path": "/v1/chat/completions",
        "stream": True,
        "request_body": json.dumps(request),
        "request_body_kind": "text",
        "status": 200,
        "response_headers": {"content-type": "text/event-stream", "content-encoding": "br"},
        "response_body": answer,
        "response_body_kind": "text",
        "truth": {"usage_raw": USAGE, "model": "m"},
        **more,
    }


def replay(tmp_path: Path, *exchanges: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    corpus = tmp_path / "recording.jsonl.gz"
    corpus.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in exchanges).encode()))
    return subprocess.run(
        [sys.executable, "-m", "tests.replay", str(corpus)], capture_output=True, text=True, timeout=60
    )


def test_what_is_booked_as_the_provider_said_is_exact_in_every_manner(tmp_path: Path) -> None:
    refused = exchange("batch", "{}", endpoint="batches", path="/v1/batches", truth=None)
    done = replay(tmp_path, exchange("good", CHUNK + LAST + "data: [DONE]\r\n\r\n"), refused)
    assert done.returncode == 0, done.stderr
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("openai") and "chat" in line)
    assert row == ["openai", "chat.completions", "1", "7", "7", "0", "0", "0", "7"]
    assert "refused  openai batches: /v1/batches: the batch API is not metered yet" in done.stdout


def test_what_is_booked_otherwise_than_the_provider_said_is_wrong(tmp_path: Path) -> None:
    truth = {"usage_raw": {**USAGE, "completion_tokens": 3}, "model": "m"}
    done = replay(tmp_path, exchange("bad", CHUNK + LAST, truth=truth))
    assert done.returncode == 1
    assert "WRONG    openai chat.completions: reported (booked, true): {'output_tokens': (2, 3)}" in done.stdout
