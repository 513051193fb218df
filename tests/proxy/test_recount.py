"""A prompt whose bytes do not fit a limit passes by its tokens, where the model's vocabulary is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import Faulty
from tests.support.wire import CHAT

PROMPT = "A quick brown fox jumps over the lazy dog. " * 1_000  # 43,000 bytes, 10,000 tokens


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("recount")
    with Faulty() as faulty:
        providers = faulty.providers(directory)
        assert "[providers.fine]" in providers
        known = providers.replace("[providers.fine]", '[providers.fine]\ncatalogue = "openai"')
        with Daemon(directory, known) as daemon:
            daemon.here("price", "set", "*", "--input", "1", "--output", "10")
            yield daemon


def send(gateway: Daemon, model: str, prompt: str, *limit: str) -> tuple[int, dict[str, object]]:
    name = f"u{len(gateway.json('user', 'list'))}"
    key = gateway.add_user(name)
    gateway.here("limit", "set", "--user", name, *limit, "--per", "day")
    body = {"model": model, "max_tokens": 300, "messages": [{"role": "user", "content": prompt}]}
    answer = gateway.send(CHAT, body, key=key)
    return answer.status, gateway.call(answer.call_id)


@pytest.mark.parametrize("limit", [("--tokens", "20000"), ("--cost", "0.02")], ids=["tokens", "cost"])
def test_tokens_are_counted_where_bytes_do_not_fit(gateway: Daemon, limit: tuple[str, str]) -> None:
    status, row = send(gateway, "fine/gpt-5", PROMPT, *limit)
    assert (status, row["state"]) == (200, "settled")
    assert 0.0115 < float(str(row["held_usd"])) < 0.02


def test_without_a_known_vocabulary_bytes_decide(gateway: Daemon) -> None:
    assert send(gateway, "slow/gpt-5", PROMPT, "--tokens", "20000")[0] == 400


def test_what_is_too_large_in_tokens_too_is_refused(gateway: Daemon) -> None:
    status, row = send(gateway, "fine/gpt-5", PROMPT * 2, "--tokens", "20000")
    assert (status, row["error"]) == (400, "request_exceeds_limit")
