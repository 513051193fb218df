"""Prometheus metrics of one process. Counted in plain numbers on the way of a call, named only when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import llmctl
from llmctl.domain.money import NANO_PER_USD
from llmctl.store.booking import Closing
from llmctl.store.database import file_bytes
from llmctl.store.ledger import Ledger

SERIES_MAX = 1_000  # provider x model: clients name models, and must not fill the memory of a time-series database
OTHER = "other"

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Histogram:
    """Counts by bucket; `_BUCKETS_S` are upper bounds in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(_BUCKETS_S, value_s)] += 1
        self.sum_s += value_s

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        total = 0
        buckets = []
        for bound, count in zip((*map(str, _BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum_s)


class Metrics(Collector):
    """Belongs to the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._requests: dict[tuple[str, str, str], int] = {}
        self._refusals: dict[str, int] = {}
        self._models: dict[tuple[str, str], list[int]] = {}  # tokens in the order of _TOKENS, then nano-USD
        self.request_s = Histogram()
        self.first_byte_s = Histogram()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def refused(self, code: str) -> None:
        self._refusals[code] = self._refusals.get(code, 0) + 1

    def booked(self, provider: str, dialect: str, model: str, closing: Closing) -> None:
        request = (provider, dialect, str(closing.status or "gone"))
        self._requests[request] = self._requests.get(request, 0) + 1
        sums = self._models.get((provider, model))
        if sums is None:
            if len(self._models) >= SERIES_MAX:
                model = OTHER
            sums = self._models.setdefault((provider, model), [0] * (len(_TOKENS) + 1))
        usage = closing.usage
        sums[0] += usage.input_tokens
        sums[1] += usage.output_tokens
        sums[2] += usage.cache_read_tokens
        sums[3] += usage.cache_write_tokens
        sums[4] += usage.reasoning_tokens
        sums[5] += closing.cost_nano_usd or 0
        if closing.latency_ms is not None:
            self.request_s.observe(closing.latency_ms / 1000)
        if closing.ttft_ms is not None:
            self.first_byte_s.observe(closing.ttft_ms / 1000)

    def by_provider(self) -> dict[str, tuple[int, int]]:
        """Calls since the start, and those of them that the provider failed."""
        found: dict[str, tuple[int, int]] = {}
        for (provider, _, code), count in self._requests.items():
            calls, failed = found.get(provider, (0, 0))
            found[provider] = calls + count, failed + count * (code >= "500" and code != "gone")
        return found

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield _labelled(
            "llmctl_requests", "Calls that reached the ledger, by the status that the client got",
            ("provider", "dialect", "code"), self._requests.items(),
        )  # fmt: skip
        refusals = ((((reason,), count)) for reason, count in self._refusals.items())
        yield _labelled("llmctl_refusals", "Calls that were not let through", ("reason",), refusals)
        for place, name in enumerate(_TOKENS):
            counts = ((labels, sums[place]) for labels, sums in self._models.items())
            yield _labelled(f"llmctl_{name}_tokens", f"Tokens booked: {name}", ("provider", "model"), counts)
        money = ((labels, sums[-1] / NANO_PER_USD) for labels, sums in self._models.items())
        yield _labelled("llmctl_cost_usd", "Money booked", ("provider", "model"), money)
        yield self.request_s.family("llmctl_request_duration_seconds", "From a call's first byte to its booking")
        yield self.first_byte_s.family("llmctl_first_byte_duration_seconds", "From a call's first byte to the answer's")
        yield from self._ledger_metrics()
        build = GaugeMetricFamily("llmctl_build_info", "This program", labels=("version",))
        build.add_metric((llmctl.__version__,), 1)
        yield build

    def _ledger_metrics(self) -> Iterator[Metric]:
        stats = self._ledger.stats
        yield CounterMetricFamily("llmctl_ledger_commits", "Batches written", value=stats.commits)
        yield CounterMetricFamily("llmctl_ledger_commit_seconds", "Time spent in writing batches", value=stats.commit_s)
        yield GaugeMetricFamily("llmctl_open_holds", "Calls under way", value=self._ledger.open_calls)
        held_usd = self._ledger.held_nano_usd / NANO_PER_USD
        yield GaugeMetricFamily("llmctl_held_usd", "Money held by calls under way", value=held_usd)
        for name, text, count in (
            ("settled_above_hold", "Calls that cost more than was held", stats.settled_above_hold),
            ("estimated", "Calls booked with an estimate", stats.estimated),
            ("unpriced", "Calls of models without a price", stats.unpriced),
            ("recovered", "Calls booked for a process that had died", stats.recovered),
        ):
            yield CounterMetricFamily(f"llmctl_{name}_calls", text, value=count)
        size = file_bytes(self._ledger.path)
        yield GaugeMetricFamily("llmctl_database_size_bytes", "The database with its log", value=size)


def _labelled(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
