"""THE call path: every byte to a provider passes here, in this order and no other way.

bytes -> Ask -> Caller -> Plan (route, access, price, worst case) -> Hold -> bytes relayed -> Usage -> settled row
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from aiohttp import web
from aiohttp.web import BaseRequest
from msgspec.structs import replace

from llmctl.dialects import table
from llmctl.dialects.endpoint import ReadForm
from llmctl.dialects.request import Request
from llmctl.domain.errors import LlmctlError, Refused
from llmctl.store import ids
from llmctl.store.booking import Closing, Deferral
from llmctl.store.ledger import Ledger

from . import access_log, addresses, recount, settlement
from .attempts import FIRST, Attempt, Failure
from .body import is_form
from .call import Arrival, Call
from .contents import Contents
from .endings import Endings
from .entries import opening_of, refusal_of
from .errors import as_refused
from .exchange import End
from .heads import Head, head_of
from .metrics import Metrics
from .objects import Objects
from .plan import plan_of
from .refusals import CALL_ID, response_of
from .setup import Setup
from .sightings import Sightings
from .strangers import Strangers
from .tags import tags_of
from .telemetry import Telemetry

logger = logging.getLogger(__name__)

SLOW_BODY_S = 1.0  # a call that takes longer to arrive belongs to the moment when all of it is here
ADMIT_TRIES = 10  # an admin's script may change settings many times a second; calls go on between two changes


class Failed(NamedTuple):
    """An attempt without an answer, while it is decided whether the next one may take its place: until then it holds,
    and is the call."""

    call: Call
    setup: Setup
    answer: web.StreamResponse
    closing: Closing
    failure: Failure
    following: Attempt


class Handler:
    """One per worker."""

    def __init__(
        self,
        *,
        setup: Setup,
        ledger: Ledger,
        objects: Objects,
        metrics: Metrics,
        sightings: Sightings,
        telemetry: Telemetry | None,
        contents: Contents,
    ) -> None:
        self.setup = setup  # of calls from now on; those under way go on with the one that they began with
        self._ledger = ledger
        self._objects = objects
        self._metrics = metrics
        self._sightings = sightings
        self._contents = contents
        self._endings = Endings(ledger, metrics, telemetry, contents)
        self._strangers = Strangers()
        self.open_calls = 0
        self.draining = False

    async def handle(self, http: BaseRequest) -> web.StreamResponse:
        """One call, from its first byte to its booking. Never raises: whatever goes wrong is an answer."""
        setup = self.setup
        arrival = Arrival(http, setup, *self._start(), time.perf_counter())
        self.open_calls += 1
        setup.open_calls += 1
        try:
            answer = await self._serve(arrival)
        except LlmctlError as error:
            goes_on = True
            if error.code == "invalid_api_key" and arrival.secret:
                goes_on = await self._strangers.delay(setup.proxies.client_of(http), arrival.secret)
            answer = self._refuse(arrival, as_refused(error))
            if not goes_on:
                answer.force_close()
        except Exception:
            logger.exception("call %s failed", ids.shown(arrival.id))
            answer = self._refuse(arrival, Refused("internal_error", "the gateway failed", hint="tell your admin"))
        finally:
            setup.open_calls -= 1
            self.open_calls -= 1
        if setup.logs_requests:
            access_log.note(arrival, answer)
        return answer

    async def _serve(self, arrival: Arrival) -> web.StreamResponse:
        arrival.head = head = head_of(arrival.http)
        match, endpoint, setup = head.match, head.match.endpoint, arrival.setup
        if self.draining:
            raise Refused("shutting_down", "the gateway is shutting down", hint="retry in a moment")
        arrival.caller = setup.directory.caller(head.secret, head.digest)
        arrival.address = setup.proxies.client_of(arrival.http)
        if arrival.caller.allowed_from:
            self._check_address(arrival, head)
        self._sightings.note(head.digest, arrival.address, head.user_agent)
        if endpoint.kind == "local":
            self._renewed(arrival, head)
            addresses.check_allowed(arrival.caller, arrival.address)
            body = await setup.local.answer(match, arrival.caller)
            return web.Response(body=body, headers={"Content-Type": "application/json", CALL_ID: ids.shown(arrival.id)})
        if endpoint.read_form is not None and (endpoint.form_only or is_form(arrival.http)):
            return await self._serve_form(arrival, head, endpoint.read_form)
        user_id = arrival.caller.user_id
        body = await setup.bodies.read(arrival.http, user_id, plain=head.plain_body)
        self._start_anew_if_slow(arrival)
        try:
            asked = endpoint.dialect.read_request(endpoint.name, body, match.model)
            if endpoint.ask_headers is not None:
                asked = endpoint.ask_headers(asked, arrival.http.headers)
            arrival.asked = asked
            if endpoint.kind == "object":
                arrival.stored = await self._objects.find(arrival.caller, match.id)
            elif asked.ask.continues:
                arrival.stored = await self._objects.continued(arrival.caller, asked.ask.continues)
            if asked.ask.refers_to:
                stored = await self._objects.referred_to(arrival.caller, asked.ask.refers_to)
                arrival.stored = arrival.stored or stored
            if asked.ask.mentions:
                mentioned = self._objects.mentioned(arrival.caller, asked.ask.mentions)
                arrival.stored = arrival.stored or mentioned
            return await self._until_answered(arrival, head, asked)
        finally:
            setup.bodies.release(user_id, len(body))

    async def _serve_form(self, arrival: Arrival, head: Head, read_form: ReadForm) -> web.StreamResponse:
        if not is_form(arrival.http):
            raise Refused("bad_request", f"{arrival.path} takes multipart/form-data", hint="send a form with its file")
        assert arrival.caller is not None
        bodies, user_id = arrival.setup.bodies, arrival.caller.user_id
        arrival.upload = upload = await bodies.read_form(arrival.http, user_id)
        self._start_anew_if_slow(arrival)
        try:
            arrival.asked = asked = read_form(head.match.endpoint.name, upload.form, head.match.model)
            return await self._until_answered(arrival, head, asked)
        finally:
            bodies.release(user_id, upload.size)
            upload.close()

    def _start_anew_if_slow(self, arrival: Arrival) -> None:
        """Else those who trickle their bodies would save up the minutes that they began in, and call all at once."""
        if time.perf_counter() - arrival.began_s > SLOW_BODY_S:
            arrival.id, arrival.started_at_ms = self._start()

    def _start(self) -> tuple[int, int]:
        """A call's id and its start. The id is made after: readers look for calls from a moment on by their ids."""
        started_at_ms = time.time_ns() // 1_000_000
        return self._ledger.new_call_id(), started_at_ms

    async def _until_answered(self, arrival: Arrival, head: Head, asked: Request) -> web.StreamResponse:
        """The first choice; then other credentials and what stands in for the model, while nothing was answered or may
        have been billed. Raises Refused: of the first choice."""
        first_id, attempt = arrival.id, FIRST
        routing, model, dialect = arrival.setup.routing, asked.ask.model, head.match.endpoint.dialect.name
        assert arrival.caller is not None
        if arrival.setup.config.fallbacks and arrival.stored is None:
            attempt = routing.first(arrival.caller, model, dialect)
        failed: Failed | None = None
        try:
            while True:
                try:
                    call = await self._admit(arrival, head, asked, attempt, failed)
                except Refused:
                    if failed is None and not attempt.model:
                        raise
                    following = routing.stand_in(attempt, arrival.caller, model, dialect)
                    if following is None and failed is not None:
                        arrival.id = failed.call.id  # nothing that stands in is for this caller: what was said counts
                        return failed.answer
                    attempt = following or FIRST  # that was only not asked because it rests
                    continue
                if failed is not None:
                    self._endings.replaced(failed.call, failed.closing, failed.setup, failed.failure)
                answer, failed = await self._run(call, arrival.setup)
                if failed is None:
                    return answer
                attempt = failed.following
                arrival.again(*self._start())
                logger.info("call %s: attempt %d", ids.shown(first_id), attempt.number)
        finally:
            if failed is not None:
                self._endings.ended(failed.call, failed.closing, failed.setup, failed.failure)

    async def _admit(
        self, arrival: Arrival, head: Head, asked: Request, attempt: Attempt, failed: Failed | None
    ) -> Call:
        """Access and limits: the call's worst case is held, on disk, when this returns; and the attempt before, which
        failed, is booked as one whose place was taken. Raises Refused: all is as it was."""
        endpoint, setup = head.match.endpoint, arrival.setup
        now_s = arrival.started_at_ms // 1000
        tags = tags_of(arrival.http.headers)
        counted: int | None = None  # input tokens, where the bytes did not fit
        replaces = settlement.superseded(failed.closing) if failed is not None else None
        for _ in range(ADMIT_TRIES):
            caller = arrival.caller
            assert caller is not None
            try:
                addresses.check_allowed(caller, arrival.address)
                plan = plan_of(
                    caller,
                    asked.ask,
                    endpoint.dialect.name,
                    setup.directory,
                    setup.config.bounds,
                    now_s,
                    attempt.model,
                    arrival.stored,
                )
            except Refused:
                if self._renewed(arrival, head):
                    continue  # judged by settings that are no longer in force
                raise
            if counted is not None:
                plan = replace(plan, demand=replace(plan.demand, input_tokens=counted))
            hold = await self._ledger.hold(
                opening_of(arrival, caller, head.match, asked, plan, tags, attempt, replaces)
            )
            if isinstance(hold, Refused):
                if counted is None and (counted := await recount.input_tokens(asked, plan, hold)) is not None:
                    continue
                raise hold
            if hold is not None:
                arrival.admitted = True
                self._metrics.admitted(time.perf_counter() - arrival.began_s)
                return Call(
                    http=arrival.http,
                    head=head,
                    caller=caller,
                    id=arrival.id,
                    started_at_ms=arrival.started_at_ms,
                    began_s=arrival.began_s,
                    endpoint=endpoint,
                    asked=asked,
                    plan=plan,
                    held=hold,
                    attempt=attempt,
                    upload=arrival.upload,
                )
            self._renewed(arrival, head)
        raise Refused("overloaded", "settings change faster than calls can be judged", hint="retry in a moment")

    def _check_address(self, arrival: Arrival, head: Head) -> None:
        """Before the body is read. Raises Refused."""
        assert arrival.caller is not None
        try:
            addresses.check_allowed(arrival.caller, arrival.address)
        except Refused:
            if not self._renewed(arrival, head):
                raise
            addresses.check_allowed(arrival.caller, arrival.address)

    def _renewed(self, arrival: Arrival, head: Head) -> bool:
        """Reads the caller once more. False: there is no newer one."""
        directory = arrival.setup.directory
        directory.refresh()
        before, arrival.caller = arrival.caller, directory.caller(head.secret, head.digest)
        return arrival.caller is not before

    async def _run(self, call: Call, setup: Setup) -> tuple[web.StreamResponse, Failed | None]:
        """Sends what was held for, and books the end: once, whatever happens. Returns what the client is to get; and,
        where another attempt may do better, what is still to be booked."""
        closing: Closing | Deferral | None = None
        end: End | None = None
        failed: Failed | None = None
        if call.caller.keeps_content:
            self._contents.begin(call)
        try:
            end = await setup.exchange.run(call)
            closing = end.closing
            if end.failure is not None and (following := setup.routing.following(call, end.failure)) is not None:
                assert isinstance(closing, Closing)  # what goes on was answered
                failed = Failed(call, setup, end.answer, closing, end.failure, following)
            return end.answer, failed
        finally:
            if closing is None:  # a bug, or the end of the process: all that was held is booked
                closing = settlement.unanswered(call, status=None, error="internal_error", now_s=time.perf_counter())
            if failed is None:
                self._endings.ended(call, closing, setup, end.failure if end is not None else None)

    def malformed(self, reason: str) -> web.Response:
        """The answer to what cannot be read as a request: nobody knows whose it is, or which dialect it speaks."""
        refused = Refused("bad_request", f"this request cannot be read: {reason}", hint="mend what sends it")
        self._metrics.refused(refused.code)
        dialect = table.error_dialect("", ())
        return response_of(refused, dialect, self._ledger.new_call_id(), time.time())

    def drain(self) -> None:
        """New calls are turned away from now on; those under way go on."""
        self.draining = True

    def _refuse(self, arrival: Arrival, refused: Refused) -> web.StreamResponse:
        """An answer in the shape of the dialect, and a row for what was not let through."""
        if arrival.http.writer.output_size > 0 and arrival.http.transport is not None:
            arrival.http.transport.abort()  # an answer is under way, and this would be read as the next one
        dialect = table.error_dialect(arrival.path, arrival.http.headers)
        answer = response_of(refused, dialect, arrival.id, arrival.started_at_ms / 1000)
        self._metrics.refused(refused.code)
        if refused.code == "invalid_api_key":
            # Counted, and no row: there is nobody to book to, also for a key that died since it was last seen.
            return answer
        if (refusal := refusal_of(arrival, refused, answer.status)) is not None:
            self._ledger.refuse(refusal)
        return answer
