"""The one table of paths: what is metered, free, answered here, or refused and why. Any other path is unknown; nothing
of a client's path ever reaches a provider."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, unquote, urlencode

from ..domain.errors import Refused
from .anthropic.dialect import ANTHROPIC
from .azure import AZURE
from .base import Dialect
from .bedrock import request as bedrock_request
from .bedrock import usage as bedrock_usage
from .bedrock.dialect import BEDROCK
from .cohere.dialect import COHERE
from .endpoint import LATER, Endpoint, Kind, Match, refused
from .gemini.dialect import GEMINI
from .ollama.dialect import OLLAMA
from .openai.dialect import OPENAI, OpenAi
from .refused import GOOGLE_REFUSED, MANAGES_MODELS, REFUSED, REFUSED_ELSEWHERE

PATH_CHARACTERS_MAX = 300
# Names that may stand in a path. Each step starts with a letter or digit: no "..", no "//"; no "%" once it is decoded.
_MODEL = re.compile(r"[A-Za-z0-9@~][A-Za-z0-9._:@+~-]*(?:/[A-Za-z0-9@~][A-Za-z0-9._:@+~-]*)*")
_ID = re.compile(r"[A-Za-z0-9_-]+")


def _form(
    dialect: OpenAi, name: str, upstream: str, query: tuple[str, ...] = (), *, form_only: bool = True
) -> Endpoint:
    return Endpoint(
        dialect, name, "metered", ("POST",), upstream, query, read_form=dialect.read_form, form_only=form_only
    )


METERED: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(OPENAI, "chat.completions", "metered", ("POST",), "/chat/completions"),
    "/v1/completions": Endpoint(OPENAI, "completions", "metered", ("POST",), "/completions"),
    "/v1/responses": Endpoint(OPENAI, "responses", "metered", ("POST",), "/responses"),
    "/v1/responses/compact": Endpoint(OPENAI, "responses.compact", "metered", ("POST",), "/responses/compact"),
    "/v1/embeddings": Endpoint(OPENAI, "embeddings", "metered", ("POST",), "/embeddings"),
    "/v1/images/generations": Endpoint(OPENAI, "images.generations", "metered", ("POST",), "/images/generations"),
    "/v1/images/edits": _form(OPENAI, "images.edits", "/images/edits", form_only=False),
    "/v1/images/variations": _form(OPENAI, "images.variations", "/images/variations"),
    "/v1/audio/speech": Endpoint(OPENAI, "audio.speech", "metered", ("POST",), "/audio/speech"),
    "/v1/audio/transcriptions": _form(OPENAI, "audio.transcriptions", "/audio/transcriptions"),
    "/v1/audio/translations": _form(OPENAI, "audio.translations", "/audio/translations"),
    "/v1/rerank": Endpoint(OPENAI, "rerank", "metered", ("POST",), "/rerank"),
    "/v1/ocr": Endpoint(OPENAI, "ocr", "metered", ("POST",), "/ocr"),  # Mistral
    "/v1/moderations": Endpoint(OPENAI, "moderations", "metered", ("POST",), "/moderations"),
    "/v1/messages": Endpoint(ANTHROPIC, "messages", "metered", ("POST",), "/messages"),
    "/v2/chat": Endpoint(COHERE, "cohere.chat", "metered", ("POST",), "/chat"),
    "/v2/embed": Endpoint(COHERE, "cohere.embed", "metered", ("POST",), "/embed"),
    "/v2/rerank": Endpoint(COHERE, "cohere.rerank", "metered", ("POST",), "/rerank"),
    "/api/chat": Endpoint(OLLAMA, "ollama.chat", "metered", ("POST",), "/chat"),
    "/api/generate": Endpoint(OLLAMA, "ollama.generate", "metered", ("POST",), "/generate"),
    "/api/embed": Endpoint(OLLAMA, "ollama.embed", "metered", ("POST",), "/embed"),
    "/api/embeddings": Endpoint(OLLAMA, "ollama.embeddings", "metered", ("POST",), "/embeddings"),
}


def _gemini(name: str, kind: Kind = "metered", *query: str) -> tuple[str, Endpoint]:
    """A method of Google's: at Vertex AI's addresses too, where the provider's base URL, not the client, names the
    project that pays."""
    target = f"/models/{{model}}:{name}"
    return f"{{google}}/{{model}}:{name}", Endpoint(GEMINI, name, kind, ("POST",), target, query)


def _azure(name: str, upstream: str) -> Endpoint:
    version = ("api-version",)
    if name in _AZURE_FORMS:
        return _form(AZURE, name, upstream, version, form_only=name != "images.edits")
    return Endpoint(AZURE, name, "metered", ("POST",), upstream, version)


_AZURE_FORMS = frozenset({"audio.transcriptions", "audio.translations", "images.edits"})


_AZURE_PATHS = {
    "chat.completions": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "images.generations": "/images/generations",
    "images.edits": "/images/edits",
    "audio.speech": "/audio/speech",
    "audio.transcriptions": "/audio/transcriptions",
    "audio.translations": "/audio/translations",
}
# Where the body names the deployment. The newer "v1" is OpenAI's own API below another path.
AZURE_METERED: Mapping[str, Endpoint] = {
    "/openai/responses": _azure("responses", "/responses"),
    "/openai/v1/responses": _azure("responses", "/v1/responses"),
    **{f"/openai/v1{path}": _azure(name, f"/v1{path}") for name, path in _AZURE_PATHS.items()},
}


def _bedrock(action: str, name: str, kind: Kind = "metered") -> tuple[str, Endpoint]:
    """What is done with a model, whose id may be an ARN with a slash in it."""
    endpoint = Endpoint(
        BEDROCK,
        f"bedrock.{name}",
        kind,
        ("POST",),
        f"/model/{{deployment}}/{action}",
        ask_headers=bedrock_request.with_headers,
        answer_headers=bedrock_usage.with_headers,
    )
    return f"/model/{{model}}/{action}", endpoint


def _stored(path: str, dialect: Dialect, upstream: str, *query: str) -> tuple[tuple[str, Endpoint], ...]:
    """What is asked about a stored response. SDKs write lists as name[]."""
    one, items = f"{upstream}/{{id}}", f"{upstream}/{{id}}/input_items"
    include = ("include", "include[]", *query)
    reading = ("include_obfuscation", "starting_after", "stream", *include)
    paging = ("after", "before", "limit", "order", *include)
    return (
        (f"{path}/{{id}}", Endpoint(dialect, "responses.retrieve", "object", ("GET",), one, reading)),
        (f"{path}/{{id}}", Endpoint(dialect, "responses.delete", "object", ("DELETE",), one, query)),
        (f"{path}/{{id}}/cancel", Endpoint(dialect, "responses.cancel", "object", ("POST",), f"{one}/cancel", query)),
        (f"{path}/{{id}}/input_items", Endpoint(dialect, "responses.input_items", "object", ("GET",), items, paging)),
    )


# With names in them; the first that fits counts, of those with one path the one with the method.
NAMING: tuple[tuple[str, Endpoint], ...] = (
    *(
        (f"/openai/deployments/{{model}}{path}", _azure(name, f"/deployments/{{deployment}}{path}"))
        for name, path in _AZURE_PATHS.items()
    ),
    _gemini("generateContent"),
    _gemini("streamGenerateContent", "metered", "alt=sse", "alt=json"),  # not "alt=proto", which nobody could meter
    _gemini("embedContent"),
    _gemini("batchEmbedContents"),
    _gemini("predict"),
    _gemini("countTokens", "free"),
    ("{google}/{model}:{unmetered}", refused(GEMINI, "other", f"this method {LATER}")),
    ("/v1beta/models/{model}", Endpoint(GEMINI, "model", "local", ("GET",))),
    _bedrock("converse", "converse"),
    _bedrock("converse-stream", "converse-stream"),
    _bedrock("invoke", "invoke"),
    _bedrock("invoke-with-response-stream", "invoke-stream"),
    _bedrock("count-tokens", "count-tokens", "free"),
    ("/model/{model}/invoke-with-bidirectional-stream", refused(BEDROCK, "bedrock.speech", f"speech {LATER}")),
    ("/guardrail/{model}", refused(BEDROCK, "bedrock.guardrail", f"the guardrail API {LATER}")),
    ("/async-invoke/{model}", refused(BEDROCK, "bedrock.async-invoke", f"asynchronous invocation {LATER}")),
    ("/api/blobs/{model}", refused(OLLAMA, "ollama.blobs", MANAGES_MODELS)),
    *_stored("/v1/responses", OPENAI, "/responses"),
    *_stored("/openai/v1/responses", AZURE, "/v1/responses", "api-version"),
    *_stored("/openai/responses", AZURE, "/responses", "api-version"),
)
FREE: Mapping[str, Endpoint] = {
    "/v1/responses/input_tokens": Endpoint(
        OPENAI, "responses.input_tokens", "free", ("POST",), "/responses/input_tokens"
    ),
    "/v1/messages/count_tokens": Endpoint(
        ANTHROPIC, "messages.count_tokens", "free", ("POST",), "/messages/count_tokens"
    ),
    "/api/show": Endpoint(OLLAMA, "ollama.show", "free", ("POST",), "/show"),
}
# Three dialects have these; headers decide.
MODELS: Mapping[str, Endpoint] = {
    "openai": Endpoint(OPENAI, "models", "local", ("GET",)),
    "anthropic": Endpoint(ANTHROPIC, "models", "local", ("GET",)),
    "gemini": Endpoint(GEMINI, "models", "local", ("GET",)),
}
MODEL: Mapping[str, Endpoint] = {
    "openai": Endpoint(OPENAI, "model", "local", ("GET",)),
    "anthropic": Endpoint(ANTHROPIC, "model", "local", ("GET",)),
    "gemini": Endpoint(GEMINI, "model", "local", ("GET",)),
}
AZURE_MODELS = Endpoint(AZURE, "models", "local", ("GET",))
OWN: Mapping[str, Endpoint] = {
    "/llmctl/me": Endpoint(OPENAI, "me", "local", ("GET",)),
    "/openai/models": AZURE_MODELS,
    "/openai/v1/models": AZURE_MODELS,
    "/v1beta/models": MODELS["gemini"],
    "/api/tags": Endpoint(OLLAMA, "models", "local", ("GET",)),
    "/api/version": Endpoint(OLLAMA, "version", "local", ("GET",)),
}
_SPOKEN: tuple[Dialect, ...] = (OPENAI, AZURE, ANTHROPIC, GEMINI, COHERE, OLLAMA, BEDROCK)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _SPOKEN}

_STATIC: Mapping[str, Endpoint] = {**METERED, **AZURE_METERED, **FREE, **OWN, **REFUSED_ELSEWHERE}
_NAMES = {
    "{model}": f"(?P<model>{_MODEL.pattern})",
    "{id}": f"(?P<id>{_ID.pattern})",
    # Google AI; Vertex AI with a project, and without one ("express mode").
    "{google}": r"(?:/v1(?:beta)?|/v1(?:beta1)?(?:/projects/[\w.:-]+/locations/[\w-]+)?/publishers/google)/models",
    "{unmetered}": r"(?:\w+(?:GenerateContent|EmbedContents?)|(?i:\w*predict\w*)|generate\w+|embedText|computeTokens)",
}
_PATTERNS = [
    (re.compile("".join(_NAMES.get(part, re.escape(part)) for part in re.split(r"(\{\w+\})", path))), endpoint)
    for path, endpoint in NAMING
]
_V1 = "/v1/"
_NAMED = {(endpoint.dialect.name, endpoint.name): endpoint for _, endpoint in reversed(NAMING)}  # the first counts
_MODELS_PATH = "/v1/models"
_OWN_PATHS: tuple[tuple[str, Dialect], ...] = (("/v2/", COHERE), ("/api/", OLLAMA), ("/model/", BEDROCK))
_GOOGLE_PATH = re.compile(r"/(?:upload/)?v1beta1?/|/v1/(?:projects|publishers)/")


def lookup(method: str, path: str, headers: Iterable[str], query: str = "") -> Match:
    """The endpoint that `method`, `path` and `query` (as sent) name. `headers`: the names, in lower case or a
    case-insensitive mapping. Raises Refused("path_not_found" | "method_not_allowed" | "not_supported")."""
    match = _find(path, headers, method)
    if match is None:
        raise Refused(
            "path_not_found", f"there is no {path[:PATH_CHARACTERS_MAX]!r} here", hint="see the list in the README"
        )
    endpoint = match.endpoint
    if endpoint.kind == "refused":
        raise Refused("not_supported", f"{path[:PATH_CHARACTERS_MAX]}: {endpoint.why}")
    if method not in endpoint.methods:
        allowed = ", ".join(endpoint.methods)
        raise Refused("method_not_allowed", f"{path} takes {allowed}, not {method[:20]}", facts={"allow": allowed})
    if query and endpoint.query:
        passing = [one for one in parse_qsl(query) if one[0] in endpoint.query or "=".join(one) in endpoint.query]
        return replace(match, query=f"?{urlencode(passing)}" if passing else "")
    return match


def listing_dialect(dialects: Iterable[str]) -> Dialect:
    """In which of a provider's dialects, its own first, its models are asked for."""
    spoken = [DIALECTS[name] for name in dialects]
    return next((dialect for dialect in spoken if dialect.models_target), spoken[0])


def named(dialect: str, name: str) -> Endpoint | None:
    """The endpoint with an {id} or a {model} of this name, for what the gateway asks by itself."""
    return _NAMED.get((dialect, name))


def error_dialect(path: str, headers: Iterable[str]) -> Dialect:
    """In whose shape an error for this path is written, also when the path is unknown."""
    match = _find(path, headers)
    if match is not None:
        endpoint = match.endpoint
        shared = endpoint.kind == "refused" and endpoint.dialect is OPENAI  # /v1/files, which Anthropic has too
        return ANTHROPIC if shared and "anthropic-version" in headers else endpoint.dialect
    if "x-goog-api-key" in headers or _GOOGLE_PATH.match(path):
        return GEMINI
    for prefix, dialect in _OWN_PATHS:
        if path.startswith(prefix):
            return dialect
    return ANTHROPIC if "anthropic-version" in headers or "x-api-key" in headers else OPENAI


def _find(path: str, headers: Iterable[str], method: str = "") -> Match | None:
    endpoint = _STATIC.get(path)
    if endpoint is not None:
        return Match(endpoint)
    if len(path) > PATH_CHARACTERS_MAX:
        return None
    decoded = unquote(path)  # SDKs write provider%2Fmodel
    if match := _find_naming(decoded, method):
        return match
    path = path.removeprefix("/openai") if path.startswith("/openai/v1/") else path
    if path.startswith(_MODELS_PATH):
        return _find_models(path, _models_dialect(headers))
    for prefix, known in ((_V1, REFUSED), ("/v1beta/", GOOGLE_REFUSED), ("/upload/v1beta/", GOOGLE_REFUSED)):
        if path.startswith(prefix):
            return _find_refused(path.removeprefix(prefix).split("/"), known)
    return None


def _find_refused(steps: list[str], known: Mapping[str, Endpoint]) -> Match | None:
    if not all(map(_ID.fullmatch, steps)):
        return None
    for depth in (2, 1):
        if endpoint := known.get("/".join(steps[:depth])):
            return Match(endpoint)
    return None


def _find_naming(path: str, method: str) -> Match | None:
    fitting = [
        Match(endpoint, **found.groupdict()) for pattern, endpoint in _PATTERNS if (found := pattern.fullmatch(path))
    ]
    for match in fitting:
        if method in match.endpoint.methods:
            return match
    if not fitting:
        return None
    allowed = tuple(dict.fromkeys(name for match in fitting for name in match.endpoint.methods))
    return replace(fitting[0], endpoint=replace(fitting[0].endpoint, methods=allowed))


def _models_dialect(headers: Iterable[str]) -> str:
    if "anthropic-version" in headers:
        return "anthropic"
    return "gemini" if "x-goog-api-key" in headers else "openai"


def _find_models(path: str, dialect: str) -> Match | None:
    if path == _MODELS_PATH:
        return Match(MODELS[dialect])
    name = unquote(path.removeprefix(_MODELS_PATH + "/"))
    return Match(MODEL[dialect], name) if _MODEL.fullmatch(name) else None
