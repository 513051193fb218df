"""A provider of every dialect: quick, on one port, with a few faults, by the model's name. What it answers has usage in
each spelling; what it was sent it keeps until it is asked."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.faulty import CREDENTIAL, Line, Seen, whole

USAGE = {
    "input_tokens": 11, "output_tokens": 7, "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
    "inputTokens": 11, "outputTokens": 7, "tokens": {"input_tokens": 11, "output_tokens": 7},
}  # fmt: skip
ANSWER = {
    "id": "a1", "model": "m", "done": True, "prompt_eval_count": 11, "eval_count": 7, "input_tokens": 11, "data": [],
    "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7}, "meta": {"billed_units": {"search_units": 1}},
    "prompt_token_count": 11, "generation_token_count": 7, "usage": USAGE, "choices": [], "content": [], "output": [],
}  # fmt: skip
BODY = json.dumps(ANSWER).encode()
EVENTS = b"data: " + BODY + b"\n\ndata: [DONE]\n\n"
GARBAGE = b"\x16\x03\x01 nonsense \xff\xfe\r\n\r\n"
BUSY = b'{"error": {"message": "the upstream is busy", "type": "busy", "code": "busy", "param": null}}'


async def upstream(line: Line) -> None:
    """One request and its answer."""
    seen = await line.request()
    match _model(seen):
        case "unavailable":
            await line.send_whole(BUSY, "Retry-After: -5", status="503 Service Unavailable")
        case "storm":
            await line.send_whole(
                BUSY, "Retry-After: Thu, 99 Foo", "retry-after-ms: 1e99", status="429 Too Many Requests"
            )
        case "reset":
            line.reset()
        case "garbage":
            await line.send(GARBAGE)
            line.close()
        case "short":
            await line.send_head(f"Content-Length: {len(BODY) + 50}")
            await line.send(whole(seen.anthropic))
            line.close()
        case _ if b'"stream": true' in seen.body or "stream" in seen.path:
            await line.start_stream()
            await line.send_chunk(EVENTS)
            await line.end_stream()
        case _:
            await line.send_whole(BODY)


def _model(seen: Seen) -> str:
    try:
        model = json.loads(seen.body).get("model")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


def providers(directory: Path, base_url: str) -> str:
    """TOML: the same server as a provider of each dialect; the credential is put beside it."""
    (directory / "credential").write_text(CREDENTIAL)
    of = {
        "upstream": '["openai", "anthropic", "gemini"]', "azure": '"azure"', "cohere": '"cohere"', "ollama": '"ollama"',
        "bedrock": '"bedrock"',
    }  # fmt: skip
    return "".join(
        f'[providers.{name}]\ndialect = {dialects}\nbase_url = "{base_url}"\ncredential_file = "credential"\n'
        for name, dialects in of.items()
    )
