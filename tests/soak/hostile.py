"""What clients may send, right, wrong and hostile, made from a seed: the same seed and number, the same bytes."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from typing import Any

PROMPT = "PROMPT-TEXT of a user"
SMUGGLED = "smuggled"  # the model of requests that stand where none may be read
CRLF = b"\r\n"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """Some bytes, and what may come back: at most so many answers, and the status of the only one, if it is
    known."""

    data: bytes
    answers_max: int = 1
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """What is said on one connection. `ends`: how it goes on when all is said: "asks" a last question that closes the
    connection, or leaves by a "reset", a "half-close" or a "close"."""

    units: tuple[Unit, ...]
    ends: str
    pieces: int = 1  # in which it is sent, with moments between them

    @property
    def is_good(self) -> bool:
        """Every status is known."""
        return self.ends == "asks" and all(unit.status is not None for unit in self.units)


@dataclass(frozen=True, slots=True)
class Keys:
    good: str
    spent: str  # of a user whose limit is used up
    narrow: str  # may use one model that is not asked for
    wrong: tuple[str, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        return self.good, self.spent, self.narrow


MESSAGES = [{"role": "user", "content": PROMPT}]
PARTS = [{"role": "user", "parts": [{"text": PROMPT}]}]
TEXTS = [{"role": "user", "content": [{"text": PROMPT}]}]
# Of every dialect: path and body. "upstream" speaks the first three, the others are providers of their own.
VALID: tuple[tuple[str, Body], ...] = (
    ("/v1/chat/completions", {"model": "upstream/m", "messages": MESSAGES}),
    ("/v1/chat/completions", {"model": "upstream/m", "messages": MESSAGES, "stream": True}),
    ("/v1/completions", {"model": "upstream/m", "prompt": PROMPT, "max_tokens": 9}),
    ("/v1/responses", {"model": "upstream/m", "input": PROMPT, "store": False}),
    ("/v1/embeddings", {"model": "upstream/m", "input": PROMPT}),
    ("/v1/moderations", {"model": "upstream/m", "input": PROMPT}),
    ("/v1/images/generations", {"model": "upstream/m", "prompt": PROMPT}),
    ("/v1/rerank", {"model": "upstream/m", "query": "q", "documents": ["d"]}),
    ("/v1/messages", {"model": "upstream/m", "messages": MESSAGES, "max_tokens": 9}),
    ("/v1/messages", {"model": "upstream/m", "messages": MESSAGES, "max_tokens": 9, "stream": True}),
    ("/v1/messages/count_tokens", {"model": "upstream/m", "messages": MESSAGES}),
    ("/v1beta/models/upstream/m:generateContent", {"contents": PARTS}),
    ("/v1beta/models/upstream%2Fm:streamGenerateContent?alt=sse", {"contents": PARTS}),
    ("/openai/deployments/azure%2Fm/chat/completions?api-version=1", {"messages": MESSAGES}),
    ("/openai/v1/responses", {"model": "azure/m", "input": PROMPT, "store": False}),
    ("/v2/chat", {"model": "cohere/m", "messages": MESSAGES}),
    ("/v2/embed", {"model": "cohere/m", "texts": [PROMPT], "input_type": "search_query"}),
    ("/v2/rerank", {"model": "cohere/m", "query": "q", "documents": ["d"]}),
    ("/api/chat", {"model": "ollama/m", "messages": MESSAGES, "stream": False}),
    ("/api/generate", {"model": "ollama/m", "prompt": PROMPT}),
    ("/model/bedrock%2Fm/converse", {"messages": TEXTS}),
    ("/model/bedrock%2Fmeta.llama3/invoke", {"prompt": PROMPT, "max_gen_len": 9}),
)
FAULTS = ("unavailable", "storm", "reset", "garbage", "short")  # of the upstream, by the model's name
METHODS = (
    "GET",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "post",
    "BREW",
    "P\x00ST",
    "",
    "PRI",
    "x" * 300,
)
STEPS = (
    "..",
    ".",
    "",
    "%2e%2e",
    "%2f",
    "%5c",
    "%00",
    "%0d%0aX:%20y",
    "\u00e9",
    "%ff",
    "v1",
    "models",
    "x" * 300,
    "~",
    ";a=b",
)
ABSOLUTE = (
    "http://evil.example",
    "http://127.0.0.1:1",
    "https://user:pass@gateway",
    "http:",
    "//evil.example",
    "*",
    "ftp://x",
)
ELSEWHERE = ("/", "/metrics", "/readyz", "/llmctl", "/v1/files", "/v1/files/f_1", "/v1/responses/resp_1", "/api/tags",
    "/v1/models/m", "/v1beta/models", "/llmctl/me", "/v1/batches", "/model/m/x",
    "/v1/audio/transcriptions")  # fmt: skip
VALUES = (
    "null", "true", "-1", "0", "1e999", "1.5", "9" * 400, "1e-400", '""', '"x"', "[]", "{}", "[[]]", '{"a":{"a":{}}}',
    "NaN", '"\\ud800"', '"\\u0000"', "[1,2,3]", '["' + "a" * 3_000 + '"]', "[" * 600 + "]" * 600,
    '{"a":' * 600 + "1" + "}" * 600,
    "1000000000", "1000000001", "18446744073709551616",
    '[{"type":"image_url","image_url":{"url":"http://127.0.0.1:1/"}}]',
    '[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"file:///etc/passwd"}}]}]',
)  # fmt: skip
FIELDS = (
    "model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "tools", "input",
    "prompt",
    "user", "metadata", "service_tier", "contents", "generationConfig", "system", "thinking", "options", "texts",
    "documents",
    "previous_response_id", "background", "store", "mcp_servers", "MAX_TOKENS", "Model", "best_of", "temperature",
    "size",
    "container", "cachedContent", "inferenceConfig", "toolConfig", "query", "format", "modalities", "audio",
    "\\u006dodel",
)  # fmt: skip
HEADERS = (
    b"Content-Type: text/plain", b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Type: application/json; charset=utf-16",
    b"Accept-Encoding: gzip, br, zstd, ;q=, *", b"Content-Encoding: gzip", b"Content-Encoding: x" * 3,
    b"Expect: 100-continue",
    b"Expect: 200-maybe", b"Connection: keep-alive, Authorization", b"Connection: close, close", b"Upgrade: websocket",
    b"TE: trailers", b"Trailer: Authorization", b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: \xff",
    b"Forwarded: for=\"[::1",
    b"Host: other", b"Host: ", b"Cookie: a=b", b"x-llmctl-tags: a,b", b"x-llmctl-tags: \x80\xff" * 2,
    b"x-llmctl-end-user: bob",
    b"x-llmctl-call-id: c_1", b"anthropic-version: 2023-06-01", b"x-goog-api-key: AIza-own",
    b"Authorization: Basic eDp5",
    b"OpenAI-Organization: org", b"Range: bytes=0-1", b"If-None-Match: *", b"X-\xe9: y", b"X-Long: " + b"y" * 9_000,
    b"X-Empty:",
    b"X-HTTP-Method-Override: DELETE", b"Proxy-Authorization: Basic eDp5", b"Max-Forwards: 0",
    b"x-amzn-bedrock-trace: ENABLED",
)  # fmt: skip
# Two readers of HTTP may disagree about these: nothing behind them may be taken for a request.
OBSCURE = (
    b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding:\r\n chunked", b"X: y\r\n Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked\r\nTransfer-Encoding: gzip", b"Content-Length: +5", b"Content-Length: 0x5",
    b"Content-Length: 5, 5",
    b"Content-Length: -1", b"Content-Length: " + b"9" * 40, b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5 5",
    b"Content-Length:\xa05", b"X: y\nContent-Length: 5", b"X: y\rContent-Length: 5", b"\x00: y", b"no colon",
    b": no name", b" folded: first",
)  # fmt: skip


def talk(seed: int, number: int, keys: Keys) -> Talk:
    """Conversation `number` of this seed."""
    rng = random.Random(f"{seed}:{number}")
    count = rng.choice((1, 1, 1, 1, 2, 3, 6))
    units = tuple(_unit(rng, keys) for _ in range(count))
    ends = rng.choices(("asks", "reset", "half-close", "close"), (90, 4, 3, 3))[0]
    pieces = 1 if rng.random() < 0.9 else rng.randint(2, 6)
    return Talk(units, ends, pieces)


def last_question(keys: Keys) -> bytes:
    return b"GET /llmctl/me HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer %b\r\n\r\n" % (
        keys.good.encode()
    )


def _unit(rng: random.Random, keys: Keys) -> Unit:
    kind = rng.choices(
        (_valid, _of_method, _of_path, _of_header, _of_body, _of_key, _obscure, _cut, _damaged, _faulty, _compressed),
        (30, 4, 10, 10, 20, 6, 8, 3, 6, 4, 2),
    )[0]
    return kind(rng, keys)


def _valid(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    return Unit(_request(rng, path, body, keys.good), status=200)


def _faulty(rng: random.Random, keys: Keys) -> Unit:
    path = rng.choice(("/v1/chat/completions", "/v1/messages"))
    body = {
        "model": f"upstream/{rng.choice(FAULTS)}",
        "messages": MESSAGES,
        "max_tokens": 9,
        "stream": rng.random() < 0.5,
    }
    return Unit(_request(rng, path, body, keys.good))


def _of_method(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    return Unit(_request(rng, path, body, keys.good, method=rng.choice(METHODS)), answers_max=2)


def _of_path(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    steps = path.split("/")
    match rng.randrange(6):
        case 0:
            path = rng.choice(ELSEWHERE)
        case 1:
            path = rng.choice(ABSOLUTE) + path
        case 2:
            steps.insert(rng.randrange(len(steps) + 1), rng.choice(STEPS))
            path = "/".join(steps)
        case 3:
            steps[rng.randrange(len(steps))] = rng.choice(STEPS)
            path = "/".join(steps)
        case 4:
            path += "?" + rng.choice(
                ("key=x", "a" * 5_000, "%", "&&&", "alt=proto", "stream=true", "key=a&key=b", "\u00e9=\u00e9")
            )
        case _:
            path += "/" + "x" * rng.choice((10, 400, 9_000, 70_000))
    return Unit(_request(rng, path, body, keys.good, method=rng.choice(("POST", "POST", "GET", "DELETE"))))


def _of_header(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    more = [rng.choice(HEADERS) for _ in range(rng.choice((1, 1, 2, 5)))]
    if rng.random() < 0.05:
        more += [b"X-%d: y" % number for number in range(rng.choice((90, 150, 1_000)))]
    return Unit(_request(rng, path, body, keys.good, *more))


def _of_key(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    key = rng.choice((keys.spent, keys.narrow, *keys.wrong, "", keys.good[:-1]))
    place = rng.choice((b"x-api-key", b"api-key", b"x-goog-api-key", b"Authorization"))
    if rng.random() < 0.2:
        return Unit(_request(rng, f"{path}{'&' if '?' in path else '?'}key={key}", body, ""))
    shown = b"Bearer " + key.encode() if place == b"Authorization" else key.encode()
    return Unit(_request(rng, path, body, "", b"%b: %b" % (place, shown)))


def _of_body(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    text = json.dumps(body)
    match rng.randrange(8):
        case 0 | 1 | 2:
            text = text[:-1] + f',"{rng.choice(FIELDS)}":{rng.choice(VALUES)}}}'
        case 3:
            text = f'{{"{rng.choice(FIELDS)}":{rng.choice(VALUES)},' + text[1:]
        case 4:
            text = json.dumps({**body, rng.choice(list(body)): None}).replace("null", rng.choice(VALUES))
        case 5:
            text = text[: rng.randrange(len(text))]
        case 6:
            text = rng.choice(
                ("[" * 50_000, '{"a":' * 50_000, "[" + "{}," * 20_000 + "{}]", "\ufeff" + text, text + text, "nul")
            )
        case _:
            text = text.replace("user", rng.choice(("\\ud800", "\u202e", "\x00", '"', "\\", "\\u0000", "x" * 50_000)))
    return Unit(_request(rng, path, text.encode("utf-8", "surrogatepass"), keys.good))


def _compressed(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    packed = gzip.compress(json.dumps(body).encode() if rng.random() < 0.5 else b" " * (1 << 20))
    encoding = rng.choice((b"gzip", b"deflate", b"br", b"gzip, gzip", b"identity"))
    return Unit(_request(rng, path, packed, keys.good, b"Content-Encoding: " + encoding))


def _obscure(rng: random.Random, keys: Keys) -> Unit:
    """A request with another inside it, and a head that some readers end elsewhere. One answer or none to each request
    that can be seen; `SMUGGLED` must reach nobody. What is in a body of its own is no request, however it looks."""
    path, _ = rng.choice(VALID)
    inner = _request(rng, "/v1/chat/completions", {"model": f"upstream/{SMUGGLED}", "messages": MESSAGES}, keys.good)
    body = rng.choice((b"0\r\n\r\n" + inner, inner, b"5\r\nhello\r\n0\r\n\r\n" + inner))
    more = [rng.choice(OBSCURE) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.5:
        return Unit(_request(rng, path, body, keys.good, *more))
    return Unit(_request(rng, path, body, keys.good, *more).replace(CRLF, b"\n", rng.choice((1, 3, 50))))


def _cut(rng: random.Random, keys: Keys) -> Unit:
    """A length that is not the body's, or less of it than was said: what follows is the rest, or another request."""
    path, body = rng.choice(VALID)
    data = json.dumps(body).encode()
    said = rng.choice((len(data) - 1, len(data) // 2, 0, len(data) + 1, len(data) + 5_000, 40 << 20))
    return Unit(_request(rng, path, data, keys.good, length=said), answers_max=2)


def _damaged(rng: random.Random, keys: Keys) -> Unit:
    path, body = rng.choice(VALID)
    data = bytearray(_request(rng, path, body, keys.wrong[0]))
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 1, 1, 4))] = rng.choice(
            (b"", b"\0", b"\r", b"\n", b"\xff", b":", b" ", b"\r\n", b"%", b'"')
        )
    return Unit(bytes(data), answers_max=3)


def _request(
    rng: random.Random,
    path: str,
    body: Body | bytes,
    key: str,
    *more: bytes,
    method: str = "POST",
    length: int | None = None,
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "surrogatepass"), b"Host: gateway"]
    if key:
        lines.append(b"Authorization: Bearer " + key.encode())
    if length is None and not more and rng.random() < 0.15:
        lines.append(b"Transfer-Encoding: chunked")
        half = len(data) // 2
        data = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (data[:half], data[half:]) if one) + b"0\r\n\r\n"
    else:
        lines.append(b"Content-Length: %d" % (len(data) if length is None else length))
    return CRLF.join([*lines, *more, b"", data])
