"""`llmctl limit set --dry-run`: what a limit would have done to the calls that were made."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from llmctl.domain.money import usd_exact
from llmctl.domain.window import window_start

from . import humanize
from .overview import limit_text, on_values
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.domain.limit import Limit
    from llmctl.store.database import Tx
    from llmctl.store.trials import Tried

    from .context import App


def show(run: App, tx: Tx, limit: Limit, *, told: str) -> None:
    """For last month and for this one, as the limit's zone has them."""
    from llmctl.store import trials

    zone = ZoneInfo(limit.zone)
    month_s = window_start("month", zone, run.now_s)
    before_s = window_start("month", zone, month_s - 1)
    last, this = trials.tried(tx, limit, [(before_s, month_s), (month_s, run.now_s + 1)])
    did = "would have told of" if limit.soft else "would have refused"
    lines = [
        f"{told}{limit_text(limit)} on {limit.on} {did} {_text(last)} last month, {_text(this)} this month.",
        "By what each call really used. Nothing was set.",
    ]
    if not last.complete:
        lines.append("! Some calls of that time are forgotten (llmctl prune): it would have been more.")
    values = {
        **on_values(limit),
        "measure": limit.measure,
        "amount": usd_exact(limit.amount) if limit.measure == "cost" else limit.amount,
        "window": limit.window,
        "models": limit.model_pattern or None,
        "soft": limit.soft,
        "dry_run": True,
        "last_month": _values(last),
        "this_month": _values(this),
    }
    run.out.one(values, "\n".join(lines))


def _text(tried: Tried) -> str:
    cost = f" ({humanize.usd(tried.refused_nano)})" if tried.refused_nano else ""
    return f"{tried.refused:,} of {humanize.plural(tried.calls, 'call')}{cost}"


def _values(tried: Tried) -> dict[str, object]:
    return {
        "since": rfc3339(tried.since_s),
        "until": rfc3339(tried.until_s),
        "calls": tried.calls,
        "refused": tried.refused,
        "refused_cost_usd": usd_exact(tried.refused_nano),
        "complete": tried.complete,
    }
