"""Well-known providers, as data: a name in `config.toml` brings all of this. A new one is a new row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .toml_table import NOTHING


class Preset(NamedTuple):
    """What is the same for everybody who uses this provider. Base URLs include the version (`/v1`); one that is "" is
    everybody's own, and stands in the configuration."""

    base_url: str
    dialects: tuple[str, ...] = ("openai",)
    paths: Mapping[str, str] = NOTHING  # dialect -> its own base, relative to `base_url`
    auth: str = ""  # how the credential is shown (AUTHS); "" = as the dialect's own clients show theirs
    credential_env: str = ""  # the variable that its own SDK reads
    catalogue: str = ""  # its id in the price catalogue (genai-prices)
    models: tuple[str, ...] = ()  # requested models that route here unless the configuration says otherwise
    output_fields: Mapping[str, str] = NOTHING  # endpoint -> field of the output maximum
    image_tokens_max: int | None = None  # what one image is billed with at most; None: not documented
    example: str = ""  # of a base URL that is everybody's own
    any_model: frozenset[str] = frozenset()  # dialects in which every model comes here that no pattern leads elsewhere
    prompt_overhead_tokens: int = 2_048  # hidden prompts of tools and templates; raised by what is seen


# Fields of the output maximum where neither a preset nor the configuration names another. Providers other than OpenAI
# and Azure do not know `max_completion_tokens`; those two refuse `max_tokens` for reasoning models:
# https://platform.openai.com/docs/api-reference/chat/create
OUTPUT_FIELDS: Mapping[str, str] = {
    "chat.completions": "max_tokens",
    "completions": "max_tokens",
    "responses": "max_output_tokens",
    "messages": "max_tokens",
    "cohere.chat": "max_tokens",
    "ollama.chat": "options.num_predict",
    "ollama.generate": "options.num_predict",
}

SIGV4 = "sigv4"  # each request is signed with an AWS key
AUTHS = ("bearer", "api-key", SIGV4)
AWS_KEY_ENV = "AWS_ACCESS_KEY_ID:AWS_SECRET_ACCESS_KEY:AWS_SESSION_TOKEN"  # the last one only where it is set
REGION = "{region}"  # in a base URL: what `region` says, else the first of these variables that is set
REGION_ENV = ("AWS_REGION", "AWS_DEFAULT_REGION")

SANDBOX = "sandbox"  # built in: `llmctl serve` runs it itself

# gpt-4o-mini: 2,833 and 5,667 for each of up to 8 tiles; all others less (10,000 patches x 2.46):
# https://platform.openai.com/docs/guides/images-vision
_OPENAI_IMAGE_TOKENS_MAX = 48_169

# Models before Gemini 3 see at most 12 x 2 tiles of 258 tokens: images are scaled into 3,072 pixels a side, and tiles
# are no smaller than 256. Later ones take up to 2,240 for an image:
# https://ai.google.dev/gemini-api/docs/tokens, https://ai.google.dev/gemini-api/docs/media-resolution
_GEMINI_IMAGE_TOKENS_MAX = 6_192

# By vendor; before it stands the name of a region, or of a group of them, where an inference profile is meant.
_BEDROCK_MODELS = """
    anthropic.claude* *.anthropic.claude* amazon.* *.amazon.nova* meta.llama* *.meta.llama* mistral.* *.mistral.*
    cohere.* *.cohere.* deepseek.* *.deepseek.* openai.gpt* *.openai.gpt* qwen.* ai21.* google.gemma* nvidia.*
    moonshot* *.moonshot* zai.* *.zai.* minimax.* writer.* *.writer.* arn:aws*
"""
PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        "https://api.openai.com/v1",
        credential_env="OPENAI_API_KEY",
        catalogue="openai",
        models=(
            *("gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*", "text-embedding-*", "davinci-*", "ft:*"),
            *("dall-e-*", "whisper-*", "tts-*", "omni-moderation-*", "text-moderation-*"),
        ),
        output_fields={"chat.completions": "max_completion_tokens"},
        image_tokens_max=_OPENAI_IMAGE_TOKENS_MAX,
    ),
    # The older API has the deployment in its path, "v1" is OpenAI's own. A deployment's name is everybody's own, so no
    # pattern can know it: https://learn.microsoft.com/azure/ai-foundry/openai/reference
    "azure": Preset(
        "",
        dialects=("azure", "openai"),
        paths={"openai": "v1"},
        auth="api-key",
        credential_env="AZURE_OPENAI_API_KEY",
        catalogue="azure",
        output_fields={"chat.completions": "max_completion_tokens"},
        image_tokens_max=_OPENAI_IMAGE_TOKENS_MAX,
        example="https://NAME.openai.azure.com/openai",
        any_model=frozenset({"azure"}),
    ),
    "anthropic": Preset(
        "https://api.anthropic.com/v1",
        dialects=("anthropic",),
        credential_env="ANTHROPIC_API_KEY",
        catalogue="anthropic",
        models=("claude-*",),
        # 1,600 for most, up to 4,784 for those that see in high resolution:
        # https://platform.claude.com/docs/en/build-with-claude/vision
        image_tokens_max=5_000,
    ),
    "gemini": Preset(
        "https://generativelanguage.googleapis.com/v1beta",
        dialects=("gemini", "openai"),
        paths={"openai": "openai"},
        credential_env="GEMINI_API_KEY",
        catalogue="google",
        models=("gemini-*", "gemma-*"),
        image_tokens_max=_GEMINI_IMAGE_TOKENS_MAX,
    ),
    "vertex": Preset(
        "",
        dialects=("gemini",),
        auth="bearer",
        catalogue="google",
        models=("gemini-*",),
        image_tokens_max=_GEMINI_IMAGE_TOKENS_MAX,
        example="https://REGION-aiplatform.googleapis.com/v1beta1/projects/PROJECT/locations/REGION/publishers/google",
    ),
    # docs.mistral.ai/api
    "mistral": Preset(
        "https://api.mistral.ai/v1",
        credential_env="MISTRAL_API_KEY",
        catalogue="mistral",
        models=(
            *("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*", "pixtral-*", "voxtral-*"),
            *("open-mistral-*", "open-mixtral-*"),
        ),
    ),
    # console.groq.com/docs/openai; max_tokens is deprecated there: console.groq.com/docs/api-reference
    "groq": Preset(
        "https://api.groq.com/openai/v1",
        credential_env="GROQ_API_KEY",
        catalogue="groq",
        output_fields={"chat.completions": "max_completion_tokens"},
    ),
    # docs.x.ai/docs/api-reference
    "xai": Preset("https://api.x.ai/v1", credential_env="XAI_API_KEY", catalogue="x-ai", models=("grok-*",)),
    # api-docs.deepseek.com
    "deepseek": Preset(
        "https://api.deepseek.com/v1", credential_env="DEEPSEEK_API_KEY", catalogue="deepseek", models=("deepseek-*",)
    ),
    # openrouter.ai/docs/api-reference
    "openrouter": Preset("https://openrouter.ai/api/v1", credential_env="OPENROUTER_API_KEY", catalogue="openrouter"),
    # docs.together.ai/docs/openai-api-compatibility
    "together": Preset("https://api.together.xyz/v1", credential_env="TOGETHER_API_KEY", catalogue="together"),
    # docs.fireworks.ai/tools-sdks/openai-compatibility
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1",
        credential_env="FIREWORKS_API_KEY",
        catalogue="fireworks",
        models=("accounts/fireworks/*",),
    ),
    # inference-docs.cerebras.ai/resources/openai
    "cerebras": Preset(
        "https://api.cerebras.ai/v1",
        credential_env="CEREBRAS_API_KEY",
        catalogue="cerebras",
        output_fields={"chat.completions": "max_completion_tokens"},
    ),
    # docs.perplexity.ai/guides/chat-completions-guide
    "perplexity": Preset(
        "https://api.perplexity.ai", credential_env="PERPLEXITY_API_KEY", catalogue="perplexity", models=("sonar*",)
    ),
    # huggingface.co/docs/inference-providers; prices are those of the provider that serves, so none are known here
    "huggingface": Preset("https://router.huggingface.co/v1", credential_env="HF_TOKEN"),
    # platform.moonshot.ai/docs
    "moonshot": Preset(
        "https://api.moonshot.ai/v1",
        credential_env="MOONSHOT_API_KEY",
        catalogue="moonshotai",
        models=("kimi-*", "moonshot-*"),
    ),
    # docs.api.nvidia.com/nim/reference/llm-apis; credits, not prices
    "nvidia": Preset("https://integrate.api.nvidia.com/v1", credential_env="NVIDIA_API_KEY"),
    # docs.databricks.com/machine-learning/model-serving/score-foundation-models
    "databricks": Preset(
        "",
        credential_env="DATABRICKS_TOKEN",
        catalogue="databricks",
        models=("databricks-*",),
        example="https://WORKSPACE.cloud.databricks.com/serving-endpoints",
    ),
    # developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility
    "cloudflare": Preset(
        "",
        credential_env="CLOUDFLARE_API_TOKEN",
        catalogue="cloudflare",
        models=("@cf/*", "@hf/*"),
        example="https://api.cloudflare.com/client/v4/accounts/ACCOUNT_ID/ai/v1",
    ),
    "bedrock": Preset(
        "https://bedrock-runtime.{region}.amazonaws.com",
        dialects=("bedrock", "openai"),
        # https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html
        paths={"openai": "openai/v1"},
        credential_env="AWS_BEARER_TOKEN_BEDROCK",
        catalogue="aws",
        models=tuple(_BEDROCK_MODELS.split()),
    ),
    "cohere": Preset(
        "https://api.cohere.com/v2",
        dialects=("cohere", "openai"),
        # https://docs.cohere.com/docs/compatibility-api
        paths={"openai": "../compatibility/v1"},
        credential_env="CO_API_KEY",
        catalogue="cohere",
        models=("command*", "c4ai-*", "embed-*", "rerank-*"),
    ),
    # Servers of one's own, at their usual address: docs.vllm.ai/en/latest/serving/openai_compatible_server,
    # github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, lmstudio.ai/docs/app/api/endpoints/openai
    "vllm": Preset("http://127.0.0.1:8000/v1"),
    "llamacpp": Preset("http://127.0.0.1:8080/v1"),
    "lmstudio": Preset("http://127.0.0.1:1234/v1"),
    "ollama": Preset("http://127.0.0.1:11434/v1", dialects=("openai", "ollama"), paths={"ollama": "../api"}),
    SANDBOX: Preset("", dialects=("openai", "anthropic", "gemini"), models=("sandbox-*",), prompt_overhead_tokens=256),
}
