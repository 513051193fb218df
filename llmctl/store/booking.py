"""What goes into the ledger: a call that wants to start, one that is open, and one that ended.

Several are made for every call: msgspec's structs take a tenth of a frozen dataclass's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from llmctl.domain.demand import Demand
from llmctl.domain.errors import Refused
from llmctl.domain.limit import MEASURES, Limit, Measure
from llmctl.domain.principal import Caller
from llmctl.domain.usage import NO_USAGE, Usage, UsageSource

Amounts = Mapping[Measure, int]  # what a call counts in a limit on each measure
_NOTHING: Amounts = dict.fromkeys(MEASURES, 0)


class Opening(msgspec.Struct, frozen=True, gc=False):
    """A call before it is sent. Attribution is frozen here: it belongs to this caller and to `started_at_ms`."""

    call_id: int
    started_at_ms: int
    caller: Caller
    provider: str
    model: str  # upstream model
    dialect: str
    endpoint: str
    request_model: str
    stream: bool
    demand: Demand
    price_id: int | None  # None: unpriced
    end_user: str = ""
    tags: str = ""  # joined by commas
    attempt_of: int | None = None  # the call that this one is another attempt of
    # The end of the attempt before, which holds until then: booked if this one is let in, in the same transaction.
    replaces: Closing | None = None


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What the provider keeps of a call, and gives out by this id to whoever shows the account's credential."""

    id: str
    credential: str  # its fingerprint


class Deferral(msgspec.Struct, frozen=True, gc=False):
    """A call whose answer is only an id: it goes on at the provider, and stays open until its usage is known."""

    call_id: int
    kept: Kept
    status: int | None  # HTTP status that the client got


class Closing(msgspec.Struct, frozen=True, gc=False):
    """The end of a call. `settled`: it reached the provider; `released`: it never did, and costs nothing."""

    call_id: int
    state: Literal["settled", "released"]
    status: int | None = None  # HTTP status that the client got; None: it was gone
    error: str = ""
    usage: Usage = NO_USAGE
    usage_source: UsageSource | None = None  # None: there was nothing to report
    cost_nano_usd: int | None = 0  # None: unpriced
    price_id: int | None = None  # None with a cost: the provider stated it
    own_cost_nano_usd: int | None = None  # then: what it would have cost by our own price
    own_price_id: int | None = None
    service_tier: str = ""  # as served; "" = standard
    raw_usage: str = ""
    response_model: str = ""
    latency_ms: int | None = None
    ttft_ms: int | None = None
    kept: Kept | None = None
    part_ids: tuple[str, ...] = ()  # of what is in it, or was made for it
    deleted: int = 0  # the call whose object was deleted by this one
    deferred: bool = False  # another process may end it as well: the file says whether it is still open

    @property
    def settled(self) -> Amounts:
        if self.state == "released":
            return _NOTHING
        return {
            "cost": self.cost_nano_usd or 0,
            "tokens": self.usage.total_tokens,
            "requests": 1,
            "concurrency": 0,
        }

    @property
    def sums(self) -> tuple[int, ...]:
        """What it adds to the roll-ups: SUMS of store/fold.py."""
        usage = self.usage
        return (
            1 if self.state == "settled" else 0,
            1 if self.error or (self.status or 0) >= 400 else 0,
            1 if self.usage_source == "estimated" else 0,
            1 if self.cost_nano_usd is None else 0,
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            self.cost_nano_usd or 0,
        )


class OpenCall(msgspec.Struct, frozen=True, gc=False):
    """What settling needs of a call that is open: to whom it is booked, and what it holds."""

    call_id: int
    started_at_ms: int
    settings_version: int  # `limits` are as of this version
    limits: tuple[Limit, ...]
    lineage: tuple[int, ...]
    lineage_id: int
    user_id: int
    key_id: int
    end_user_id: int
    model_id: int
    provider: str
    model: str
    held_nano: int
    held_input_tokens: int
    held_output_tokens: int  # over all choices

    @property
    def started_at_s(self) -> int:
        return self.started_at_ms // 1000

    @property
    def held(self) -> Amounts:
        return {"cost": self.held_nano, "tokens": self.held_tokens, "requests": 1, "concurrency": 1}

    @property
    def held_tokens(self) -> int:
        return self.held_input_tokens + self.held_output_tokens

    def covers(self, closing: Closing) -> bool:
        """Whether what it used is within what was held for it."""
        return (closing.cost_nano_usd or 0) <= self.held_nano and closing.usage.total_tokens <= self.held_tokens


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A call that was not let through: by a limit, or before (model not allowed, unknown model, ...)."""

    call_id: int
    started_at_ms: int
    caller: Caller
    dialect: str
    endpoint: str
    request_model: str
    stream: bool
    refused: Refused
    status: int
    end_user: str = ""


class Held(msgspec.Struct, frozen=True, gc=False):
    """The hold is on disk: the call may go. `output_tokens` is the maximum per choice that was held; `passed`: soft
    limits that were spent before it."""

    output_tokens: int
    capped: bool
    held_nano_usd: int
    passed: tuple[int, ...] = ()


# What a hold can end with. None: the settings changed since the caller was read; look again and ask again.
HoldResult = Held | Refused | None
