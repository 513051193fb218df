"""Spans and metrics of a running gateway, as a collector that speaks OTLP gets them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, INPUT_TOKENS, OUTPUT_TOKENS, Faulty, wait_until
from tests.support.keeper import Keeper
from tests.support.wire import CHAT, MESSAGES, PROMPT, ask, post

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(values(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics += [metric for scope in resource.scope_metrics for metric in scope.metrics]

    def span(self, call_id: str) -> Any:
        def found() -> Any:
            return next((one for one in self.spans if values(one.attributes)["llmctl.call.id"] == call_id), None)

        assert wait_until(found, 10), call_id
        return found()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("telemetry")
    extra = f'[telemetry]\nendpoint = "{collector.endpoint}"\nmetrics_every_s = 1\n'
    faults = {name: FAULTS[name] for name in ("fine", "reset_after_request")}
    with Faulty(faults) as faulty, Daemon(directory, faulty.providers(directory), extra=extra) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    return gateway.add_user("alice", "sales")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_call_is_a_span_with_its_tokens_money_and_whose_it_was(
    gateway: Daemon, collector: Collector, key: str, path: str, stream: bool
) -> None:
    body = ask("fine/m", path=path, stream=stream)
    reply = post(gateway.url, path, body, key, f"traceparent: 00-{TRACE}-{PARENT}-01", "x-llmctl-session: run-7")
    span = collector.span(reply.headers["x-llmctl-call-id"])
    said = values(span.attributes)
    assert span.name == "chat m"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "fine",
        "gen_ai.request.model": "fine/m",
        "gen_ai.request.stream": stream,
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": INPUT_TOKENS,
        "gen_ai.usage.output_tokens": OUTPUT_TOKENS,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "openinference.span.kind": "LLM",
        "llm.token_count.total": INPUT_TOKENS + OUTPUT_TOKENS,
        "user.id": "alice",
        "session.id": "run-7",
        "llmctl.group": "sales",
        "llmctl.cost_usd": (INPUT_TOKENS + 10 * OUTPUT_TOKENS) / 1_000_000,
        "http.response.status_code": 200,
    }
    assert {name: said.get(name) for name in expected} == expected
    assert collector.resources[0]["service.name"] == "llmctl"


def test_a_call_that_fails_is_a_span_with_an_error(gateway: Daemon, collector: Collector, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("reset_after_request/m"), key)
    span = collector.span(reply.headers["x-llmctl-call-id"])
    assert (span.status.code, span.status.message) == (2, "provider_failed")
    assert values(span.attributes)["error.type"] == "provider_failed"
    assert values(span.attributes)["llmctl.usage.source"] == "estimated"


def test_tokens_and_time_are_metrics(gateway: Daemon, collector: Collector, key: str) -> None:
    post(gateway.url, CHAT, ask("fine/m"), key)
    names = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert wait_until(lambda: names <= {metric.name for metric in collector.metrics}, 10)
    usage = [metric for metric in collector.metrics if metric.name == "gen_ai.client.token.usage"][-1]
    kinds = {values(point.attributes)["gen_ai.token.type"] for point in usage.histogram.data_points}
    assert kinds == {"input", "output"}
    # As the conventions say: the SDK's own would put every longer call together.
    bounds = {metric.name: list(metric.histogram.data_points[0].explicit_bounds) for metric in collector.metrics}
    assert (bounds["gen_ai.client.token.usage"][:4], bounds["gen_ai.client.token.usage"][-1]) == (
        [1, 4, 16, 64],
        1 << 26,
    )
    durations_s = bounds["gen_ai.client.operation.duration"]
    assert (durations_s[:3], durations_s[-1]) == ([0.01, 0.02, 0.04], 81.92)


def test_a_response_that_went_on_in_the_background_is_a_span_once_it_is_booked(
    tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "one").write_text("sk-keeper")
    extra = f'[telemetry]\nendpoint = "{collector.endpoint}"\n'
    with Keeper({"sk-keeper": "one"}) as keeper:
        named = f'[providers.keeper]\ndialect = "openai"\nbase_url = "{keeper.base_url}"\ncredential_file = "one"\n'
        with Daemon(tmp_path, named, extra=extra) as daemon:
            key = daemon.add_user("bert")
            body = {"model": "keeper/keep-1", "input": PROMPT, "background": True}
            made = daemon.send("/v1/responses", body, key=key)
            keeper.finish(made.json["id"])
            daemon.get(f"/v1/responses/{made.json['id']}", key=key)
            said = values(collector.span(made.headers["x-llmctl-call-id"]).attributes)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "keeper",
        "gen_ai.response.model": "keep-1-2026",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "user.id": "bert",
        "llmctl.usage.source": "reported",
    }
    assert {name: said.get(name) for name in expected} == expected


def test_neither_prompts_nor_secrets_are_told(gateway: Daemon, collector: Collector, key: str) -> None:
    assert collector.raw
    for raw in collector.raw:
        assert PROMPT.encode() not in raw
        assert key.encode() not in raw


def test_a_collector_that_is_away_costs_no_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("away")
    extra = '[telemetry]\nendpoint = "http://127.0.0.1:9"\n'
    with (
        Faulty({"fine": FAULTS["fine"]}) as faulty,
        Daemon(directory, faulty.providers(directory), extra=extra) as daemon,
    ):
        key = daemon.add_user("alice")
        assert [post(daemon.url, CHAT, ask("fine/m"), key).status for _ in range(5)] == [200] * 5
        assert daemon.stop() == 0
