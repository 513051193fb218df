"""The one table of paths: what is metered, free, answered here, or refused and why. Any other path is unknown; nothing
of a client's path ever reaches a provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from ..domain.call import Reading
from ..domain.errors import Refused
from . import bedrock_request, bedrock_usage
from .anthropic import ANTHROPIC
from .azure import AZURE
from .base import Dialect
from .bedrock import BEDROCK
from .cohere import COHERE
from .gemini import GEMINI
from .multipart import Form
from .ollama import OLLAMA
from .openai import OPENAI, OpenAi
from .request import Request

PATH_CHARACTERS_MAX = 300
# Names that may stand in a path. Each step starts with a letter or digit: no "..", no "//"; no "%" once it is decoded.
_MODEL = re.compile(r"[A-Za-z0-9@~][A-Za-z0-9._:@+~-]*(?:/[A-Za-z0-9@~][A-Za-z0-9._:@+~-]*)*")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_IN_PATHS = "/:@~"  # beside letters, digits and _.-

ReadForm = Callable[[str, Form, str], Request]  # endpoint, form, and the model where the path names it
# free: passed on, costs nothing; object: free too, of something that a provider keeps, and goes where that is kept;
# local: answered here
Kind = Literal["metered", "free", "object", "local", "refused"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path means. `upstream` follows the provider's base URL, which ends in its version ("…/v1"); `{model}` in
    it is the upstream model, `{deployment}` the same as one step of a path, `{id}` the client's. `query`: the
    parameters that pass ("name", or "name=value" for that value alone), all others do not. `why`: for refused ones,
    what to tell the client. `ask_headers`, `answer_headers`: where facts that decide money stand in headers too, what
    adds them to a request and to a reading. `read_form`: reads requests that come as forms; `form_only`: all do."""

    dialect: Dialect
    name: str
    kind: Kind
    methods: tuple[str, ...]
    upstream: str = ""
    query: tuple[str, ...] = ()
    why: str = ""
    ask_headers: Callable[[Request, Mapping[str, str]], Request] | None = None
    answer_headers: Callable[[Reading, Mapping[str, str]], Reading] | None = None
    read_form: ReadForm | None = None
    form_only: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint that was called; `model`, `id`: those that the path names; `query`: what passes of the client's."""

    endpoint: Endpoint
    model: str = ""
    id: str = ""
    query: str = ""

    @property
    def streams(self) -> bool:
        """Asked for as a stream by its query, where others say so in their body."""
        return "stream=true" in self.query

    def target(self, model: str) -> str:
        """Path and query below a provider's base URL, for this upstream model."""
        upstream = self.endpoint.upstream
        if "{" in upstream:
            names = {"model": quote(model, safe=_PLAIN_IN_PATHS), "deployment": quote(model, safe=""), "id": self.id}
            upstream = upstream.format_map(names)
        return upstream + self.query


def _refused(dialect: Dialect, name: str, why: str) -> Endpoint:
    return Endpoint(dialect, name, "refused", (), why=why)


def _form(
    dialect: OpenAi, name: str, upstream: str, query: tuple[str, ...] = (), *, form_only: bool = True
) -> Endpoint:
    return Endpoint(
        dialect, name, "metered", ("POST",), upstream, query, read_form=dialect.read_form, form_only=form_only
    )


_LATER = "is not metered yet, so it is not passed on"
_MANAGES_MODELS = "the models of a server are its admin's business; ask yours"
_OLLAMA_MANAGES = ("copy", "create", "delete", "pull", "push")
_COHERE_V1 = "version 1 of Cohere's API is not passed on; use /v2/{}"

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
    ("{google}/{model}:{unmetered}", _refused(GEMINI, "other", f"this method {_LATER}")),
    ("/v1beta/models/{model}", Endpoint(GEMINI, "model", "local", ("GET",))),
    _bedrock("converse", "converse"),
    _bedrock("converse-stream", "converse-stream"),
    _bedrock("invoke", "invoke"),
    _bedrock("invoke-with-response-stream", "invoke-stream"),
    _bedrock("count-tokens", "count-tokens", "free"),
    ("/model/{model}/invoke-with-bidirectional-stream", _refused(BEDROCK, "bedrock.speech", f"speech {_LATER}")),
    ("/guardrail/{model}", _refused(BEDROCK, "bedrock.guardrail", f"the guardrail API {_LATER}")),
    ("/async-invoke/{model}", _refused(BEDROCK, "bedrock.async-invoke", f"asynchronous invocation {_LATER}")),
    ("/api/blobs/{model}", _refused(OLLAMA, "ollama.blobs", _MANAGES_MODELS)),
    *_stored("/v1/responses", OPENAI, "/responses"),
    *_stored("/openai/v1/responses", AZURE, "/v1/responses", "api-version"),
    *_stored("/openai/responses", AZURE, "/responses", "api-version"),
)
FREE: Mapping[str, Endpoint] = {
    "/v1/responses/input_tokens": Endpoint(
        OPENAI, "responses.input_tokens", "free", ("POST",), "/responses/input_tokens"
    ),
    "/v1/moderations": Endpoint(OPENAI, "moderations", "free", ("POST",), "/moderations"),
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
# By what follows /v1/; everything below them too.
REFUSED: Mapping[str, Endpoint] = {
    "assistants": _refused(OPENAI, "assistants", f"the assistants API {_LATER}"),
    "audio": _refused(OPENAI, "audio", f"this part of the audio API {_LATER}"),
    "batches": _refused(OPENAI, "batches", f"the batch API {_LATER}"),
    "chat/completions": _refused(OPENAI, "chat.completions", "stored chat completions are not passed on"),
    "chatkit": _refused(OPENAI, "chatkit", f"ChatKit {_LATER}"),
    "containers": _refused(OPENAI, "containers", f"the containers API {_LATER}"),
    "conversations": _refused(OPENAI, "conversations", f"the conversations API {_LATER}"),
    "evals": _refused(OPENAI, "evals", f"the evals API {_LATER}"),
    "files": _refused(OPENAI, "files", f"the files API {_LATER}"),
    "fine_tuning": _refused(OPENAI, "fine_tuning", f"fine-tuning {_LATER}"),
    "images": _refused(OPENAI, "images", f"this part of the images API {_LATER}"),
    "organization": _refused(OPENAI, "organization", "the provider's administration is not passed on"),
    "realtime": _refused(OPENAI, "realtime", f"the realtime API {_LATER}"),
    "responses": _refused(
        OPENAI, "responses", "only reading, cancelling and deleting of stored responses are passed on"
    ),
    "skills": _refused(OPENAI, "skills", f"the skills API {_LATER}"),
    "threads": _refused(OPENAI, "threads", f"the assistants API {_LATER}"),
    "uploads": _refused(OPENAI, "uploads", f"the uploads API {_LATER}"),
    "vector_stores": _refused(OPENAI, "vector_stores", f"the vector stores API {_LATER}"),
    "videos": _refused(OPENAI, "videos", f"video generation {_LATER}"),
    "complete": _refused(ANTHROPIC, "complete", "the old text completions API is not passed on; use /v1/messages"),
    "messages/batches": _refused(ANTHROPIC, "messages.batches", f"the message batches API {_LATER}"),
    # Cohere's version 1.
    "connectors": _refused(COHERE, "cohere.v1.connectors", f"the connectors API {_LATER}"),
    "datasets": _refused(COHERE, "cohere.v1.datasets", f"the datasets API {_LATER}"),
    "embed-jobs": _refused(COHERE, "cohere.v1.embed-jobs", f"the embed jobs API {_LATER}"),
    "finetuning": _refused(COHERE, "cohere.v1.finetuning", f"fine-tuning {_LATER}"),
}
# Path by path: what is below them is unknown.
REFUSED_ELSEWHERE: Mapping[str, Endpoint] = {
    # Cohere's version 1.
    "/v1/chat": _refused(COHERE, "cohere.v1.chat", _COHERE_V1.format("chat")),
    "/v1/check-api-key": _refused(COHERE, "cohere.v1.check-api-key", "GET /llmctl/me tells what a key is good for"),
    "/v1/classify": _refused(COHERE, "cohere.v1.classify", f"classification {_LATER}"),
    "/v1/detokenize": _refused(COHERE, "cohere.v1.detokenize", "tokenizing is not passed on"),
    "/v1/embed": _refused(COHERE, "cohere.v1.embed", _COHERE_V1.format("embed")),
    "/v1/generate": _refused(COHERE, "cohere.v1.generate", _COHERE_V1.format("chat")),
    "/v1/summarize": _refused(COHERE, "cohere.v1.summarize", _COHERE_V1.format("chat")),
    "/v1/tokenize": _refused(COHERE, "cohere.v1.tokenize", "tokenizing is not passed on"),
    "/v2/batches": _refused(COHERE, "cohere.batches", f"the batch API {_LATER}"),
    "/v2/parse": _refused(COHERE, "cohere.parse", f"document parsing {_LATER}"),
    "/v2/audio/transcriptions": _refused(COHERE, "cohere.audio", f"audio {_LATER}"),
    **{f"/api/{what}": _refused(OLLAMA, f"ollama.{what}", _MANAGES_MODELS) for what in _OLLAMA_MANAGES},
    "/async-invoke": _refused(BEDROCK, "bedrock.async-invoke", f"asynchronous invocation {_LATER}"),
    "/foundation-models": _refused(BEDROCK, "bedrock.models", "the provider's administration is not passed on"),
    "/inference-profiles": _refused(BEDROCK, "bedrock.profiles", "the provider's administration is not passed on"),
    "/api/ps": _refused(OLLAMA, "ollama.ps", "which models a server has loaded is not told; see /api/tags"),
    "/api/web_fetch": _refused(OLLAMA, "ollama.web_fetch", f"web fetching {_LATER}"),
    "/api/web_search": _refused(OLLAMA, "ollama.web_search", f"web search {_LATER}"),
}
# By what follows /v1beta/ and /upload/v1beta/; everything below them too.
GOOGLE_REFUSED: Mapping[str, Endpoint] = {
    "batches": _refused(GEMINI, "batches", f"the batch API {_LATER}"),
    "cachedContents": _refused(GEMINI, "cachedContents", f"the making of cached contents {_LATER}"),
    "corpora": _refused(GEMINI, "corpora", f"semantic retrieval {_LATER}"),
    "dynamic": _refused(GEMINI, "dynamic", "shared prompts are not passed on"),
    "files": _refused(GEMINI, "files", f"the files API {_LATER}"),
    "fileSearchStores": _refused(GEMINI, "fileSearchStores", f"the file search API {_LATER}"),
    "interactions": _refused(GEMINI, "interactions", f"the interactions API {_LATER}; use generateContent"),
    "operations": _refused(GEMINI, "operations", f"the operations API {_LATER}"),
    "tunedModels": _refused(GEMINI, "tunedModels", f"tuning {_LATER}"),
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
        return match.endpoint.dialect
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
    for prefix, refused in ((_V1, REFUSED), ("/v1beta/", GOOGLE_REFUSED), ("/upload/v1beta/", GOOGLE_REFUSED)):
        if path.startswith(prefix):
            return _find_refused(path.removeprefix(prefix).split("/"), refused)
    return None


def _find_refused(steps: list[str], refused: Mapping[str, Endpoint]) -> Match | None:
    if not all(map(_ID.fullmatch, steps)):
        return None
    for depth in (2, 1):
        if endpoint := refused.get("/".join(steps[:depth])):
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
