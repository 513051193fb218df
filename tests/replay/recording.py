"""Recordings, and how each of their exchanges is sent again.

A recording is gzipped JSON lines, one exchange each: id, provider, method, path, endpoint, stream, request_body and
response_body (with request_body_kind, response_body_kind: text or base64), status, response_headers; and `truth`: the
usage object with which the provider ended it (usage_raw), where it stated one.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPENAI_PATHS = {
    "chat.completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "responses.input_tokens": "/v1/responses/input_tokens",
    "embeddings": "/v1/embeddings",
    "moderations": "/v1/moderations",
    "audio.speech": "/v1/audio/speech",
    "audio.transcriptions": "/v1/audio/transcriptions",
    "audio.translations": "/v1/audio/translations",
}
_PLACEHOLDERS = {"<GOOGLE_CLOUD_PROJECT>": "project-1", "<GOOGLE_CLOUD_LOCATION>": "europe-west1"}
_FRAMING = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "date"})


@dataclass(frozen=True, slots=True)
class Exchange:
    id: str
    provider: str
    endpoint: str
    method: str
    path: str  # at the gateway
    stream: bool
    request_headers: Mapping[str, str]
    request: bytes
    status: int
    headers: Mapping[str, str]
    body: bytes
    truth: Mapping[str, Any] | None
    record: Mapping[str, Any]  # as it stands in the recording


def read(path: Path) -> Iterator[Exchange]:
    with gzip.open(path) as lines:
        for line in lines:
            yield _exchange(json.loads(line))


def _exchange(record: dict[str, Any]) -> Exchange:
    endpoint = str(record["endpoint"])
    headers = {name.lower(): _one(value) for name, value in (record.get("response_headers") or {}).items()}
    request = _bytes(record, "request")
    return Exchange(
        id=record["id"],
        provider=record["provider"],
        endpoint=endpoint,
        method=record["method"],
        path=_path(record["provider"], endpoint, record["path"]),
        stream=bool(record["stream"]),
        request_headers={"Content-Type": _content_type(request)},
        request=request,
        status=record["status"],
        headers={name: value for name, value in headers.items() if name not in _FRAMING and value.isprintable()},
        body=_bytes(record, "response"),
        truth=record.get("truth"),
        record=record,
    )


def _path(provider: str, endpoint: str, path: str) -> str:
    """Everything that speaks OpenAI is called at one place; the others where their SDKs call them."""
    for placeholder, value in _PLACEHOLDERS.items():
        path = path.replace(placeholder, value)
    if provider == "azure_openai" and "/deployments/" in path:
        return "/" + path.lstrip("/")
    if endpoint in OPENAI_PATHS:
        return OPENAI_PATHS[endpoint]
    if endpoint == "images" or (endpoint == "rerank" and provider == "openrouter"):
        return "/v1" + path[path.index("/images" if endpoint == "images" else "/rerank") :]
    return path


def _bytes(record: Mapping[str, Any], side: str) -> bytes:
    text = record.get(f"{side}_body")
    if text is None:
        return b""
    return base64.b64decode(text) if record.get(f"{side}_body_kind") == "base64" else str(text).encode()


def _content_type(body: bytes) -> str:
    if body.startswith(b"--"):
        boundary = body[2:].splitlines()[0].decode("latin-1")
        return f"multipart/form-data; boundary={boundary}"
    return "application/json"


def _one(value: object) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)
