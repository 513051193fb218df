"""How things stand now, for `status` and `top`: the daemon, today, and the limits that are nearest to their end."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmctl.config.server import Address, parse_address
from llmctl.domain.forecast import forecast
from llmctl.domain.limit import Standing
from llmctl.domain.window import window_start
from llmctl.store import limits, owners, serving, standings
from llmctl.store import usage as reports
from llmctl.store.filters import Filters
from llmctl.store.usage import Sums

from . import humanize
from .text import safe

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App

ASK_TIMEOUT_S = 0.5
ANSWER_BYTES_MAX = 300
HOURS = 24
NEAR_PERCENT = 80  # of a limit: from here on it is worth a line


@dataclass(frozen=True, slots=True)
class Daemon:
    """`stopped`: no living process has the database; `not_ready` says why one that lives serves nobody."""

    state: Literal["ready", "not ready", "stopped"]
    reason: str
    workers: int
    since_s: int  # of the oldest process; 0: unknown


def daemon(run: App) -> Daemon:
    living = owners.living(run.config.database)
    if not living:
        return Daemon("stopped", "", 0, 0)
    since_s = min(one.since_s for one in living)
    said = [parse_address(one.admin) for one in serving.daemons(run.config.database) if one.admin]
    reasons = [_not_ready(address) for address in said or [run.config.server.admin_listen] if address.port]
    reason = reasons[0] if all(reasons) and reasons else ""  # one of several is enough: a blue and a green one
    return Daemon("not ready" if reason else "ready", reason, len(living), since_s)


def _not_ready(address: Address) -> str:
    """What /readyz says; "" if it is ready."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - where to ask it
    connection = http.client.HTTPConnection(host, address.port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = safe(answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").strip())
        return "" if answer.status == http.client.OK else said or f"HTTP {answer.status}"
    except (OSError, http.client.HTTPException):
        return f"no answer from http://{address}/readyz"
    finally:
        connection.close()


def today(run: App, tx: Tx) -> Sums:
    """What was used today, in the organisation's zone."""
    start_s = window_start("day", run.zone, int(run.clock_s()))
    return reports.total(reports.report(tx, Filters(start_s, int(run.clock_s()) + 1), [], run.zone))


def spend_by_hour(run: App, tx: Tx) -> list[int]:
    """Nano-USD in each of the last 24 hours, the one that goes on included."""
    now_s = int(run.clock_s())
    first_s = window_start("hour", run.zone, now_s) - (HOURS - 1) * 3_600
    rows = reports.report(tx, Filters(first_s, now_s + 1), ["hour"], run.zone)
    hours = [0] * HOURS
    for row in rows:
        hours[min(HOURS - 1, ((row.cells[0].start_s or first_s) - first_s) // 3_600)] += row.sums.cost_nano_usd
    return hours


@dataclass(frozen=True, slots=True)
class Near:
    """A limit, for the member who has the least left of it."""

    standing: Standing
    member: str

    @property
    def on(self) -> str:
        """`sales`, `alice (sales, each user)`."""
        on = self.standing.limit.on_name
        return f"{self.member} ({on})" if self.member else on

    @property
    def text(self) -> str:
        """`$120.00/month gpt-5`, with what is granted for now."""
        limit = self.standing.limit
        models = f" {limit.model_pattern}" if limit.model_pattern else ""
        return humanize.limit_text(limit.measure, self.standing.amount, limit.window) + models

    @property
    def used(self) -> int:
        """In the limit's measure: settled, and held by open calls."""
        return self.standing.settled + self.standing.held

    @property
    def percent(self) -> int:
        amount = self.standing.amount
        return 100 * self.used // amount if amount else 100


def runs_out_s(near: Near, now_s: int) -> int | None:
    """When nothing is left of it, if spending goes on as it has in its window; None: not before that ends."""
    found = forecast(near.standing, now_s)
    return found.runs_out_s if found is not None else None


def nearest(run: App, tx: Tx) -> list[Near]:
    """All limits, the nearest to its end first."""
    now_s = int(run.clock_s())
    found = [standings.now(tx, limit, now_s) for limit in limits.listing(tx, default_zone=run.config.timezone)]
    return sorted((Near(one.standing, one.member) for one in found), key=lambda near: -near.percent)
