"""Lists of models as each dialect's clients read them: https://platform.openai.com/docs/api-reference/models,
https://docs.anthropic.com/en/api/models-list and https://docs.ollama.com/api/tags
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

# Both APIs ask for a date; ours are names that the gateway serves, of no date that it knows.
_CREATED_AT = 0
_CREATED_AT_RFC3339 = "1970-01-01T00:00:00Z"


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


_ONE: Mapping[str, Callable[[str], dict[str, object]]] = {"openai": _openai, "anthropic": _anthropic}
_ALL: Mapping[str, Callable[[Sequence[str]], dict[str, object]]] = {
    "openai": _openai_list,
    "anthropic": _anthropic_list,
    "ollama": _ollama_list,
}


def model_body(dialect: str, name: str) -> bytes:
    """The JSON body of `GET /v1/models/NAME`."""
    return msgspec.json.encode(_ONE[dialect](name))


def models_body(dialect: str, names: Sequence[str]) -> bytes:
    """The JSON body of `GET /v1/models`."""
    return msgspec.json.encode(_ALL[dialect](names))
