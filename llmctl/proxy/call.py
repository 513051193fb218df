"""One call on its way, as data: first a request that arrived, then an admitted call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp.web import BaseRequest
from msgspec import Struct

from llmctl.dialects.endpoint import Endpoint
from llmctl.dialects.request import Request
from llmctl.domain.principal import Caller
from llmctl.store.booking import Held
from llmctl.store.objects import StoredObject

from .attempts import Attempt
from .heads import Head
from .plan import Plan
from .relay import KeptAnswer
from .uploads import Upload

if TYPE_CHECKING:
    from .setup import Setup


class Arrival(Struct, eq=False):
    """A request, as far as it is known yet: what a refusal is shaped by and booked to."""

    http: BaseRequest
    setup: Setup  # what was in force when it began
    id: int
    started_at_ms: int
    began_s: float  # monotonic
    head: Head | None = None
    caller: Caller | None = None
    asked: Request | None = None
    address: str = ""  # the client's; "": not known
    stored: StoredObject | None = None  # what the request is about or goes on from
    upload: Upload | None = None  # its body, where that is a form
    admitted: bool = False  # it has a row as a call: a failure from here on is booked there

    __repr__ = object.__repr__  # nor may prompts slip into a log or a traceback

    @property
    def path(self) -> str:
        return self.http.raw_path.partition("?")[0]

    def again(self, call_id: int, started_at_ms: int) -> None:
        """Another attempt begins, with a row of its own."""
        self.id = call_id
        self.started_at_ms = started_at_ms
        self.began_s = time.perf_counter()
        self.admitted = False

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self.head is None else self.head.match.endpoint

    @property
    def secret(self) -> str:
        return "" if self.head is None else self.head.secret


class Call(Struct, eq=False):
    """An admitted call: its worst case is held. It ends in exactly one booking."""

    http: BaseRequest
    head: Head
    caller: Caller
    id: int
    started_at_ms: int
    began_s: float
    endpoint: Endpoint  # of the head
    asked: Request
    plan: Plan
    held: Held
    attempt: Attempt
    upload: Upload | None = None
    first_byte_s: float | None = None  # of the answer's body
    first_token_s: float | None = None  # of a stream: many begin with an event that only says so
    kept: KeptAnswer | None = None  # the answer, where the caller's group wants it

    __repr__ = object.__repr__

    @property
    def injects_usage(self) -> bool:
        """A stream tells its usage only if asked: we ask where the client did not, and take the extra event out."""
        if not self.asked.ask.stream or self.asked.ask.wants_usage or self.attempt.without_option:
            return False
        return self.began_s >= self.plan.lesson.no_usage_option_until_s

    @property
    def output_tokens_to_set(self) -> int | None:
        """The output maximum to write into the request; None: the client's own, or none, stands."""
        demand = self.plan.demand
        if self.held.capped or (demand.output_tokens_injected and self.plan.bounded):
            return self.held.output_tokens
        return None

    @property
    def output_tokens_sent(self) -> int | None:
        """The output maximum that the provider was told, whoever named it; None: none."""
        ours, clients = self.output_tokens_to_set, self.asked.ask.output_tokens_max
        return clients if ours is None or (clients is not None and clients < ours) else ours

    @property
    def held_output_tokens(self) -> int:
        """Over all choices."""
        return self.held.output_tokens * self.plan.demand.output_multiplier

    def latency_ms(self, now_s: float) -> int:
        return round((now_s - self.began_s) * 1000)

    @property
    def first_byte_after_s(self) -> float | None:
        return None if self.first_byte_s is None else self.first_byte_s - self.began_s

    @property
    def ttft_ms(self) -> int | None:
        """Of an answer that is no stream, or in which no token was seen: until its first byte."""
        first_s = self.first_token_s or self.first_byte_s
        return None if first_s is None else round((first_s - self.began_s) * 1000)
