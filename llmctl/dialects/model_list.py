"""Lists of models as each dialect's clients read them, and as providers write them:
https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models-list,
https://ai.google.dev/api/models and https://docs.ollama.com/api/tags
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

# Both APIs ask for a date; ours are names that the gateway serves, of no date that it knows.
_CREATED_AT = 0
_CREATED_AT_RFC3339 = "1970-01-01T00:00:00Z"
_GEMINI_METHODS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")


def _openai(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED_AT, "owned_by": "llmctl"}


def _anthropic(name: str) -> dict[str, object]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT_RFC3339}


def _ollama(name: str) -> dict[str, object]:
    times = {"modified_at": _CREATED_AT_RFC3339}
    return {"name": name, "model": name, **times, "size": 0, "digest": "", "details": {"format": "", "family": ""}}


def _openai_list(names: Sequence[str]) -> dict[str, object]:
    return {"object": "list", "data": [_openai(name) for name in names]}


def _anthropic_list(names: Sequence[str]) -> dict[str, object]:
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": [_anthropic(name) for name in names], "has_more": False, "first_id": first, "last_id": last}


def _ollama_list(names: Sequence[str]) -> dict[str, object]:
    return {"models": [_ollama(name) for name in names]}


def _gemini(name: str) -> dict[str, object]:
    return {
        "name": f"models/{name}",
        "version": "",
        "displayName": name,
        "supportedGenerationMethods": _GEMINI_METHODS,
    }


def _gemini_list(names: Sequence[str]) -> dict[str, object]:
    return {"models": [_gemini(name) for name in names]}


_ONE: Mapping[str, Callable[[str], dict[str, object]]] = {
    "openai": _openai,
    "azure": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
_ALL: Mapping[str, Callable[[Sequence[str]], dict[str, object]]] = {
    "openai": _openai_list,
    "azure": _openai_list,
    "anthropic": _anthropic_list,
    "gemini": _gemini_list,
    "ollama": _ollama_list,
}


def model_body(dialect: str, name: str) -> bytes:
    """The JSON body of `GET /v1/models/NAME`."""
    return msgspec.json.encode(_ONE[dialect](name))


def models_body(dialect: str, names: Sequence[str]) -> bytes:
    """The JSON body of `GET /v1/models`."""
    return msgspec.json.encode(_ALL[dialect](names))


class _Model(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    """Alike at OpenAI and Anthropic: {"data": [{"id": ...}]}"""

    data: list[_Model]


class _Named(msgspec.Struct):
    name: str


class _NamedListing(msgspec.Struct):
    """Alike at Google and Ollama: {"models": [{"name": ...}]}"""

    models: list[_Named] = []


def names(body: bytes) -> list[str]:
    """Those that a provider lists. Raises ValueError."""
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Listing).data]
    except msgspec.MsgspecError as error:
        raise ValueError("not a list of models") from error


def named(body: bytes) -> list[str]:
    """As above, of those that call them `name`."""
    try:
        return [model.name for model in msgspec.json.decode(body, type=_NamedListing).models]
    except msgspec.MsgspecError as error:
        raise ValueError("not a list of models") from error
