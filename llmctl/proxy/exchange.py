"""An admitted call: sent once, its answer relayed, and what it used read beside it."""

from __future__ import annotations

import asyncio
import logging
import re
import time

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from llmctl.config.presets import SIGV4
from llmctl.dialects.base import AnswerReader
from llmctl.dialects.wire.fields import may_say
from llmctl.domain.call import Reading
from llmctl.domain.errors import Refused
from llmctl.store import ids
from llmctl.store.booking import Closing, Deferral, Kept

from . import settlement
from .attempts import BUSY, Failure, retry_after_s
from .background import Background
from .call import Call
from .client import Client
from .compression import decoded, decoder, is_plain
from .connections import Outgoing, ProviderAnswer
from .credentials import Credential
from .errors import SHAPES
from .estimate import estimate
from .headers import downstream_headers
from .lessons import Lessons
from .passage import Passage
from .refusals import CALL_ID, response_of
from .relay import UNREADABLE, DecodingReader, Mask, NotingReader, UnpackingReader, WholeReader
from .uploads import Edited
from .upstream import Upstream, UpstreamFailure, too_late
from .watch import REVOKED, Flight, Watch

logger = logging.getLogger(__name__)

OUTPUT_CAPPED, LIMIT_PASSED = "x-llmctl-output-capped", "x-llmctl-limit-passed"
OPTION_REFUSED = (400, 422)
_NONE = frozenset[bytes]()
_PACKING = frozenset((b"content-encoding",))
_KEY_INVALID = re.compile(rb'"reason"\s*+:\s*+"API_KEY_INVALID"')  # Google says it with a 400
# A 403 that is about the prompt, and not about who asks (https://openrouter.ai/docs/api/reference/errors-and-debugging;
# xAI's says "Content violates usage guidelines", Google's of a file that is gone "You do not have permission to access
# the File").
_FLAGGED = re.compile(
    rb"(?i)flagged|moderation|content[ _-]?(?:filter|policy|violat)|usage guidelines|safety|access the file\b"
)
ERROR_BODY_BYTES_MAX = 16 << 20  # some repeat the prompt in it


class End(Struct, frozen=True):
    """What came of a call: the client's answer (not sent yet, where there is a failure), how it is booked, if it does
    not go on, and why another attempt may do better."""

    answer: web.StreamResponse
    closing: Closing | Deferral
    failure: Failure | None = None


class Exchange:
    """What happens between a provider and a client. Every way out of `run` has a booking."""

    def __init__(self, upstream: Upstream, watch: Watch, background: Background, lessons: Lessons) -> None:
        self._upstream = upstream
        self._watch = watch
        self._background = background
        self._lessons = lessons

    async def run(self, call: Call) -> End:
        """Sends it once, and relays what comes."""
        provider, stored = call.plan.provider, call.plan.stored
        if stored is not None and call.endpoint.name == "responses.delete":
            await self._background.ask_before_delete(stored)
        fingerprint = "" if stored is None else stored.credential
        credential = self._upstream.choose(provider, call.attempt.tried, fingerprint=fingerprint)
        if credential is not None and not credential.secret:
            try:
                credential = await self._upstream.shown(provider, credential)
            except UpstreamFailure as failure:
                return self._no_answer(call, failure, failure.credential)
        outgoing, client = self._outgoing(call, credential), Client(call.http)
        if self._watch.is_pointless(client):
            return End(client.answer, _unsent_or_unanswered(call, outgoing, "client_gone"))
        with self._watch.over(call, client, outgoing) as flight:
            end = await self._fly(call, flight, credential)
        if end.failure is not None and flight.is_unwanted:
            end = replace(end, failure=end.failure._replace(unwanted=True))
        return end

    async def _fly(self, call: Call, flight: Flight, credential: Credential | None) -> End:
        provider, number = call.plan.provider, credential.number if credential else 0
        try:
            flight.response = response = await self._upstream.send(provider, flight.outgoing)
        except UpstreamFailure as failure:
            return self._no_answer(call, failure, number)
        except asyncio.CancelledError:
            if not flight.cut:
                raise
            flight.task.uncancel()
            if flight.cut == "provider_timeout":
                return self._no_answer(call, too_late(provider), number)
            of_ours = _cut_by_us(flight.cut)
            if of_ours is None:
                return End(flight.client.answer, _unsent_or_unanswered(call, flight.outgoing, flight.cut))
            answer = _refused(call, of_ours)
            return End(answer, _unsent_or_unanswered(call, flight.outgoing, flight.cut, status=answer.status))
        try:
            if response.status == 401:
                return self._credential_refused(call, response.status, number)
            if response.status >= 400:
                return await self._provider_error(call, flight.client, response, credential)
            self._upstream.credentials(provider).worked(number)
            if call.attempt.without_option:  # that was it
                self._lessons.refuses_usage_option(provider.name, call.plan.model)
            return await self._relay(call, flight, response, credential)
        except BaseException:
            if flight.client.started:
                flight.client.abort()  # else our error would be sent into the middle of the answer
            raise
        finally:
            # A response that was read to its end has given its connection back already; any other is cut.
            response.close()

    def _outgoing(self, call: Call, credential: Credential | None) -> Outgoing:
        provider = call.plan.provider
        own = self._upstream.own_headers(provider, call.endpoint.dialect, credential)
        judged = call.upload is None and bool(call.asked.body)
        headers = call.head.upstream(own, json=judged, identity=call.injects_usage)
        body: bytes | Edited
        if call.upload is not None:
            body = call.upload.edited(call.asked.form_edits(call.plan.model))
        else:
            body = call.asked.upstream_body(
                model=call.plan.model,
                output_tokens_max=call.output_tokens_to_set,
                output_field=provider.output_field(call.endpoint.name),
                inject_usage=call.injects_usage,
            )
        target = call.head.match.target(call.plan.model)
        return self._upstream.outgoing(
            provider,
            call.endpoint.dialect,
            target,
            headers,
            body,
            method=call.http.method,
            credential=credential,
        )

    async def _relay(self, call: Call, flight: Flight, response: ProviderAnswer, credential: Credential | None) -> End:
        """Bytes through, a reader beside them. The client leaving changes nothing but where the bytes go."""
        content_type = response.headers.get("content-type", "")
        streamed = call.endpoint.dialect.streams(call.endpoint.name, call.asked, content_type)
        client, mask = flight.client, _mask_of(call, credential)
        reader, without = self._reader(call, flight, response, credential, streamed=streamed)
        client.head(response.status, mask.whole(_headers(call, response, without)))
        if call.kept is not None:
            call.kept.encoding, call.kept.mask = _encoding(response), _mask_of(call, credential)
            if streamed and not content_type.startswith("audio/"):
                call.kept.texts = call.endpoint.dialect.stream_texts
        broken, last = await Passage(call, flight, response.content, reader, mask, streamed).run()
        rest = last + mask.close(reader.close())
        answer = await client.finish(rest) if not broken else _cut_short(call, client, broken)
        status = None if client.missed else answer.status
        reading = reader.reading()
        if call.endpoint.answer_headers is not None:
            reading = call.endpoint.answer_headers(reading, response.headers)
        if call.endpoint.kind == "object":
            return End(answer, self._background.heard(call, reading, status, broken))
        stored_id = reading.object_id if call.asked.ask.stores else ""
        if stored_id and call.asked.ask.background and (reading.goes_on or not reading.finished):
            # At once: the client knows the id, and asks for it before an estimate would be there.
            return End(answer, Deferral(call.id, _kept(stored_id, credential), status))
        closing = await self._closing(call, reading, status, broken, streamed=streamed)
        if not (stored_id or reading.part_ids):
            return End(answer, closing)
        kept = _kept(stored_id or reading.part_ids[0], credential)
        return End(answer, replace(closing, kept=kept, deferred=flight.deferred))

    def _reader(
        self, call: Call, flight: Flight, response: ProviderAnswer, credential: Credential | None, *, streamed: bool
    ) -> tuple[AnswerReader, frozenset[bytes]]:
        """And the headers that no longer say what the client gets."""
        dialect, endpoint = call.endpoint.dialect, call.endpoint.name
        encoding = _encoding(response)
        if not streamed:
            return WholeReader(lambda body: dialect.read_answer(endpoint, body), encoding), _NONE
        unpacks = None if is_plain(encoding) or not call.injects_usage else decoder(encoding)
        strips = call.injects_usage and (unpacks is not None or is_plain(encoding))
        reader: AnswerReader = dialect.reader(endpoint, call.asked, strip_usage=strips)
        if call.asked.ask.background:
            # From its first event on the client can ask for it again, should this stream break or this process die.
            def note(object_id: str) -> None:
                flight.deferred = True
                self._background.defer(Deferral(call.id, _kept(object_id, credential), response.status))

            reader = NotingReader(reader, note)
        if unpacks is not None:
            return UnpackingReader(reader, unpacks), _PACKING
        return (reader if is_plain(encoding) else DecodingReader(reader, encoding)), _NONE

    async def _closing(
        self, call: Call, reading: Reading, status: int | None, broken: str, *, streamed: bool
    ) -> Closing:
        """How an answer is booked: by its own usage, else by what was seen of it, else by what was held."""
        free = call.plan.free
        unseen = reading.error == UNREADABLE or (broken and not (streamed and call.first_byte_s))
        if unseen and reading.usage is None and not free:
            error = broken or reading.error
            return settlement.unanswered(call, status=status, error=error, now_s=time.perf_counter())
        guess = await estimate(call, reading) if reading.is_short and not free else None
        return settlement.answered(
            call, reading, status=status, error=broken, estimate=guess, now_s=time.perf_counter()
        )

    async def _provider_error(
        self, call: Call, client: Client, response: ProviderAnswer, credential: Credential | None
    ) -> End:
        """The provider's own refusal passes as it came, but for our credential, should it be in there."""
        body, encoding = await response.whole(ERROR_BODY_BYTES_MAX), _encoding(response)
        mask, without = _mask_of(call, credential), _NONE
        plain = decoded(body, encoding) if body else b""
        if body is None or (body and not plain and credential is not None):  # what cannot be read cannot be masked
            without = _PACKING | {b"content-type"}
            rest = "the rest did not come" if body is None else "the rest cannot be read"
            message = f"provider {call.plan.provider.name} answered with HTTP {response.status}, and {rest}"
            body = call.endpoint.dialect.error_body(
                response.status, code="provider_failed", type="", message=message, request_id=ids.shown(call.id)
            )
        else:
            forbidden = response.status == 403 and credential is not None and _FLAGGED.search(plain) is None
            if forbidden or (response.status == 400 and _KEY_INVALID.search(plain)):
                return self._credential_refused(call, response.status, credential.number if credential else 0)
            if credential is not None and plain and not is_plain(encoding):  # packed, it could not be masked
                body, without = plain, _PACKING
            body = mask.whole(body)
        if call.kept is not None:
            call.kept.take(mask.whole(plain))
        headers = _headers(call, response, without)
        if b"content-type" in without:
            headers += b"Content-Type: application/json\r\n"
        client.head(response.status, mask.whole(headers))
        closing = _error_booked(call, response.status, plain)
        failure = None
        if response.status in BUSY:
            number = credential.number if credential else 0
            billed, rest_s = closing.usage_source is not None, retry_after_s(response.headers)
            failure = Failure("busy", billable=billed, credential=number, retry_after_s=rest_s)
        elif _refuses_option(call, response.status, plain):
            failure = Failure("option")
        return End(client.unsent(body), closing, failure)

    def _credential_refused(self, call: Call, status: int, number: int) -> End:
        """It is about OUR credential, and the body echoes it: the client gets our own 502."""
        name = call.plan.provider.name
        what = "call %s: provider %s refuses our credential (HTTP %d): check [providers.%s]"
        logger.error(what, ids.shown(call.id), name, status, name)
        refused = Refused(
            "provider_credential", f"provider {name} refuses the gateway's credential", hint="tell your admin"
        )
        answer = _refused(call, refused)
        error = f"provider_{status}"
        closing = settlement.failed(call, status=answer.status, error=error, now_s=time.perf_counter())
        return End(answer, closing, Failure("forbidden" if status == 403 else "credential", credential=number))

    def _no_answer(self, call: Call, failure: UpstreamFailure, number: int) -> End:
        answer, error, now_s = _refused(call, failure.refused), failure.refused.code, time.perf_counter()
        if failure.answered:
            return End(answer, settlement.failed(call, status=answer.status, error=error, now_s=now_s))
        if failure.sent:
            closing = settlement.unanswered(call, status=answer.status, error=error, now_s=now_s)
            late = Failure("timeout", billable=True, credential=number) if error == "provider_timeout" else None
            return End(answer, closing, late)
        closing = settlement.released(call, status=answer.status, error=error, now_s=now_s)
        return End(answer, closing, Failure("unreachable", credential=number))


def _cut_short(call: Call, client: Client, broken: str) -> web.StreamResponse:
    """What the client gets in the end of an answer that broke off."""
    if client.started or client.gone:
        client.abort()  # a truncated answer must not look like a whole one
        return client.answer
    of_ours = _cut_by_us(broken)
    if of_ours is not None:
        return _refused(call, of_ours)
    code = broken if broken in SHAPES else "provider_failed"
    return _refused(call, Refused(code, f"provider {call.plan.provider.name} broke off its answer"))


def _error_booked(call: Call, status: int, body: bytes) -> Closing:
    error, now_s = f"provider_{status}", time.perf_counter()
    if b'"usage' in body:
        reading = call.endpoint.dialect.read_answer(call.endpoint.name, body)
        if reading.usage is not None:  # it was begun, and is billed
            return settlement.answered(call, reading, status=status, error=error, estimate=None, now_s=now_s)
    return settlement.failed(call, status=status, error=error, now_s=now_s)


def _unsent_or_unanswered(call: Call, outgoing: Outgoing, error: str, *, status: int | None = None) -> Closing:
    """Of a call that was cut before its answer began. `status`: what its client got, if it is still there."""
    if outgoing.sent_at_s is not None:
        return settlement.unanswered(call, status=status, error=error, now_s=time.perf_counter())
    return settlement.released(call, status=status, error=error, now_s=time.perf_counter())


def _kept(object_id: str, credential: Credential | None) -> Kept:
    return Kept(object_id, credential.fingerprint if credential else "")


def _mask_of(call: Call, credential: Credential | None) -> Mask:
    if credential is None:
        return Mask()
    if call.plan.provider.auth == SIGV4:  # of which parts go over the wire, and AWS repeats what was signed
        return Mask(*credential.secret.split(":"))
    return Mask(credential.secret)


def _refuses_option(call: Call, status: int, body: bytes) -> bool:
    """The provider seems to refuse the option that we put into the request. Not if the client's own words may be what
    it repeats."""
    if not call.injects_usage or status not in OPTION_REFUSED or b"stream_options" not in body:
        return False
    return not may_say(call.asked.body, b"stream_options")


def _headers(call: Call, response: ProviderAnswer, without: frozenset[bytes]) -> bytes:
    headers = downstream_headers(response.raw_headers, without=without)
    headers += f"{CALL_ID}: {ids.shown(call.id)}\r\n".encode()
    if call.held.capped:
        headers += f"{OUTPUT_CAPPED}: {call.held.output_tokens}\r\n".encode()
    if call.held.passed:
        headers += f"{LIMIT_PASSED}: {', '.join(f'l{limit_id}' for limit_id in call.held.passed)}\r\n".encode()
    return headers


def _encoding(response: ProviderAnswer) -> str:
    return response.headers.get("content-encoding", "").strip().lower()


def _refused(call: Call, refused: Refused) -> web.Response:
    return response_of(refused, call.endpoint.dialect, call.id, call.started_at_ms / 1000)


def _cut_by_us(cut: str) -> Refused | None:
    """What a client is told of a cut that is no fault of the provider, nor its own leaving."""
    if cut == REVOKED:
        return Refused("invalid_api_key", "this key was stopped while the call was open", hint="ask your admin")
    if cut == "shutting_down":
        return Refused(cut, "the gateway shut down before the answer was there", hint="retry in a moment")
    return None
