"""/metrics: what all workers counted, and what the database says now, as Prometheus reads it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import llmctl
from llmctl.config import Config
from llmctl.domain.errors import LlmctlError
from llmctl.domain.money import NANO_PER_USD
from llmctl.store import copies, limits, live, standings
from llmctl.store.database import Store, file_bytes

from .cells import Series, sums
from .metrics import BUCKETS_S, DURATIONS, LEDGER, MICROS, MODELS, REFUSALS, REQUESTS, TOKENS

logger = logging.getLogger(__name__)

LIMITS_MAX = 500  # those on the organisation first, then on groups, users, keys

_DURATIONS = {
    "request": "From a call's first byte to its booking",
    "overhead": "From a call's first byte until it could be sent: what the gateway itself takes",
    "first_byte": "From a call's first byte to the answer's",
    "ledger_commit": "Writing one batch of calls to disk",
}
_LEDGER = {
    "settled_above_hold": "Calls that cost more than was held",
    "estimated": "Calls booked with an estimate",
    "unpriced": "Calls of models without a price",
    "recovered": "Calls booked for a process that had died",
}


@dataclass(frozen=True, slots=True)
class Now:
    """What the database says, of all that use it."""

    open_calls: int
    held_nano_usd: int
    used: Sequence[tuple[str, float]]  # limit -> the part of it that is spent or held
    last_backup_s: float | None


class Exposition(Collector):
    """One scrape of a daemon: `text` may take some milliseconds, and belongs on a thread of its own."""

    def __init__(self, config: Config, blocks: Sequence[memoryview]) -> None:
        self._config = config
        self._blocks = blocks
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        counted = sums(self._blocks)
        yield from _calls(counted)
        yield from _models(counted)
        for name, text in _DURATIONS.items():
            if (cells := counted.get((DURATIONS, name))) is not None:
                yield _histogram(f"llmctl_{name}_duration_seconds", text, cells)
        for name, text in _LEDGER.items():
            yield CounterMetricFamily(f"llmctl_{name}_calls", text, value=counted.get((LEDGER, name), [0])[0])
        yield from self._database()
        build = GaugeMetricFamily("llmctl_build_info", "This program", labels=("version",))
        build.add_metric((llmctl.__version__,), 1)
        yield build

    def _database(self) -> Iterator[Metric]:
        try:
            now = self._now()
        except LlmctlError as error:  # what was counted is told all the same
            logger.warning("metrics of the database: %s", error)
        else:
            yield GaugeMetricFamily("llmctl_open_holds", "Calls under way", value=now.open_calls)
            held_usd = now.held_nano_usd / NANO_PER_USD
            yield GaugeMetricFamily("llmctl_held_usd", "Money held by calls under way", value=held_usd)
            text = "The part of a limit that is spent or held; of none that is for each member"
            used = GaugeMetricFamily("llmctl_limit_used_ratio", text, labels=("limit",))
            for limit, ratio in now.used:
                used.add_metric((limit,), ratio)
            yield used
            if now.last_backup_s is not None:
                text = "When the database was backed up last"
                yield GaugeMetricFamily("llmctl_last_backup_timestamp_seconds", text, value=now.last_backup_s)
        size = file_bytes(self._config.database)
        yield GaugeMetricFamily("llmctl_database_size_bytes", "The database with its log", value=size)

    def _now(self) -> Now:
        """Raises StoreError."""
        store, now_s = Store(self._config.database, readonly=True), int(time.time())
        try:
            with store.read() as tx:
                open_calls, held = live.open_calls(tx)
                shared = [limit for limit in limits.listing(tx, default_zone=self._config.timezone) if not limit.each]
                used = [
                    (f"l{limit.id}", (standing.settled + standing.held) / (standing.amount or 1))
                    for limit in shared[:LIMITS_MAX]
                    for standing in (standings.of_member(tx, limit, standings.NO_MEMBER, now_s),)
                ]
        finally:
            store.close()
        return Now(open_calls, held, used, copies.last_backup_s(self._config.database))


def _calls(counted: dict[Series, list[int]]) -> Iterator[Metric]:
    text = (
        "Calls that reached the ledger, by the status that the client got; gone: it had left; retried: another followed"
    )
    yield _labelled("llmctl_requests", text, ("provider", "dialect", "code"), _of(counted, REQUESTS))
    yield _labelled("llmctl_refusals", "Calls that were not let through", ("reason",), _of(counted, REFUSALS))


def _models(counted: dict[Series, list[int]]) -> Iterator[Metric]:
    for place, name in enumerate(TOKENS):
        yield _labelled(
            f"llmctl_{name}_tokens", f"Tokens booked: {name}", ("provider", "model"), _of(counted, MODELS, place)
        )
    money = ((labels, nano / NANO_PER_USD) for labels, nano in _of(counted, MODELS, len(TOKENS)))
    yield _labelled("llmctl_cost_usd", "Money booked", ("provider", "model"), money)


def _of(counted: dict[Series, list[int]], family: str, place: int = 0) -> Iterator[tuple[Series, int]]:
    """The series of a family by their labels; what everybody has from the start is only told once it is counted."""
    for (found, *labels), cells in counted.items():
        if found == family and any(cells):
            yield tuple(labels), cells[place]


def _labelled(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[Series, float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _histogram(name: str, text: str, cells: Sequence[int]) -> HistogramMetricFamily:
    total, buckets = 0, []
    *counts, micros = cells
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=micros / MICROS)
