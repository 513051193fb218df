"""Two books: the gateway's ledger and llama.cpp's own counters agree to the token, also when many calls run at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import anthropic
import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.llama import LlamaServer

from .conftest import gateway_before
from .recorder import Recorder
from .sdk import Told, chat, completion, embedding, message, response

CALLS = 60
TOGETHER = 24
SUMMED = ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"]
ASK_USAGE: Any = {"stream_options": {"include_usage": True}}


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def gateway(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    running_recorder: Recorder,
    llama: LlamaServer,
    llama_embed: LlamaServer,
) -> Iterator[Daemon]:
    with gateway_before(
        tmp_path_factory.mktemp("gateway"),
        running_recorder,
        llama,
        llama_embed,
        args=["--workers", str(request.param)],
    ) as daemon:
        yield daemon


def test_the_ledger_agrees_with_the_servers_own_counters_to_the_token(
    gateway: Daemon, llama: LlamaServer, llama_embed: LlamaServer
) -> None:
    keys = [gateway.add_user("alice", "sales"), gateway.add_user("bob", "sales"), gateway.add_user("carol", "research")]
    gateway.llmctl("limit", "set", "--org", "--cost", "100", "--per", "month")
    before, before_embed = llama.metrics(), llama_embed.metrics()
    told = run_calls(gateway, keys)
    rows = gateway.calls("--limit", "1000", count=CALLS)
    counted, counted_embed = since(llama, before), since(llama_embed, before_embed)

    assert len(rows) == len(told) == CALLS
    assert {(row["state"], row["status"], row["usage_source"]) for row in rows} == {("settled", 200, "reported")}
    generated = [row for row in rows if row["provider"] == "local"]
    embedded = [row for row in rows if row["provider"] == "embed"]
    assert total(generated, "output_tokens") == counted["tokens_predicted_total"]
    assert total(generated, "cache_read_tokens") == counted["prompt_tokens_cached_total"]
    assert total(generated, "input_tokens") == sum(
        counted[name] for name in ("prompt_tokens_total", "prompt_tokens_cached_total")
    )
    assert total(embedded, "input_tokens") == sum(
        counted_embed[name] for name in ("prompt_tokens_total", "prompt_tokens_cached_total")
    )
    by_id = {row["id"]: row for row in rows}
    for one in told:
        if one.counts is not None:
            row = by_id[one.call_id]
            assert one.counts == (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]), row["endpoint"]

    for by in ("group", "user", "key", "model", "provider", "day"):
        assert_same_sums(gateway.json("usage", "--by", by), rows)
    for user in ("alice", "bob", "carol"):
        assert_same_sums(gateway.json("usage", "--user", user), [row for row in rows if row["user"] == user])
    (limit,) = gateway.json("limit", "list")
    assert Decimal(limit["spent"]) == sum(Decimal(row["cost_usd"]) for row in rows)
    assert Decimal(limit["held"]) == 0


def run_calls(gateway: Daemon, keys: list[str]) -> list[Told]:
    """Every endpoint, streamed and not, in random order, many at once."""
    randomly = random.Random(7)
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0) as gpt,
        anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as claude,
        ThreadPoolExecutor(TOGETHER) as pool,
    ):
        kinds: list[Any] = [
            lambda key, words: chat(gpt.with_options(api_key=key), "fast", messages=words, max_tokens=30),
            lambda key, words: chat(gpt.with_options(api_key=key), "fast", messages=words, stream=True),
            lambda key, words: chat(gpt.with_options(api_key=key), "fast", messages=words, stream=True, **ASK_USAGE),
            lambda key, words: completion(gpt.with_options(api_key=key), "tiny-random", prompt=str(words)),
            lambda key, words: completion(gpt.with_options(api_key=key), "tiny-random", prompt=str(words), stream=True),
            lambda key, words: response(gpt.with_options(api_key=key), "local/tiny-random", input=str(words)),
            lambda key, words: response(gpt.with_options(api_key=key), "fast", input=str(words), stream=True),
            lambda key, words: message(claude.with_options(api_key=key), "fast", messages=words),
            lambda key, words: message(claude.with_options(api_key=key), "fast", messages=words, stream=True),
            lambda key, words: embedding(gpt.with_options(api_key=key), "vectors", input=[str(words), "b"]),
        ]
        work = []
        for number in range(CALLS):
            text = "naïve 素朴 " * randomly.randint(1, 20) + str(number)
            words = [{"role": "user", "content": text}]
            work.append(partial(kinds[number % len(kinds)], keys[number % len(keys)], words))
        randomly.shuffle(work)
        return list(pool.map(lambda call: call(), work))


def since(server: LlamaServer, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in server.metrics().items()}


def total(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def assert_same_sums(usage: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    """`llmctl usage` adds up to the single calls."""
    assert total(usage, "calls") == len(calls)
    assert total(usage, "errors") == total(usage, "estimated_calls") == 0
    for name in SUMMED:
        assert total(usage, name) == total(calls, name), name
    assert sum(Decimal(row["cost_usd"]) for row in usage) == sum(Decimal(row["cost_usd"]) for row in calls)
