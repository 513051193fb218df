"""What an admin is told without asking. Each is told once: its key names the crossing, not when it was noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from .hints import price_set
from .limit import Standing
from .money import usd_short
from .window import MINUTE_S

KINDS = ("limit", "runaway", "provider", "unpriced", "test")
DAY_S = 86_400
HOUR_S = 3_600
FAILING_CALLS_MIN = 10  # in a minute: fewer say nothing of a provider
FAILING_SHARE = 2  # every second call
RUNAWAY_PAST_S_MIN = DAY_S  # who spends for less long than that has no past to be compared with
_SPENT = {"cost": "spent", "tokens": "used", "requests": "made"}


@dataclass(frozen=True, slots=True)
class Alert:
    """`kind`: one of KINDS. `key` is the same for the same crossing, seen again. `outdone_by`: the keys of those after
    which this one is no news."""

    kind: str
    key: str
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)
    outdone_by: Sequence[str] = ()


def limit_crossed(standing: Standing, percents: Sequence[int], member: str = "") -> Alert | None:
    """The highest of these shares of a limit that is gone now; None: not even the lowest, or a limit of a moment."""
    limit, amount = standing.limit, standing.amount
    if limit.measure == "concurrency" or limit.window == "minute" or amount <= 0:
        return None
    gone = [percent for percent in percents if standing.settled * 100 >= percent * amount]
    if not gone:
        return None
    percent = max(gone)
    on = limit.on if not member else f"{limit.on}: {member}"
    models = f" for {limit.model_pattern}" if limit.model_pattern else ""
    spent, whole = _amount(limit.measure, standing.settled), _amount(limit.measure, amount)
    window = "in total" if limit.window == "total" else f"per {limit.window}"
    text = (
        f"{percent} % of limit l{limit.id} ({on}{models}) is gone: {spent} of {whole} {window} {_SPENT[limit.measure]}"
    )
    if standing.window_end_s is not None:
        until = datetime.fromtimestamp(standing.window_end_s, ZoneInfo(limit.zone))
        text += f"; it resets {until:%a %d %b %H:%M %Z}"
    facts = {
        "limit": f"l{limit.id}",
        "on": limit.on,
        "member": member or None,
        "measure": limit.measure,
        "window": limit.window,
        "percent": percent,
        "spent": standing.settled,
        "amount": amount,
        "soft": limit.soft,
    }
    # An amount that was raised can be crossed again. A lower share comes after a higher one where calls are repriced.
    crossing = f"limit/{limit.id}/{standing.member_id}/{standing.window_start_s}/{amount}"
    higher = [f"{crossing}/{other}" for other in percents if other > percent]
    return Alert("limit", f"{crossing}/{percent}", text, facts, higher)


@dataclass(frozen=True, slots=True)
class Pace:
    """What somebody spent in the last hour, and before. Nano-USD; `past_s` is the time that `past_nano_usd` took."""

    on: str  # "organisation", "user alice"
    last_hour_nano_usd: int
    past_nano_usd: int
    past_s: int


def runaway(pace: Pace, *, factor: int, nano_usd_min: int, now_s: int) -> Alert | None:
    """Spending that leaves its own past behind: an hour that cost `factor` times the usual hour, and no trifle."""
    if pace.last_hour_nano_usd < nano_usd_min or pace.past_s < RUNAWAY_PAST_S_MIN:
        return None
    if pace.last_hour_nano_usd * pace.past_s < factor * pace.past_nano_usd * HOUR_S:
        return None
    usual = pace.past_nano_usd * HOUR_S // pace.past_s
    text = f"{pace.on} spent {usd_short(pace.last_hour_nano_usd)} in the last hour; usual is {usd_short(usual)} an hour"
    facts = {"on": pace.on, "last_hour_nano_usd": pace.last_hour_nano_usd, "usual_hour_nano_usd": usual}
    return Alert("runaway", f"runaway/{pace.on}/{now_s // DAY_S}", text, facts)


def failing(provider: str, *, calls: int, failed: int, now_s: int) -> Alert | None:
    """A provider of whose calls in the last minute every second one failed or more. Once an hour while it lasts."""
    if calls < FAILING_CALLS_MIN or failed * FAILING_SHARE < calls:
        return None
    text = f"provider {provider} fails: {failed} of {calls} calls in the last {MINUTE_S} s"
    facts = {"provider": provider, "calls": calls, "failed": failed}
    return Alert("provider", f"provider/{provider}/{now_s // HOUR_S}", text, facts)


def unpriced(model: str, *, now_s: int) -> Alert:
    """A model without a price was called: no limit on money sees it. Once a day."""
    text = f"calls of {model} have no price; give it one: {price_set(model)}"
    return Alert("unpriced", f"unpriced/{model}/{now_s // DAY_S}", text, {"model": model})


def _amount(measure: str, amount: int) -> str:
    return usd_short(amount) if measure == "cost" else f"{amount:,} {measure}"
