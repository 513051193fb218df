"""`llmctl status`: is it up, and is anything near its end?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import context
from .command import single

if TYPE_CHECKING:
    from llmctl.store.usage import Sums

    from .context import App
    from .state import Daemon, Near

app, command = single("status")


@command
def status(ctx: typer.Context) -> None:
    """Show whether the gateway is up and since when, open calls, today's spend, limits near their end, the database."""
    from llmctl.domain.money import usd_exact, usd_short
    from llmctl.store import database, live

    from . import humanize, state, times

    run = context.of(ctx)
    with run.reading() as tx:
        open_calls, held = live.open_calls(tx)
        today = state.today(run, tx)
        near = [one for one in state.nearest(run, tx) if one.percent >= state.NEAR_PERCENT]
    daemon = state.daemon(run)
    size, schema = database.file_bytes(run.config.database), database.schema_version()
    run.out.result(
        {
            "gateway": daemon.state,
            "reason": daemon.reason or None,
            "since": times.rfc3339(daemon.since_s or None),
            "workers": daemon.workers,
            "listen": " and ".join(url.partition("://")[2] or url for url in run.urls),
            "open_calls": open_calls,
            "held_usd": usd_exact(held),
            "today": _today_values(today),
            "limits_near": [_near_values(one, run.now_s) for one in near],
            "database": str(run.database),
            "database_bytes": size,
            "schema": schema,
        },
        [
            ("Gateway", _daemon_text(run, daemon)),
            ("Open", f"{humanize.plural(open_calls, 'call')}, {usd_short(held)} held"),
            ("Today", _today_text(today)),
            ("Limits", [_near_text(one, run) for one in near] or [f"none above {state.NEAR_PERCENT}%"]),
            ("Database", f"{run.database}, {humanize.size(size)}, schema {schema}"),
        ],
    )


def _daemon_text(run: App, daemon: Daemon) -> str:
    from . import humanize, times

    if daemon.state == "stopped":
        return "not running: llmctl serve"
    parts = [f"not ready ({daemon.reason})" if daemon.reason else "ready"]
    if daemon.since_s:
        moment = times.moment_short(daemon.since_s, run.zone, run.now_s)
        parts.append(f"since {moment} ({humanize.span(run.now_s - daemon.since_s)})")
    if daemon.workers > 1:
        parts.append(humanize.plural(daemon.workers, "worker"))
    return ", ".join([*parts, " and ".join(run.urls)])


def _today_values(today: Sums) -> dict[str, object]:
    from llmctl.domain.money import usd_exact

    cost = today.known_cost_nano_usd
    return {
        "calls": today.calls,
        "errors": today.errors,
        "estimated_calls": today.estimated_calls,
        "unpriced_calls": today.unpriced_calls,
        "input_tokens": today.input_tokens,
        "output_tokens": today.output_tokens,
        "cost_usd": None if cost is None else usd_exact(cost),
    }


def _today_text(today: Sums) -> str:
    from . import humanize

    parts = [humanize.plural(today.calls, "call")]
    if today.calls:
        parts.append(humanize.usd(today.known_cost_nano_usd))
    for count, word in (
        (today.errors, "failed"),
        (today.estimated_calls, "estimated"),
        (today.unpriced_calls, "without a price"),
    ):
        if count:
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def _near_values(near: Near, now_s: int) -> dict[str, object]:
    from . import state, times
    from .overview import limit_values

    return {
        **limit_values(near.standing, near.member),
        "used_percent": near.percent,
        "runs_out_at_linear": times.rfc3339(state.runs_out_s(near, now_s)),
    }


def _near_text(near: Near, run: App) -> str:
    from zoneinfo import ZoneInfo

    from . import state, times

    amount = near.standing.amount
    held = ", with what open calls hold" if near.standing.settled < amount <= near.used else ""
    at_s = state.runs_out_s(near, run.now_s)
    ends = ""
    if at_s is not None and at_s > run.now_s:
        zone = ZoneInfo(near.standing.limit.zone)
        ends = f", runs out about {times.moment_short(at_s, zone, run.now_s)} (linear)"
    return f"{near.percent}% of {near.text}, {near.on}{held}{ends}"
