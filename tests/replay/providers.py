"""How the providers of a recording are configured: everything that is not named here speaks OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CONFIGURATIONS: Mapping[str, str] = {
    "anthropic": 'base_url = "{url}/v1"',
    "azure_openai": 'preset = "azure"\nbase_url = "{url}/openai"',
    "bedrock": 'base_url = "{url}"',
    "cohere": 'base_url = "{url}/v2"',
    "gemini": 'base_url = "{url}/v1beta"',
    "ollama": 'base_url = "{url}/v1"',
    "openai": 'base_url = "{url}/v1"',
    "vertex": 'base_url = "{url}/v1"\nauth = "bearer"',
}
_OPENAI = 'dialect = "openai"\nbase_url = "{url}/v1"'


def toml(provider: str, url: str, credential: Path) -> str:
    lines = CONFIGURATIONS.get(provider, _OPENAI).format(url=url)
    return f'[providers.{provider}]\n{lines}\ncredential_file = "{credential}"\nmodels = ["*"]\n'
