"""/metrics: complete, bounded, and one scrape is the sum of all workers, whatever became of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmctl.domain.usage import Usage
from llmctl.proxy.attempts import Failure
from llmctl.proxy.cells import CELLS, Block, shared_memory, sums
from llmctl.proxy.metrics import SERIES_MAX, Metrics, by_provider
from llmctl.store.booking import Closing
from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, INPUT_TOKENS, OUTPUT_TOKENS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post

from .processes import kill_all, workers_of

NAMES = """
llmctl_requests_total llmctl_refusals_total llmctl_input_tokens_total llmctl_output_tokens_total
llmctl_cache_read_tokens_total llmctl_cache_write_tokens_total llmctl_reasoning_tokens_total llmctl_cost_usd_total
llmctl_request_duration_seconds_count llmctl_overhead_duration_seconds_count llmctl_first_byte_duration_seconds_count
llmctl_ledger_commit_duration_seconds_count llmctl_open_holds llmctl_held_usd llmctl_limit_used_ratio
llmctl_settled_above_hold_calls_total llmctl_estimated_calls_total llmctl_unpriced_calls_total
llmctl_database_size_bytes llmctl_last_backup_timestamp_seconds llmctl_build_info
""".split()

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scrape(daemon: Daemon) -> Samples:
    """Sample name -> labels -> value."""
    status, text = daemon.get("/metrics", admin=True)
    assert status == 200
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(samples: Samples, name: str) -> float:
    return sum(samples[name].values())


def wait_until_counted(daemon: Daemon, calls: int) -> None:
    assert wait_until(lambda: total(scrape(daemon), "llmctl_requests_total") == calls, 5)


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty({name: FAULTS[name] for name in ("fine", "stall_in_stream")}) as faulty:
        yield faulty


@pytest.fixture
def daemon(tmp_path: Path, faulty: Faulty) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, faulty.providers(tmp_path), args=["--workers", "2"])
    daemon.here("price", "set", "*", "--input", "1", "--output", "10")
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        kill_all(daemon)


def test_one_scrape_is_the_sum_of_all_workers_and_of_those_that_died(daemon: Daemon) -> None:
    key = daemon.add_user("alice")
    sent, seen, done = 0, [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            status, text = daemon.get("/metrics", admin=True)
            if status == 200:  # the worker that answers is among those that die
                name = "llmctl_requests_total{"
                seen.append(sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)))
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(3):
        for _ in range(20):
            sent += post(daemon.url, CHAT, ask("fine/m"), key).status == 200
        wait_until_counted(daemon, sent)  # each counts once its answer has left
        for victim in workers_of(daemon):
            os.kill(victim, signal.SIGKILL)
        assert wait_until(lambda: len(workers_of(daemon)) == 2 and daemon.get("/readyz", admin=True)[0] == 200, 15)
    done.set()
    watching.join()
    assert seen == sorted(seen)  # never backwards
    samples = scrape(daemon)
    assert total(samples, "llmctl_requests_total") == sent == 60
    assert total(samples, "llmctl_input_tokens_total") == sent * INPUT_TOKENS
    assert total(samples, "llmctl_output_tokens_total") == sent * OUTPUT_TOKENS
    cost = sent * (INPUT_TOKENS * 1 + OUTPUT_TOKENS * 10) / 1e6
    assert total(samples, "llmctl_cost_usd_total") == pytest.approx(cost)
    assert samples["llmctl_request_duration_seconds_count"][()] == sent
    assert samples["llmctl_overhead_duration_seconds_count"][()] == sent
    assert daemon.stop() == 0


def test_every_metric_is_there_and_none_names_a_user(daemon: Daemon, tmp_path: Path) -> None:
    key = daemon.add_user("alice", "sales")
    daemon.here("limit", "set", "--org", "--cost", "0.01", "--per", "total")
    daemon.here("limit", "set", "--group", "sales", "--each", "user", "--cost", "5", "--per", "day")
    assert post(daemon.url, CHAT, ask("fine/m", max_tokens=20), key).status == 200
    assert post(daemon.url, CHAT, ask("nowhere/m"), key).status == 404
    assert post(daemon.url, CHAT, ask("fine/m"), "sk-llmctl-wrong").status == 401
    daemon.here("backup", str(tmp_path / "copy.db"))
    assert wait_until(lambda: scrape(daemon)["llmctl_limit_used_ratio"][(("limit", "l1"),)] == pytest.approx(0.0081), 5)
    samples = scrape(daemon)
    assert [name for name in NAMES if name not in samples] == []
    labels = {name for values in samples.values() for pairs in values for name, _ in pairs}
    assert labels == {"provider", "dialect", "code", "model", "reason", "limit", "version", "le"}
    assert set(samples["llmctl_limit_used_ratio"]) == {(("limit", "l1"),)}  # none of a limit on each user
    reasons = {dict(pairs)["reason"] for pairs in samples["llmctl_refusals_total"]}
    assert reasons == {"model_not_found", "invalid_api_key"}
    assert abs(samples["llmctl_last_backup_timestamp_seconds"][()] - time.time()) < 60
    assert samples["llmctl_open_holds"][()] == 0
    assert daemon.stop() == 0


def test_an_attempt_that_another_one_follows_is_told_as_such(tmp_path: Path) -> None:
    with Faulty({name: FAULTS[name] for name in ("fine", "overloaded")}) as faulty:
        extra = '[fallbacks]\n"overloaded/m" = ["fine/m"]\n'
        with Daemon(tmp_path, faulty.providers(tmp_path), extra=extra) as daemon:
            assert post(daemon.url, CHAT, ask("overloaded/m"), daemon.add_user("alice")).status == 200
            wait_until_counted(daemon, 2)
            calls = {
                (dict(pairs)["provider"], dict(pairs)["code"]) for pairs in scrape(daemon)["llmctl_requests_total"]
            }
            assert calls == {("overloaded", "retried"), ("fine", "200")}


def test_open_calls_of_all_workers_are_told(daemon: Daemon, faulty: Faulty) -> None:
    faulty.clear()
    key = daemon.add_user("alice")

    def call() -> None:
        post(daemon.url, CHAT, ask("stall_in_stream/m", stream=True), key)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(faulty.seen("stall_in_stream")) == 8)
    samples = scrape(daemon)
    assert samples["llmctl_open_holds"][()] == 8
    assert samples["llmctl_held_usd"][()] > 0
    kill_all(daemon)
    for thread in threads:
        thread.join()


# ---- in one process ----

CLOSED = Closing(1, "settled", status=200, usage=Usage(input_tokens=3), usage_source="reported")


def test_series_are_bounded_in_all_workers_whatever_clients_ask_for() -> None:
    memory = shared_memory(2)
    for place in (0, 1, 0):  # the first is started anew
        metrics = Metrics(Block(memory[place]), memory)
        for number in range(SERIES_MAX + 500):
            made_up = Closing(1, "settled", status=404)
            metrics.booked("p", "openai", f"made-up-{number}", made_up, known=False)
            metrics.booked("p", "openai", f"served-{place}-{number}\n\x1f", CLOSED, known=False)
            metrics.refused("limit_spent")
        metrics.booked("p", "openai", "served-0-7\n\x1f", CLOSED, known=False)
    calls, counted = 3 * (SERIES_MAX + 500), sums(memory)
    models = {series[1:] for series in counted if series[0] == "models"}
    assert SERIES_MAX <= len(models) <= SERIES_MAX + 2  # with those of "other"
    assert not any(name.startswith("made-up") for _, name in models)
    assert sum(cells[0] for series, cells in counted.items() if series[0] == "models") == 3 * (calls + 3)
    assert counted["models", "p", "served-0-7\n\x1f"][0] == 3 * 5  # in both workers, and in the new one
    assert counted["requests", "p", "openai", "404"] == [calls]


def test_a_block_that_is_full_counts_what_more_comes_together() -> None:
    memory = shared_memory(1)
    block = Block(memory[0])
    metrics = Metrics(block, memory)
    assert block.place(("filler",), CELLS - 400) is not None
    for number in range(300):
        metrics.booked(f"p{number}", "openai", "m", CLOSED, known=True)
    counted = sums(memory)
    assert sum(cells[0] for series, cells in counted.items() if series[0] == "models") == 3 * 300
    assert sum(cells[0] for series, cells in counted.items() if series[0] == "requests") == 300


def test_who_is_started_in_the_place_of_another_counts_on() -> None:
    memory = shared_memory(2)
    for done, number in enumerate((0, 1, 0), 1):
        metrics = Metrics(Block(memory[number]), memory)
        for _ in range(10):
            metrics.booked("p", "openai", "m", CLOSED, known=True)
        assert by_provider(memory) == {"p": (10 * done, 0)}
    assert sums(memory)["requests", "p", "openai", "200"] == [30]
    assert sums(memory)["models", "p", "m"][0] == 90


@pytest.mark.parametrize(
    ("status", "error", "failure", "failed"),
    [
        (None, "provider_503", Failure("busy"), 1),  # a fallback helped
        (None, "provider_unreachable", Failure("unreachable"), 1),
        (424, "provider_failed", None, 1),  # as Bedrock's clients are told
        (408, "provider_timeout", None, 1),
        (424, "provider_403", Failure("forbidden"), 1),
        (200, "provider_failed", None, 1),  # it broke off
        (403, "provider_403", None, 0),  # a prompt was flagged
        (429, "provider_429", Failure("busy"), 0),
        (None, "client_gone", None, 0),
    ],
)
def test_what_a_provider_failed_does_not_depend_on_what_the_client_saw(
    status: int | None, error: str, failure: Failure | None, failed: int
) -> None:
    memory = shared_memory(1)
    metrics = Metrics(Block(memory[0]), memory)
    closing = Closing(1, "settled", status, error)
    metrics.booked("p", "bedrock", "m", closing, known=True, failure=failure)
    assert by_provider(memory) == {"p": (1, failed)}
