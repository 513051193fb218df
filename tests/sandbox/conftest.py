"""A running sandbox, and the official SDKs pointed at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from llmctl import tokenizer
from llmctl.sandbox import Sandbox

CREDENTIAL = "sandbox-credential-for-tests"


@pytest.fixture(scope="session", autouse=True)
def _vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vocabularies")
    tokenizer.configure(directory)
    return directory


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Base URL of a sandbox that streams without delay."""
    sandbox = Sandbox(CREDENTIAL, tmp_path / "sandbox", delay_s=0)
    yield await sandbox.start()
    await sandbox.stop()


@pytest.fixture
async def openai(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=CREDENTIAL, max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic(url: str) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=url, api_key=CREDENTIAL, max_retries=0) as client:
        yield client


@pytest.fixture
async def google(url: str) -> AsyncIterator[genai.client.AsyncClient]:
    options = types.HttpOptions(base_url=url, api_version="v1")
    async with genai.Client(api_key=CREDENTIAL, http_options=options).aio as client:
        yield client
