"""How single calls look, in a list and as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmctl.domain.money import usd_exact, usd_short
from llmctl.domain.usage import USAGE_CLASSES
from llmctl.store import calls as store
from llmctl.store.calls import Call, CallFilters
from llmctl.store.keys import DEFAULT_NAME

from . import humanize, times
from .render import Column

if TYPE_CHECKING:
    from .context import App

POLL_S = 0.5
PAGE = 500
# Workers commit side by side: a call may appear after one with a higher id. This far back is looked again.
OVERLAP_S = 10
RECENT_MAX = 100_000
PENDING_MAX = 10_000  # open calls that are watched from the start


def columns(run: App, zone: ZoneInfo) -> tuple[Column[Call], ...]:
    return (
        Column("id", lambda c: c.id, "ID", fixed=True),
        Column("attempt_of", lambda c: c.attempt_of),
        Column("started_at", lambda c: times.rfc3339_ms(c.started_at_ms)),
        Column("time", None, times.heading("TIME", zone), lambda c: _time(c, zone, run.now_s), fixed=True, late=True),
        Column("user", lambda c: c.user),
        Column("group", lambda c: c.group),
        Column("key", lambda c: c.key, "KEY", _key),
        Column("key_id", lambda c: c.key_id),
        Column("end_user", lambda c: c.end_user),
        Column("tags", lambda c: list(c.tags)),
        Column("provider", lambda c: c.provider, "PROVIDER", drop=3),
        Column("model", lambda c: c.model),
        Column("routed", None, "MODEL", _model, least=8, keeps_end=True),
        Column("dialect", lambda c: c.dialect),
        Column("endpoint", lambda c: c.endpoint, "ENDPOINT", drop=5),
        Column("request_model", lambda c: c.request_model),
        Column("response_model", lambda c: c.response_model),
        Column("stream", lambda c: c.stream),
        Column("state", lambda c: c.state),
        Column("status", lambda c: c.status),
        Column("error", lambda c: c.error),
        Column("usage_source", lambda c: c.usage_source),
        *(_usage(name) for name in USAGE_CLASSES),
        Column("input", None, "INPUT", lambda c: _count(c, c.usage.input_tokens), right=True, drop=2),
        Column("output", None, "OUTPUT", lambda c: _count(c, c.usage.output_tokens), right=True, drop=1),
        Column("cost_usd", lambda c: _exact(c), "COST", _cost, right=True),
        Column("price_source", lambda c: c.price_source),
        Column("own_cost_usd", lambda c: None if c.own_cost_nano_usd is None else usd_exact(c.own_cost_nano_usd)),
        Column("service_tier", lambda c: c.service_tier),
        Column("held_usd", lambda c: usd_exact(c.held_nano_usd)),
        Column(
            "latency_ms",
            lambda c: c.latency_ms,
            "LATENCY",
            lambda c: humanize.milliseconds(c.latency_ms),
            right=True,
            drop=4,
        ),
        Column("ttft_ms", lambda c: c.ttft_ms),
        Column("result", None, "RESULT", result, least=19, keeps_end=True),  # the code of an error stands last
    )


def result(call: Call) -> str:
    """`ok`, `open`, or what went wrong; an estimate says so."""
    if call.state == "open":  # one with a status was answered, by an id: it goes on at the provider
        return "open" if call.status is None else "open, in the background"
    parts = []
    if call.state == "refused":
        parts.append("refused")
    elif call.state == "released":
        parts.append("not sent")
    if call.status is not None and (call.status >= 400 or call.error or parts):
        parts.append(str(call.status))
    if call.error:
        parts.append(call.error)
    elif call.status is None and not parts:
        parts.append("client gone")
    if call.usage_source == "estimated":
        parts.append("estimated")
    return " ".join(parts) or "ok"


def follow_calls(run: App, filters: CallFilters, first: Sequence[Call], zone: ZoneInfo) -> None:
    """Prints calls as they end, the oldest first, until Ctrl-C. Reads only: it never makes a call wait."""
    show = _printer(run, zone)
    # A call that is open may yet fail, or be estimated.
    begun = filters._replace(kinds=filters.kinds | {"open"}) if filters.kinds else filters
    with run.reading() as tx:
        waiting = store.newest(tx, filters._replace(kinds=frozenset({"open"})), calls_max=PENDING_MAX)
        last_id = max((call.call_id for call in (*first, *waiting)), default=store.newest_id_before(run.now_s))
        recent = store.after(tx, filters, call_id=store.step_back(last_id, OVERLAP_S), calls_max=RECENT_MAX)
    show([call for call in reversed(first) if call.state != "open"])
    seen = {call.call_id for call in (*first, *recent) if call.state != "open" and call.call_id <= last_id}
    pending = {call.call_id for call in (*first, *waiting)} - seen
    while True:
        floor = store.step_back(last_id, OVERLAP_S)
        with run.reading() as tx:
            looked_at = store.by_ids(tx, filters._replace(kinds=frozenset()), sorted(pending))
            new = store.after(tx, begun, call_id=floor, calls_max=PAGE + len(seen))
            over = {call.call_id for call in looked_at if call.state != "open"}
            ended = store.by_ids(tx, filters, sorted(over - seen))
        fresh = [call for call in new if call.call_id not in seen and call.call_id not in pending]
        pending = pending - over | {call.call_id for call in fresh if call.state == "open"}
        shown = [*ended, *(call for call in fresh if call.state != "open")]
        show(sorted(shown, key=lambda call: call.call_id))
        last_id = max([last_id, *(call.call_id for call in new)])
        seen = {call_id for call_id in (*seen, *over, *(call.call_id for call in shown)) if call_id > floor}
        if len(fresh) < PAGE:
            time.sleep(POLL_S)


def _printer(run: App, zone: ZoneInfo) -> Callable[[Sequence[Call]], None]:
    stream = run.out.stream(columns(run, zone))

    def show(calls: Sequence[Call]) -> None:
        if calls:
            stream(calls)

    return show


def _usage(name: str) -> Column[Call]:
    return Column(name, lambda call: getattr(call.usage, name))


def _time(call: Call, zone: ZoneInfo, now_s: int) -> str:
    moment = datetime.fromtimestamp(call.started_at_ms / 1000, zone)
    if moment.date() == datetime.fromtimestamp(now_s, zone).date():
        return f"{moment:%H:%M:%S}"
    return times.moment_short(call.started_at_ms // 1000, zone, now_s)


def _key(call: Call) -> str:
    """Most users have one key of the default name: then their own says all."""
    return call.user if call.key == f"{call.user}/{DEFAULT_NAME}" else call.key


def _model(call: Call) -> str:
    """Where it went; what was asked for where that says more (an alias)."""
    if call.model is None:
        return call.request_model
    asked_so = call.request_model in (call.model, f"{call.provider}/{call.model}")
    return call.model if asked_so else f"{call.request_model} = {call.model}"


def _count(call: Call, number: int) -> str:
    return "-" if call.state in ("open", "refused") else humanize.count(number)


def _cost(call: Call) -> str:
    if call.state == "open":
        # What has no price holds no money, and will not be free for that.
        is_unpriced = call.price_source is None and not call.held_nano_usd
        return "(unpriced)" if is_unpriced else f"({usd_short(call.held_nano_usd)})"
    if call.state == "refused":
        return "-"
    return humanize.usd(call.cost_nano_usd)


def _exact(call: Call) -> str | None:
    if call.state in ("open", "refused") or call.cost_nano_usd is None:
        return None
    return usd_exact(call.cost_nano_usd)
