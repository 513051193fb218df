"""Each call as an OpenTelemetry span, its tokens and time as metrics, sent by OTLP over HTTP. An extra: `llmctl[otel]`.

Sent from a thread of the SDK's own, from bounded queues: a collector that is slow or away costs spans, never calls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import llmctl
from llmctl.config import TelemetrySettings
from llmctl.domain.errors import ConfigError
from llmctl.domain.money import NANO_PER_USD
from llmctl.store import ids
from llmctl.store.booking import Closing
from llmctl.store.deferred import DeferredCall

from .call import Call

if TYPE_CHECKING:
    from opentelemetry.context import Context

Value = str | int | float | bool
Attributes = Mapping[str, Value]

logger = logging.getLogger(__name__)

SESSION = "x-llmctl-session"  # a client's name for what belongs together: a conversation, a run of an agent
NAME_CHARS_MAX = 200
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/: those that come unasked end at 10,000.
TOKEN_BOUNDARIES = tuple(4**power for power in range(14))
DURATION_BOUNDARIES_S = tuple(2**power / 100 for power in range(14))
TIMEOUT_S = 2  # of one sending, tries included: a stop waits for the last of each kind
MILLISECOND_NS = 1_000_000

# https://opentelemetry.io/docs/specs/semconv/gen-ai/: what an endpoint does.
_OPERATIONS = {
    "completions": "text_completion",
    "ollama.generate": "text_completion",
    "embeddings": "embeddings",
    "cohere.embed": "embeddings",
    "ollama.embed": "embeddings",
    "ollama.embeddings": "embeddings",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
}
# https://arize-ai.github.io/openinference/spec/: how Arize Phoenix and its kind name the same.
_KINDS = {"embeddings": "EMBEDDING"}


class Telemetry:
    """`ended` after each call, `learned` after one that went on at its provider; `close` sends what waits."""

    def __init__(self, settings: TelemetrySettings) -> None:
        """Raises ConfigError: the extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ConfigError("[telemetry] needs packages more", hint="pip install 'llmctl[otel]'") from None
        resource = Resource.create({"service.name": settings.service_name, "service.version": llmctl.__version__})
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint}/v1/traces", timeout=TIMEOUT_S)
        self._traces.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
        self._tracer = self._traces.get_tracer("llmctl", llmctl.__version__)
        self._parent = TraceContextTextMapPropagator()
        readers = []
        if settings.metrics:
            readers.append(
                PeriodicExportingMetricReader(
                    OTLPMetricExporter(endpoint=f"{settings.endpoint}/v1/metrics", timeout=TIMEOUT_S),
                    export_interval_millis=settings.metrics_every_s * 1_000,
                )
            )
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        meter = self._meters.get_meter("llmctl", llmctl.__version__)
        self._duration_s = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES_S
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=TOKEN_BOUNDARIES
        )

    def ended(self, call: Call, closing: Closing) -> None:
        """One call that is booked. Never raises."""
        try:
            operation, plan = operation_of(call.endpoint.name), call.plan
            said = {**booked(plan.provider.name, plan.model, closing, operation), **asked(call)}
            self._record(operation, said, plan.model, call.started_at_ms, closing, self._context(call))
        except Exception:
            logger.exception("call %s could not be told to OpenTelemetry", ids.shown(call.id))

    def learned(self, call: DeferredCall, closing: Closing) -> None:
        """One that went on at its provider, and is booked: by what its row says. Never raises."""
        try:
            operation = operation_of("responses")
            said = {**booked(call.provider, call.model, closing, operation), "user.id": call.user_name}
            self._record(operation, said, call.model, call.started_at_ms, closing)
        except Exception:
            logger.exception("call %s could not be told to OpenTelemetry", ids.shown(call.call_id))

    def close(self) -> None:
        """Sends what waits, for some seconds at most."""
        self._traces.shutdown()
        self._meters.shutdown()

    def _record(
        self,
        operation: str,
        said: Attributes,
        model: str,
        started_at_ms: int,
        closing: Closing,
        context: Context | None = None,
    ) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        span = self._tracer.start_span(
            f"{operation} {model}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes=said,
            start_time=started_at_ms * MILLISECOND_NS,
        )
        if closing.error:
            span.set_status(Status(StatusCode.ERROR, closing.error))
        span.end(time.time_ns())
        labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": said["gen_ai.provider.name"],
            "gen_ai.request.model": model,
        }
        if closing.latency_ms is not None:
            self._duration_s.record(closing.latency_ms / 1_000, labels)
        if closing.usage_source is not None:
            self._tokens.record(closing.usage.input_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.record(closing.usage.output_tokens, {**labels, "gen_ai.token.type": "output"})

    def _context(self, call: Call) -> Context | None:
        """The client's own trace, where it says one."""
        carrier = {name: call.http.headers[name] for name in ("traceparent", "tracestate") if name in call.http.headers}
        return self._parent.extract(carrier) if carrier else None


def operation_of(endpoint: str) -> str:
    return _OPERATIONS.get(endpoint, "chat")


def asked(call: Call) -> Attributes:
    """What a span says of a request: OpenTelemetry's names, OpenInference's, and ours. No prompt, no secret."""
    ask, caller = call.asked.ask, call.caller
    said: dict[str, Value] = {
        "gen_ai.request.model": ask.model,
        "gen_ai.request.stream": ask.stream,
        "user.id": caller.user_name,
        "llmctl.group": caller.group_name,
        "llmctl.key.id": caller.key_public_id,
    }
    if ask.output_tokens_max is not None:
        said["gen_ai.request.max_tokens"] = ask.output_tokens_max
    if session := call.http.headers.get(SESSION, "")[:NAME_CHARS_MAX]:
        said["session.id"] = session
    return said


def booked(provider: str, model: str, closing: Closing, operation: str) -> Attributes:
    """What it says of how the call ended. No answer."""
    response_model = closing.response_model or model
    said: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.response.model": response_model,
        "openinference.span.kind": _KINDS.get(operation, "LLM"),
        "llm.model_name": response_model,
        "llm.provider": provider,
        "llmctl.call.id": ids.shown(closing.call_id),
        "llmctl.usage.source": closing.usage_source or "none",
    }
    if closing.ttft_ms is not None:
        said["gen_ai.response.time_to_first_chunk"] = closing.ttft_ms / 1_000
    if closing.error:
        said["error.type"] = closing.error
    if closing.status is not None:
        said["http.response.status_code"] = closing.status
    if closing.usage_source is not None:
        said.update(_usage(closing.usage._asdict()))
    if closing.cost_nano_usd is not None:
        said["llmctl.cost_usd"] = said["llm.cost.total"] = closing.cost_nano_usd / NANO_PER_USD
    return said


def _usage(usage: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    given, made = usage["input_tokens"], usage["output_tokens"]
    yield "gen_ai.usage.input_tokens", given
    yield "gen_ai.usage.output_tokens", made
    yield "gen_ai.usage.cache_read.input_tokens", usage["cache_read_tokens"]
    # The name in https://github.com/open-telemetry/semantic-conventions-genai, and the one from before it moved there.
    yield "gen_ai.usage.cache_write.input_tokens", usage["cache_write_tokens"]
    yield "gen_ai.usage.cache_creation.input_tokens", usage["cache_write_tokens"]
    yield "gen_ai.usage.reasoning.output_tokens", usage["reasoning_tokens"]
    yield "llm.token_count.prompt", given
    yield "llm.token_count.completion", made
    yield "llm.token_count.total", given + made
    yield "llm.token_count.prompt_details.cache_read", usage["cache_read_tokens"]
    yield "llm.token_count.prompt_details.cache_write", usage["cache_write_tokens"]
    yield "llm.token_count.completion_details.reasoning", usage["reasoning_tokens"]
