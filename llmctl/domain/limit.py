"""Limits and the one decision: does the worst case of a call fit into what is left of every limit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from .access import covers
from .errors import Refused
from .money import AMOUNT_NANO_MAX, usd_fine, usd_plain, usd_set
from .scope import Scope
from .window import Window

if TYPE_CHECKING:
    from .demand import Demand

Measure = Literal["cost", "tokens", "requests", "concurrency"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Each = Literal["", "user", "end_user"]

EACH = ", each "  # between what a limit is on and its members, where people read it

RETRY_S_MAX = 60  # SDKs obey longer waits to the letter: a reset further away is "spent", not "retry"
_FINAL_FIRST = ("request_exceeds_limit", "limit_spent", "rate_limited", "limit_held")
HELD_RETRY_S = 2  # open calls settle within seconds; the SDKs' own back-off does the rest
HOLD_MAX = AMOUNT_NANO_MAX // 1_000  # a million dollars a call: thousands at once add up inside SQLite's 63 bits


@dataclass(frozen=True, slots=True)
class Extra:
    """What a limit allows more until a moment: to one member, or (0) to all."""

    member_id: int
    amount: int
    until_s: int


@dataclass(frozen=True, slots=True)
class Limit:
    """Principal + measure + amount + window. `amount` is nano-USD, tokens, calls, or calls at once."""

    id: int
    scope: Scope
    each: Each
    measure: Measure
    window: Window
    zone: str
    model_pattern: str  # "" = every model
    amount: int
    soft: bool
    created_at_s: int = 0
    extras: tuple[Extra, ...] = ()

    @property
    def on(self) -> str:
        """For people: `organisation`, `group sales, each user`."""
        return f"{self.scope.label}{of_each(self.each)}"

    @property
    def on_name(self) -> str:
        """The same where it is plain what has such a name: `organisation`, `sales, each user`."""
        return f"{self.scope.name or self.scope.label}{of_each(self.each)}"


def of_each(each: str) -> str:
    """`, each end-user`: what names the members of a limit, after what it is on."""
    return f"{EACH}{each.replace('_', '-')}" if each else ""


@dataclass(slots=True)
class Standing:
    """A limit in its current window, for one member: what is settled and what open calls hold.

    Not frozen: calls that are decided in one batch move it one after another. Of a window that slides, the row that
    begins at `window_start_s` is its own part; `others_*` are what the parts beside it add to `settled` and `held`.
    """

    limit: Limit
    member_id: int
    window_start_s: int
    window_end_s: int | None
    settled: int
    held: int
    others_settled: int = 0
    others_held: int = 0
    extra: int = 0  # granted for now

    @property
    def amount(self) -> int:
        return self.limit.amount + self.extra

    def grant(self, now_s: int) -> None:
        """Counts what is granted at this moment."""
        self.extra = sum(
            extra.amount
            for extra in self.limit.extras
            if extra.until_s > now_s and extra.member_id in (0, self.member_id)
        )

    def add_others(self, settled: int, held: int) -> None:
        """What the other parts of a sliding window count."""
        self.settled += settled
        self.held += held
        self.others_settled += settled
        self.others_held += held

    @property
    def own(self) -> tuple[int, int]:
        """Settled and held without what the other parts count."""
        return self.settled - self.others_settled, self.held - self.others_held

    @property
    def left(self) -> int:
        return self.limit.amount + self.extra - self.settled - self.held


class Admitted(NamedTuple):
    """The call may go. `output_tokens` is the maximum per choice that was held; `capped`: lower than asked for;
    `passed`: soft limits, by their ids, that were spent before it."""

    output_tokens: int
    capped: bool
    passed: tuple[int, ...] = ()


def binds(limit: Limit, provider: str, model: str, sold_as: str = "") -> bool:
    """Whether calls of the model pass only with a worst case, in money or in tokens, that fits into this limit."""
    if limit.soft or limit.measure not in ("cost", "tokens"):
        return False
    return not limit.model_pattern or covers(limit.model_pattern, provider, model, sold_as)


def needed(limit: Limit, demand: Demand, output_tokens: int) -> int:
    """What a call with this output maximum takes from the limit, in the limit's own unit."""
    if limit.measure == "cost":
        return demand.cost_nano_usd(output_tokens)
    if limit.measure == "tokens":
        return demand.tokens(output_tokens)
    return 0 if demand.reads and limit.measure == "concurrency" else 1


def decide(standings: Sequence[Standing], demand: Demand, *, share_percent: int, now_s: int) -> Admitted | Refused:
    """Admit, admit with a lower output maximum, or refuse. All limits that apply are checked; there is no precedence.

    `share_percent` is how much of what is left a capped call may take, so that one caller does not take all of it.
    """
    output_tokens = demand.output_tokens
    cost_nano, tokens = demand.cost_nano_usd(output_tokens), demand.tokens(output_tokens)
    refusals: list[Refused] = []
    passed: tuple[int, ...] = ()
    for standing in standings:
        limit = standing.limit
        if limit.soft:
            passed = (*passed, limit.id) if standing.left <= 0 else passed
            continue
        if limit.measure == "cost":
            wanted = cost_nano
        else:
            wanted = tokens if limit.measure == "tokens" else needed(limit, demand, output_tokens)
        if wanted <= 0 or wanted <= standing.left:  # what costs nothing always fits
            continue
        fitting = _largest_fitting(standing, demand, share_percent)
        if fitting is None:
            refusals.append(refusal(standing, demand, now_s))
        elif fitting < output_tokens:
            output_tokens = fitting
            cost_nano, tokens = demand.cost_nano_usd(output_tokens), demand.tokens(output_tokens)
    if refusals:
        # Of several, the one that waiting helps least: a client must not retry what stays spent.
        return min(refusals, key=lambda refused: _FINAL_FIRST.index(refused.code))
    if cost_nano > HOLD_MAX or tokens > HOLD_MAX:
        return Refused("bad_request", "this call could cost more than a million dollars", hint="ask for less output")
    return Admitted(output_tokens, output_tokens < demand.output_tokens, passed)


def _largest_fitting(standing: Standing, demand: Demand, share_percent: int) -> int | None:
    """The output maximum that fits, at least the demand's minimum; None if not even that does."""
    smallest = needed(standing.limit, demand, demand.output_tokens_min)
    if smallest > standing.left:
        return None
    budget = max(standing.left * share_percent // 100, smallest)
    if standing.limit.measure == "cost":
        fitting = demand.output_tokens_for_cost(budget)
    elif standing.limit.measure == "tokens":
        fitting = demand.output_tokens_for_tokens(budget)
    else:
        fitting = demand.output_tokens
    return max(demand.output_tokens_min, min(fitting, demand.output_tokens))


def refusal(standing: Standing, demand: Demand, now_s: int) -> Refused:
    """The refusal of a call whose smallest useful form does not fit: too large for ever, spent, or only held."""
    limit = standing.limit
    least = needed(limit, demand, demand.output_tokens_min)
    facts: dict[str, object] = {
        "limit": f"l{limit.id}",
        "on": limit.on,
        "measure": limit.measure,
        "window": limit.window,
        "amount": _exact(limit, standing.amount),
        "spent": _exact(limit, standing.settled),
        "held": _exact(limit, standing.held),
        "needed": _exact(limit, least),
        "resets_at_s": standing.window_end_s,
    }
    name = f"limit l{limit.id} ({limit.on}{', ' + limit.model_pattern if limit.model_pattern else ''})"
    if limit.measure == "concurrency":
        if standing.amount == 0:
            return Refused("limit_spent", f"{name} allows no calls", hint="ask your admin to raise it", facts=facts)
        return Refused(
            "rate_limited",
            f"{name}: {standing.amount} at once, all in use",
            hint="retry when an open call has ended",
            retry_after_s=1,
            facts=facts,
        )
    numbers = (
        f"{_set(limit, standing.amount)}{_per(limit)}, {_short(limit, standing.settled)} spent, "
        f"{_short(limit, standing.held)} held by open calls, {_short(limit, max(0, standing.left), 'down')} left; "
        f"this call needs up to {_short(limit, least, 'up')}"
    )
    if least > standing.amount and standing.amount > 0:
        return Refused(
            "request_exceeds_limit",
            f"this call alone exceeds {name}: {numbers}",
            hint="send a shorter request, or ask your admin to raise the limit",
            facts=facts,
        )
    reset_s = None if standing.window_end_s is None else standing.window_end_s - now_s
    if reset_s is not None and limit.window == "minute":  # it slides: some of it comes back sooner
        reset_s = min(reset_s, RETRY_S_MAX)
    # A request that is open will count: of those nothing is given back.
    if standing.settled + least <= standing.amount and limit.measure != "requests":
        return Refused(
            "limit_held",
            f"{name} is held by open calls: {numbers}",
            hint="retry shortly: what open calls do not use is given back",
            retry_after_s=HELD_RETRY_S,
            facts=facts,
        )
    if reset_s is not None and reset_s <= RETRY_S_MAX and standing.amount > 0:
        return Refused(
            "rate_limited",
            f"{name} is spent: {numbers}",
            hint=f"it resets in {max(1, reset_s)} s",
            retry_after_s=max(1, reset_s),
            facts=facts,
        )
    return Refused(
        "limit_spent",
        f"{name} is spent: {numbers}",
        hint=f"{_resets(standing)}; or ask your admin to raise it",
        facts=facts,
    )


def _resets(standing: Standing) -> str:
    if standing.window_end_s is None:
        return "it never resets"
    return f"it resets at {datetime.fromtimestamp(standing.window_end_s, ZoneInfo(standing.limit.zone)).isoformat()}"


def _per(limit: Limit) -> str:
    return " in total" if limit.window == "total" else f" per {limit.window}"


def _set(limit: Limit, amount: int) -> str:
    return usd_set(amount) if limit.measure == "cost" else _short(limit, amount)


def _short(limit: Limit, amount: int, rounded: Literal["", "up", "down"] = "") -> str:
    if limit.measure == "cost":
        return usd_fine(amount, rounded)
    return f"{amount:,} {limit.measure.removesuffix('s') if amount == 1 else limit.measure}"


def _exact(limit: Limit, amount: int) -> str | int:
    return usd_plain(amount) if limit.measure == "cost" else amount
