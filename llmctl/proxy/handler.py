"""THE call path: every byte to a provider passes here, in this order and no other way.

    bytes -> Ask -> Caller -> Plan (route, access, price, worst case) -> Hold -> bytes relayed -> Usage -> settled row
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.web import BaseRequest

from llmctl import tokenizer
from llmctl.config import Config
from llmctl.dialects import table
from llmctl.dialects.base import Dialect
from llmctl.dialects.request import Request
from llmctl.dialects.table import Match
from llmctl.domain.call import Reading
from llmctl.domain.errors import LlmctlError, Refused
from llmctl.domain.principal import Caller
from llmctl.domain.usage import Usage
from llmctl.store import ids
from llmctl.store.booking import Closing, Opening, Refusal
from llmctl.store.ledger import Ledger

from . import settlement
from .body import BodyReader
from .directory import Directory
from .errors import ANSWERS, as_refused, headers_of, status_of
from .headers import client_secret, downstream_headers, upstream_headers
from .local import Local
from .metrics import Metrics
from .plan import Plan, plan_of
from .relay import AnswerReader, Client, DecodingReader, WholeReader
from .settlement import Call
from .upstream import Upstream, UpstreamFailure
from .watch import Flight, Watch

logger = logging.getLogger(__name__)

ADMIT_TRIES = 10  # an admin's script may change settings many times a second; calls go on between two changes
CALL_ID = "x-llmctl-call-id"
OUTPUT_CAPPED = "x-llmctl-output-capped"
EVENT_STREAM = "text/event-stream"
# What is left of such a request's body would be read as the next request.
CLOSES = frozenset({"body_too_large", "body_timeout", "shutting_down"})


@dataclass(slots=True)
class Arrival:
    """A request, as far as it is known yet: what a refusal is booked to."""

    request: BaseRequest
    call_id: int
    started_at_ms: int
    began_s: float
    match: Match | None = None
    caller: Caller | None = None
    asked: Request | None = None
    admitted: bool = False  # the call has a row of its own: a failure from here on is booked there

    @property
    def dialect(self) -> Dialect:
        return table.error_dialect(self.request.raw_path.partition("?")[0], self.request.headers)


class Handler:
    """One per worker."""

    def __init__(
        self,
        *,
        config: Config,
        directory: Directory,
        ledger: Ledger,
        upstream: Upstream,
        bodies: BodyReader,
        watch: Watch,
        metrics: Metrics,
        local: Local,
    ) -> None:
        self._config = config
        self._directory = directory
        self._ledger = ledger
        self._upstream = upstream
        self._bodies = bodies
        self._watch = watch
        self._metrics = metrics
        self._local = local
        self.open_calls = 0
        self.draining = False

    def drain(self) -> None:
        """New calls are turned away from now on; those under way go on."""
        self.draining = True

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """One call, from its first byte to its booking. Never raises: whatever goes wrong is an answer."""
        arrival = Arrival(request, self._ledger.new_call_id(), time.time_ns() // 1_000_000, time.perf_counter())
        self.open_calls += 1
        try:
            return await self._serve(arrival)
        except LlmctlError as error:
            return self._refuse(arrival, as_refused(error))
        except Exception as error:
            # The type alone: a message or a traceback may hold a prompt or a key.
            logger.exception("call %s failed: %s", ids.shown(arrival.call_id), type(error).__name__)
            return self._refuse(arrival, Refused("internal_error", "the gateway failed", hint="ask your admin"))
        finally:
            self.open_calls -= 1

    async def _serve(self, arrival: Arrival) -> web.StreamResponse:
        request = arrival.request
        path, _, query = request.raw_path.partition("?")
        arrival.match = match = table.lookup(request.method, path, request.headers)
        if self.draining:
            raise Refused("shutting_down", "the gateway is shutting down", hint="retry in a moment")
        secret = client_secret(request.headers, query)
        arrival.caller = self._directory.caller(secret)
        if match.endpoint.kind == "local":
            return await self._answer(arrival, secret)
        body = await self._bodies.read(request)
        try:
            arrival.asked = match.endpoint.dialect.read_request(match.endpoint.name, body)
            call = await self._admit(arrival, match, arrival.asked, secret)
            return await self._run(arrival, match, call, arrival.asked)
        finally:
            self._bodies.release(len(body))

    async def _admit(self, arrival: Arrival, match: Match, asked: Request, secret: str) -> Call:
        """Access and limits: the call's worst case is held, on disk, when this returns. Raises Refused."""
        for _ in range(ADMIT_TRIES):
            arrival.caller = caller = self._directory.caller(secret)
            try:
                plan = plan_of(
                    caller, asked.ask, match.endpoint.dialect.name, self._directory, self._config.bounds, arrival.started_at_ms // 1000
                )
            except Refused:
                if self._directory.refresh():
                    continue  # judged by settings that are no longer in force
                raise
            granted = await self._ledger.hold(self._opening(arrival, match, caller, asked, plan))
            if granted is None:
                self._directory.refresh()
                continue
            if isinstance(granted, Refused):
                raise granted
            arrival.admitted = True
            return Call(
                arrival.call_id,
                arrival.started_at_ms,
                arrival.began_s,
                caller,
                match.endpoint,
                asked.ask,
                plan,
                granted,
            )
        raise Refused("overloaded", "settings change faster than calls can be judged", hint="retry in a moment")

    def _opening(self, arrival: Arrival, match: Match, caller: Caller, asked: Request, plan: Plan) -> Opening:
        return Opening(
            arrival.call_id,
            arrival.started_at_ms,
            caller,
            plan.provider.name,
            plan.model,
            match.endpoint.dialect.name,
            match.endpoint.name,
            asked.ask.model,
            asked.ask.stream,
            plan.demand,
            plan.price.id if plan.price else None,
        )

    async def _run(self, arrival: Arrival, match: Match, call: Call, asked: Request) -> web.StreamResponse:
        """Sends what was held for, relays the answer, and books the end: once, whatever happens."""
        closing: Closing | None = None
        try:
            try:
                response = await self._send(arrival, match, call, asked)
            except UpstreamFailure as failure:
                book = settlement.unanswered if failure.sent else settlement.released
                status = status_of(failure.refused.code, call.endpoint.dialect.name)
                closing = book(call, status=status, error=failure.refused.code, now_s=time.perf_counter())
                raise failure.refused from None
            try:
                answer, closing = await self._relay(arrival, match, call, asked, response)
            finally:
                response.close() if closing is None or closing.error else response.release()
            return answer
        finally:
            # Only a bug or a cancellation ends up here without a closing: then all that was held is booked.
            self._book(
                call,
                closing
                or settlement.unanswered(call, status=None, error="internal_error", now_s=time.perf_counter()),
            )

    async def _send(
        self, arrival: Arrival, match: Match, call: Call, asked: Request
    ) -> aiohttp.ClientResponse:
        plan, granted = call.plan, call.granted
        cap = granted.capped or (plan.demand.output_tokens_injected and plan.bounded)
        body = asked.upstream_body(
            model=plan.model,
            output_tokens_max=granted.output_tokens if cap else None,
            output_field=plan.provider.output_field(call.endpoint.name),
            inject_usage=self._injects(call),
        )
        credential = self._upstream.credential(plan.provider)
        headers = upstream_headers(
            arrival.request.headers,
            match.endpoint.dialect.credential_headers(credential.secret) if credential else {},
            match.endpoint.dialect.default_headers(),
            identity=self._injects(call),
        )
        self._metrics.overhead_s.observe(time.perf_counter() - arrival.began_s)
        return await self._upstream.send(plan.provider, match.endpoint.upstream, headers, body)

    async def _relay(
        self, arrival: Arrival, match: Match, call: Call, asked: Request, response: aiohttp.ClientResponse
    ) -> tuple[web.StreamResponse, Closing]:
        """Bytes through, a reader beside them. The client leaving changes nothing but where the bytes go."""
        status = response.status
        if status in (401, 403):
            return self._credential_refused(arrival, call, status)
        headers = downstream_headers(response.headers)
        headers[CALL_ID] = ids.shown(call.id)
        if call.granted.capped:
            headers[OUTPUT_CAPPED] = str(call.granted.output_tokens)
        streamed = response.content_type == EVENT_STREAM
        client = Client(arrival.request, status, headers)
        reader = self._reader(match, call, asked, response, streamed)
        flight = Flight(client, response)
        self._watch.add(flight)
        broken = ""
        try:
            if streamed:
                await client.start()
            async for chunk in response.content.iter_any():
                if call.first_byte_s is None:
                    call.first_byte_s = time.perf_counter()
                passed = reader.feed(chunk)
                if passed:
                    await client.write(passed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            broken = "client_gone" if flight.cut else _broken_by(error)
        finally:
            self._watch.remove(flight)
        rest, reading = reader.close()
        if not broken:
            answer = await client.finish(rest)
        elif client.started or client.gone:
            client.abort()  # a truncated answer must not look like a whole one
            answer = client.answer
        else:
            status, answer = self._failure(arrival, Refused(broken, "the provider's answer broke off"))
        shown = None if client.gone else status
        return answer, await self._closing(match, call, asked, reading, shown, broken, whole=not streamed)

    def _reader(
        self, match: Match, call: Call, asked: Request, response: aiohttp.ClientResponse, streamed: bool
    ) -> AnswerReader:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if not streamed:
            return WholeReader(lambda body: match.endpoint.dialect.read_answer(call.endpoint.name, body), encoding)
        plain = encoding in ("", "identity")
        reader = match.endpoint.dialect.reader(call.endpoint.name, asked, strip_usage=plain and self._injects(call))
        return reader if plain else DecodingReader(reader, encoding)

    def _injects(self, call: Call) -> bool:
        """A stream tells its usage only if asked: we ask where the client did not, and take the extra event out."""
        return call.ask.stream and not call.ask.wants_usage

    async def _closing(
        self,
        match: Match,
        call: Call,
        asked: Request,
        reading: Reading,
        status: int | None,
        broken: str,
        *,
        whole: bool,
    ) -> Closing:
        """How this answer is booked (DESIGN section 10, "Booking of failures")."""
        provider_status = status or 200
        if provider_status >= 400 and not broken and reading.usage is None:
            return settlement.failed(call, status=provider_status, error=f"provider_{status}", now_s=time.perf_counter())
        if broken and reading.usage is None and (whole or call.first_byte_s is None):
            return settlement.unanswered(call, status=status, error=broken, now_s=time.perf_counter())
        estimate = None
        if reading.usage is None and not call.ask.free:
            estimate = await self._estimate(match, call, asked, reading)
        return settlement.answered(
            call, reading, status=status, error=broken, estimate=estimate, now_s=time.perf_counter()
        )

    async def _estimate(self, match: Match, call: Call, asked: Request, reading: Reading) -> Usage:
        """An offline count of what was sent and seen, for an answer that reported no usage."""

        def count() -> tuple[int, int]:
            model, text = call.plan.model, match.endpoint.dialect.input_text(asked)
            messages = [tokenizer.ChatText(role, content) for role, content in text.messages]
            input_tokens = tokenizer.count_chat(messages, model) + tokenizer.count(text.tools, model)
            return input_tokens, tokenizer.count(reading.output_text, model)

        try:
            input_tokens, seen_tokens = await asyncio.to_thread(count)
        except tokenizer.TokenizerError as error:
            logger.error("cannot count tokens offline, booking the worst case: %s", error)
            input_tokens, seen_tokens = call.plan.demand.input_tokens, call.granted.output_tokens
        return settlement.estimate_of(call, reading, input_tokens, seen_tokens)

    def _credential_refused(self, arrival: Arrival, call: Call, status: int) -> tuple[web.StreamResponse, Closing]:
        """401 and 403 are about OUR credential, and their bodies echo it: the client gets our own 502."""
        provider = call.plan.provider.name
        logger.error("provider %s refuses our credential (HTTP %d): llmctl provider check", provider, status)
        refused = Refused("provider_credential", f"provider {provider} refuses the gateway's credential", hint="ask your admin")
        shown, answer = self._failure(arrival, refused)
        return answer, settlement.failed(call, status=shown, error=f"provider_{status}", now_s=time.perf_counter())

    def _book(self, call: Call, closing: Closing) -> None:
        self._ledger.settle(closing)
        self._metrics.booked(call.plan.provider.name, call.endpoint.dialect.name, call.plan.model, closing)

    async def _answer(self, arrival: Arrival, secret: str) -> web.StreamResponse:
        """What the gateway knows by itself: nothing goes to a provider, nothing is booked."""
        assert arrival.match is not None
        self._directory.refresh()
        caller = self._directory.caller(secret)
        body = await self._local.answer(arrival.match, caller)
        return web.Response(body=body, headers={"Content-Type": "application/json", CALL_ID: ids.shown(arrival.call_id)})

    def _refuse(self, arrival: Arrival, refused: Refused) -> web.StreamResponse:
        """An answer in the shape of the dialect, and a row for what was not let through."""
        status, answer = self._failure(arrival, refused)
        self._metrics.refused(refused.code)
        match, caller = arrival.match, arrival.caller
        if match is not None and caller is not None and not arrival.admitted:
            ask = arrival.asked.ask if arrival.asked else None
            self._ledger.refuse(
                Refusal(
                    arrival.call_id,
                    arrival.started_at_ms,
                    caller,
                    match.endpoint.dialect.name,
                    match.endpoint.name,
                    ask.model if ask else "",
                    ask.stream if ask else False,
                    refused.code,
                    status,
                )
            )
        return answer

    def _failure(self, arrival: Arrival, refused: Refused) -> tuple[int, web.Response]:
        dialect = arrival.dialect
        status = status_of(refused.code, dialect.name)
        call_id = ids.shown(arrival.call_id)
        headers = headers_of(refused, dialect.name, arrival.started_at_ms / 1000)
        headers.update({CALL_ID: call_id, "x-request-id": call_id, "request-id": call_id})
        if refused.code in CLOSES:
            headers["Connection"] = "close"
        answer = ANSWERS[refused.code]
        body = dialect.error_body(
            status,
            type=answer.anthropic_type if dialect.name == "anthropic" else answer.openai_type,
            code=answer.openai_code or refused.code,
            message=str(refused),
            param=refused.param,
            request_id=call_id,
        )
        return status, web.Response(status=status, body=body, headers={**headers, "Content-Type": "application/json"})


def _broken_by(error: Exception) -> str:
    return "provider_timeout" if isinstance(error, TimeoutError) else "provider_failed"
