"""GET /v1/models and /v1/models/NAME: one path, three dialects."""

from __future__ import annotations

from typing import Any

from . import models
from .errors import Dialect
from .models import SandboxModel


def list_reply(dialect: Dialect) -> dict[str, Any]:
    if dialect == "openai":
        return {"object": "list", "data": [model_reply(model.name, dialect) for model in models.MODELS]}
    if dialect == "gemini":
        return {"models": [model_reply(model.name, dialect) for model in models.MODELS]}
    data = [model_reply(model.name, dialect) for model in models.MODELS]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}


def model_reply(name: str, dialect: Dialect) -> dict[str, Any]:
    model = models.find(name)
    return {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}[dialect](model)


def _openai(model: SandboxModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": models.CREATED_AT, "owned_by": "llmctl-sandbox"}


def _anthropic(model: SandboxModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.display_name,
        "created_at": models.CREATED_AT_RFC3339,
        "lifecycle": "active",
        "max_input_tokens": model.context_window_tokens,
        "max_tokens": model.output_tokens_max,
    }


def _gemini(model: SandboxModel) -> dict[str, Any]:
    return {
        "name": f"models/{model.name}",
        "displayName": model.display_name,
        "inputTokenLimit": model.context_window_tokens,
        "outputTokenLimit": model.output_tokens_max,
    }
