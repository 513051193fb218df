"""Paths that are known and not passed on, and what to say instead. Rows of the one table of paths."""

from __future__ import annotations

from collections.abc import Mapping

from .anthropic.dialect import ANTHROPIC
from .bedrock.dialect import BEDROCK
from .cohere.dialect import COHERE
from .endpoint import LATER, Endpoint, refused
from .gemini.dialect import GEMINI
from .ollama.dialect import OLLAMA
from .openai.dialect import OPENAI

MANAGES_MODELS = "the models of a server are its admin's business; ask yours"
_OLLAMA_MANAGES = ("copy", "create", "delete", "pull", "push")
_COHERE_V1 = "version 1 of Cohere's API is not passed on; use /v2/{}"

# By what follows /v1/; everything below them too.
REFUSED: Mapping[str, Endpoint] = {
    "assistants": refused(OPENAI, "assistants", f"the assistants API {LATER}"),
    "audio": refused(OPENAI, "audio", f"this part of the audio API {LATER}"),
    "batches": refused(OPENAI, "batches", f"the batch API {LATER}"),
    "chat/completions": refused(OPENAI, "chat.completions", "stored chat completions are not passed on"),
    "chatkit": refused(OPENAI, "chatkit", f"ChatKit {LATER}"),
    "containers": refused(OPENAI, "containers", f"the containers API {LATER}"),
    "conversations": refused(OPENAI, "conversations", f"the conversations API {LATER}"),
    "evals": refused(OPENAI, "evals", f"the evals API {LATER}"),
    "files": refused(OPENAI, "files", f"the files API {LATER}"),
    "fine_tuning": refused(OPENAI, "fine_tuning", f"fine-tuning {LATER}"),
    "images": refused(OPENAI, "images", f"this part of the images API {LATER}"),
    "organization": refused(OPENAI, "organization", "the provider's administration is not passed on"),
    "realtime": refused(OPENAI, "realtime", f"the realtime API {LATER}"),
    "responses": refused(
        OPENAI, "responses", "only reading, cancelling and deleting of stored responses are passed on"
    ),
    "skills": refused(OPENAI, "skills", f"the skills API {LATER}"),
    "threads": refused(OPENAI, "threads", f"the assistants API {LATER}"),
    "uploads": refused(OPENAI, "uploads", f"the uploads API {LATER}"),
    "vector_stores": refused(OPENAI, "vector_stores", f"the vector stores API {LATER}"),
    "videos": refused(OPENAI, "videos", f"video generation {LATER}"),
    "complete": refused(ANTHROPIC, "complete", "the old text completions API is not passed on; use /v1/messages"),
    "messages/batches": refused(ANTHROPIC, "messages.batches", f"the message batches API {LATER}"),
    # Cohere's version 1.
    "connectors": refused(COHERE, "cohere.v1.connectors", f"the connectors API {LATER}"),
    "datasets": refused(COHERE, "cohere.v1.datasets", f"the datasets API {LATER}"),
    "embed-jobs": refused(COHERE, "cohere.v1.embed-jobs", f"the embed jobs API {LATER}"),
    "finetuning": refused(COHERE, "cohere.v1.finetuning", f"fine-tuning {LATER}"),
}
# Path by path: what is below them is unknown.
REFUSED_ELSEWHERE: Mapping[str, Endpoint] = {
    # Cohere's version 1.
    "/v1/chat": refused(COHERE, "cohere.v1.chat", _COHERE_V1.format("chat")),
    "/v1/check-api-key": refused(COHERE, "cohere.v1.check-api-key", "GET /llmctl/me tells what a key is good for"),
    "/v1/classify": refused(COHERE, "cohere.v1.classify", f"classification {LATER}"),
    "/v1/detokenize": refused(COHERE, "cohere.v1.detokenize", "tokenizing is not passed on"),
    "/v1/embed": refused(COHERE, "cohere.v1.embed", _COHERE_V1.format("embed")),
    "/v1/generate": refused(COHERE, "cohere.v1.generate", _COHERE_V1.format("chat")),
    "/v1/summarize": refused(COHERE, "cohere.v1.summarize", _COHERE_V1.format("chat")),
    "/v1/tokenize": refused(COHERE, "cohere.v1.tokenize", "tokenizing is not passed on"),
    "/v2/batches": refused(COHERE, "cohere.batches", f"the batch API {LATER}"),
    "/v2/parse": refused(COHERE, "cohere.parse", f"document parsing {LATER}"),
    "/v2/audio/transcriptions": refused(COHERE, "cohere.audio", f"audio {LATER}"),
    **{f"/api/{what}": refused(OLLAMA, f"ollama.{what}", MANAGES_MODELS) for what in _OLLAMA_MANAGES},
    "/async-invoke": refused(BEDROCK, "bedrock.async-invoke", f"asynchronous invocation {LATER}"),
    "/foundation-models": refused(BEDROCK, "bedrock.models", "the provider's administration is not passed on"),
    "/inference-profiles": refused(BEDROCK, "bedrock.profiles", "the provider's administration is not passed on"),
    "/api/ps": refused(OLLAMA, "ollama.ps", "which models a server has loaded is not told; see /api/tags"),
    "/api/web_fetch": refused(OLLAMA, "ollama.web_fetch", f"web fetching {LATER}"),
    "/api/web_search": refused(OLLAMA, "ollama.web_search", f"web search {LATER}"),
}
# By what follows /v1beta/ and /upload/v1beta/; everything below them too.
GOOGLE_REFUSED: Mapping[str, Endpoint] = {
    "batches": refused(GEMINI, "batches", f"the batch API {LATER}"),
    "cachedContents": refused(GEMINI, "cachedContents", f"the making of cached contents {LATER}"),
    "corpora": refused(GEMINI, "corpora", f"semantic retrieval {LATER}"),
    "dynamic": refused(GEMINI, "dynamic", "shared prompts are not passed on"),
    "files": refused(GEMINI, "files", f"the files API {LATER}"),
    "fileSearchStores": refused(GEMINI, "fileSearchStores", f"the file search API {LATER}"),
    "interactions": refused(GEMINI, "interactions", f"the interactions API {LATER}; use generateContent"),
    "operations": refused(GEMINI, "operations", f"the operations API {LATER}"),
    "tunedModels": refused(GEMINI, "tunedModels", f"tuning {LATER}"),
}
