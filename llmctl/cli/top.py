"""`llmctl top`: what goes on now, live."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from . import context
from .command import single
from .errors import UsageMistake

if TYPE_CHECKING:
    from llmctl.store.database import Tx

    from .context import App
    from .top_view import Moment, Standing, Widths

app, command = single("top")

SPAN = "5m"
SPAN_S_MAX = 3_600
EVERY = "2"
EVERY_S_MIN, EVERY_S_MAX = 0.2, 3_600.0
SLOW_S = 0.25  # a reading that takes longer is made over a shorter time: watching must not be work
SPAN_SLOW_S = 60
STANDING_EVERY_S = 10.0  # limits on each user cost more to read
LISTED_MAX = 50
PIPED_COLUMNS = 120
QUIT = ("q", "Q", "\x1b")


@command
def top(
    ctx: typer.Context,
    last: Annotated[str, typer.Option("--last", metavar="SPAN", help="Of which time: 1m, 5m ... 1h.")] = SPAN,
    every: Annotated[str, typer.Option("--every", metavar="SECONDS", help="How often to look.")] = EVERY,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
) -> None:
    """Watch what goes on: calls and spend a minute, top users and models, limits near their end, failures. q ends it.

    In a pipe, or with -o json, it looks once.
    """
    from . import times
    from .top_view import lines, values

    run = context.of(ctx)
    span_s, every_s = times.duration_s(last), _seconds(every)
    if not 60 <= span_s <= SPAN_S_MAX:
        raise UsageMistake(f"--last {last} is not possible", hint="write 1m to 1h")
    watch = Watch(run, span_s)
    if run.out.format != "table":
        run.out.one(values(watch.look()), "")
    elif once or not _can_draw(run):
        shown = lines(watch.look(), run.out, run.out.width or PIPED_COLUMNS, None, {})
        run.out.line("\n".join(line.rstrip() for line in shown))
    else:
        _draw(run, watch, every_s)


class Watch:
    """Looks at the database again and again; at what moves slowly, less often."""

    def __init__(self, run: App, span_s: int) -> None:
        self._run = run
        self._span_s = span_s
        self._standing: Standing | None = None
        self._standing_at_s = 0.0

    def look(self) -> Moment:
        from llmctl.store import live

        from .top_view import Moment

        began_s = time.monotonic()
        now_s = int(self._run.clock_s())
        with self._run.reading() as tx:
            now = live.live(tx, now_s=now_s, span_s=self._span_s, rows_max=LISTED_MAX)
            if time.monotonic() - began_s > SLOW_S:
                self._span_s = min(self._span_s, SPAN_SLOW_S)
            if self._standing is None or began_s - self._standing_at_s >= STANDING_EVERY_S:
                self._standing, self._standing_at_s = self._look_at_standing(tx), began_s
        return Moment(now_s, self._run.zone, now, self._standing)

    def _look_at_standing(self, tx: Tx) -> Standing:
        from . import state
        from .top_view import Standing

        run = self._run
        return Standing(state.daemon(run), state.today(run, tx), state.spend_by_hour(run, tx), state.nearest(run, tx))


def _draw(run: App, watch: Watch, every_s: float) -> None:
    from .screen import Killed, Screen
    from .top_view import lines

    try:
        with Screen() as screen:
            widths: Widths = {}
            while True:
                moment, next_s = watch.look(), time.monotonic() + every_s
                while (left_s := next_s - time.monotonic()) > 0:
                    width, height = screen.size
                    screen.draw(lines(moment, run.out, width, height, widths))
                    if screen.wait(left_s) in QUIT:
                        return
    except Killed as killed:
        # As if nobody had caught it: whoever waits for this process sees what ended it.
        signal.signal(killed.signum, signal.SIG_DFL)
        os.kill(os.getpid(), killed.signum)


def _can_draw(run: App) -> bool:
    return run.out.width is not None and sys.stdin.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not EVERY_S_MIN <= seconds <= EVERY_S_MAX:
        raise UsageMistake(f"--every {text} is not possible", hint="write seconds: 2, or 0.5")
    return seconds
