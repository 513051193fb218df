"""The real provider that the other tests stand on: it answers, and keeps a book of its own."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.llama import LlamaServer
from tests.support.tiny_model import write_tiny_model

HELLO: Any = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def client(llama: LlamaServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=llama.base_url, api_key=llama.api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(llama: LlamaServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=llama.url, api_key=llama.api_key, max_retries=0) as client:
        yield client


def counted_since(server: LlamaServer, before: dict[str, int]) -> tuple[int, int]:
    """(input, output) tokens that the server counted in the meantime."""
    since = {name: count - before[name] for name, count in server.metrics().items()}
    return (
        since["prompt_tokens_total"] + since["prompt_tokens_cached_total"],
        since["tokens_predicted_total"],
    )


def test_the_model_is_the_same_on_every_run(tiny_model: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "again.gguf")
    first, again = (hashlib.sha256(path.read_bytes()).digest() for path in (tiny_model, tmp_path / "again.gguf"))
    assert first == again


def test_chat_reports_the_usage_that_the_server_counted(llama: LlamaServer, client: openai.OpenAI) -> None:
    before = llama.metrics()
    answer = client.chat.completions.create(model=llama.model, messages=HELLO, max_tokens=8)
    assert answer.model == llama.model
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 8
    assert counted_since(llama, before) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_a_chat_stream_shows_usage_only_where_it_is_asked_for(llama: LlamaServer, client: openai.OpenAI) -> None:
    before = llama.metrics()
    ask: Any = {"model": llama.model, "messages": HELLO, "max_tokens": 8, "stream": True}
    silent = list(client.chat.completions.create(**ask))
    assert all(chunk.usage is None for chunk in silent)
    *_, last = client.chat.completions.create(**ask, stream_options={"include_usage": True})
    assert last.choices == []
    silent_input, _ = counted_since(llama, before)
    assert silent_input == 2 * last.usage.prompt_tokens


def test_completions_report_usage(llama: LlamaServer, client: openai.OpenAI) -> None:
    before = llama.metrics()
    answer = client.completions.create(model=llama.model, prompt="Once upon a time", max_tokens=8)
    assert answer.usage is not None
    assert counted_since(llama, before) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_responses_report_usage(llama: LlamaServer, client: openai.OpenAI, stream: bool) -> None:
    before = llama.metrics()
    ask: Any = {"model": llama.model, "input": "Hello there", "max_output_tokens": 16, "stream": stream}
    if stream:
        *_, last = client.responses.create(**ask)
        assert last.type == "response.completed"
        usage = last.response.usage
    else:
        usage = client.responses.create(**ask).usage
    assert counted_since(llama, before) == (usage.input_tokens, usage.output_tokens)


def test_messages_report_cached_input_apart(llama: LlamaServer, claude: anthropic.Anthropic) -> None:
    before = llama.metrics()
    usage = claude.messages.create(model=llama.model, messages=HELLO, max_tokens=8).usage
    whole_input = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted_since(llama, before) == (whole_input, usage.output_tokens)
    counted = claude.messages.count_tokens(model=llama.model, messages=HELLO)
    assert counted.input_tokens == whole_input


def test_messages_stream(llama: LlamaServer, claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=llama.model, messages=HELLO, max_tokens=8) as stream:
        usage = stream.get_final_message().usage
    assert 0 < usage.output_tokens <= 8


def test_embeddings_report_usage(llama_embed: LlamaServer) -> None:
    before = llama_embed.metrics()
    with openai.OpenAI(base_url=llama_embed.base_url, api_key=llama_embed.api_key) as client:
        answer = client.embeddings.create(model=llama_embed.model, input=["Hello", "there"])
    assert len(answer.data) == 2
    assert counted_since(llama_embed, before) == (answer.usage.prompt_tokens, 0)


def test_a_wrong_key_is_turned_away(llama: LlamaServer) -> None:
    with (
        openai.OpenAI(base_url=llama.base_url, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_model_that_cannot_be_loaded_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"missing\.gguf"):
        LlamaServer(tmp_path / "missing.gguf")


def test_a_stopped_server_may_be_stopped_again(tiny_model: Path) -> None:
    server = LlamaServer(tiny_model)
    server.stop()
    server.stop()
