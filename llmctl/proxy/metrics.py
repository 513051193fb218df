"""What one worker counts, on the way of its calls: plain numbers in shared memory, named only when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from llmctl.store.booking import Closing
from llmctl.store.writer import LedgerStats

from .attempts import Failure
from .cells import Block, Names, Series, sums

# provider x model, in all workers together: clients name models, and must not fill a time-series database's memory
SERIES_MAX = 1_000
OTHER = "other"
GONE, RETRIED = "gone", "retried"  # instead of a status: the client had left, or saw the next attempt's
CROWDED = "too_many_connections"  # a reason of refusal that has no call

TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MICROS = 1_000_000
# How the closing names what is the provider's fault, beside its own 5xx.
_FAILURES = frozenset({"provider_credential", "provider_failed", "provider_timeout", "provider_unreachable"})

# Families in the shared memory. A histogram has a cell a bucket, one for what is longer, and one for the sum in us.
REQUESTS, REFUSALS, MODELS, LEDGER, DURATIONS = "requests", "refusals", "models", "ledger", "durations"
PROVIDERS = "providers"  # calls, and those of them that the provider failed
HISTOGRAM_CELLS = len(BUCKETS_S) + 2
LEDGER_COUNTS = ("holds", "settled_above_hold", "estimated", "unpriced", "recovered")


class Histogram:
    """Counts by bucket; BUCKETS_S are upper bounds in seconds."""

    __slots__ = ("_cells", "_place")

    def __init__(self, block: Block, name: str) -> None:
        self._cells = block.cells
        self._place = _must(block, (DURATIONS, name), HISTOGRAM_CELLS)

    def observe(self, value_s: float) -> None:
        cells, place = self._cells, self._place
        cells[place + bisect_left(BUCKETS_S, value_s)] += 1
        cells[place + HISTOGRAM_CELLS - 1] += int(value_s * MICROS)


class SharedStats(LedgerStats):
    """The ledger's counters, in shared memory too. Written by the ledger's thread alone."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self._cells = block.cells
        self._places = {name: _must(block, (LEDGER, name), 1) for name in LEDGER_COUNTS}
        self._commits = Histogram(block, "ledger_commit")

    def count(self, name: str, number: int = 1) -> None:
        super().count(name, number)
        self._cells[self._places[name]] += number

    def committed(self, seconds: float) -> None:
        self._commits.observe(seconds)


class Metrics:
    """Belongs to the event loop."""

    def __init__(self, block: Block, blocks: Sequence[memoryview]) -> None:
        """`block`: the one of `blocks` that is this worker's."""
        self._block = block
        self._cells = block.cells
        self._requests: dict[tuple[str, str, int | str], int] = {}
        self._models: dict[tuple[str, str], int] = {}
        self._named = Names(blocks, MODELS)
        self._request_s = Histogram(block, "request")
        self._overhead_s = Histogram(block, "overhead")
        self._first_byte_s = Histogram(block, "first_byte")
        self._other_requests = _must(block, (REQUESTS, OTHER, OTHER, OTHER), 1)
        self._other_models = _must(block, (MODELS, OTHER, OTHER), len(TOKENS) + 1)

    def refused(self, code: str) -> None:
        place = self._block.place((REFUSALS, code))
        if place is not None:
            self._cells[place] += 1

    def admitted(self, seconds: float) -> None:
        """How long the gateway itself took, from a call's first byte until it could be sent."""
        self._overhead_s.observe(seconds)

    def booked(
        self,
        provider: str,
        dialect: str,
        model: str,
        closing: Closing,
        *,
        known: bool,
        failure: Failure | None = None,
        retried: bool = False,
        first_byte_s: float | None = None,
    ) -> None:
        """`known`: the model has a price. Names that clients make up do not become series. `retried`: another attempt
        follows, and no client saw this one. `first_byte_s`: how long the answer's first byte took."""
        cells = self._cells
        request = (provider, dialect, RETRIED if retried else closing.status or GONE)
        place = self._requests.get(request)
        if place is None:
            place = self._new_request(request)
        cells[place] += 1
        model_place = self._models.get((provider, model))
        if model_place is None:
            model_place = self._new_model(provider, model, known=known or closing.usage_source == "reported")
        usage = closing.usage
        cells[model_place] += usage.input_tokens
        cells[model_place + 1] += usage.output_tokens
        cells[model_place + 2] += usage.cache_read_tokens
        cells[model_place + 3] += usage.cache_write_tokens
        cells[model_place + 4] += usage.reasoning_tokens
        cells[model_place + 5] += closing.cost_nano_usd or 0
        if closing.latency_ms is not None:
            self._request_s.observe(closing.latency_ms / 1000)
        if first_byte_s is not None:
            self._first_byte_s.observe(first_byte_s)
        attempts = self._block.place((PROVIDERS, provider), 2)
        if attempts is not None:
            cells[attempts] += 1
            cells[attempts + 1] += _has_failed(closing.error, failure)

    def _new_request(self, request: tuple[str, str, int | str]) -> int:
        provider, dialect, code = request
        place = None
        if len(self._requests) < SERIES_MAX:
            place = self._block.place((REQUESTS, provider, dialect, str(code)))
        if place is None:
            return self._other_requests
        self._requests[request] = place
        return place

    def _new_model(self, provider: str, model: str, *, known: bool) -> int:
        place = None
        if known and self._may_be_series((provider, model)):
            place = self._models_place(provider, model)
            if place is not None:
                self._models[provider, model] = place
        if place is None:
            place = self._models_place(provider, OTHER)
        return self._other_models if place is None else place

    def _may_be_series(self, labels: Series) -> bool:
        """It is one already, be it another worker's, or there is room for one more."""
        named = self._named.now()
        return labels in named or len(named) < SERIES_MAX

    def _models_place(self, provider: str, model: str) -> int | None:
        return self._block.place((MODELS, provider, model), len(TOKENS) + 1)


def by_provider(blocks: Sequence[memoryview]) -> dict[str, tuple[int, int]]:
    """Calls since the start in all workers, and those of them that the provider failed."""
    counted = sums(blocks)
    return {labels[0]: (cells[0], cells[1]) for (family, *labels), cells in counted.items() if family == PROVIDERS}


def _has_failed(error: str, failure: Failure | None) -> bool:
    """Whether it is the provider's fault, or that of our credential. What the client got does not tell: another attempt
    may have helped, and not every dialect says it by a 5xx."""
    if error in _FAILURES or error.startswith("provider_5"):
        return True
    return failure is not None and failure.why in ("credential", "forbidden")


def _must(block: Block, series: Series, width: int) -> int:
    place = block.place(series, width)
    assert place is not None, "a new block has room for what is always there"
    return place
