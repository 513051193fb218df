"""`llmctl reload`: the running gateway reads its configuration anew."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import typer

from llmctl.domain.errors import ConfigError, LlmctlError

from . import context
from .command import single

if TYPE_CHECKING:
    from pathlib import Path

    from llmctl.store.serving import Daemon

WAIT_S = 30.0
LOOK_EVERY_S = 0.05

app, command = single("reload")


@command
def reload(ctx: typer.Context) -> None:
    """Have the running gateway read its configuration and credential files anew. No call is dropped.

    Calls under way go on with what they began with. If the configuration is wrong, the one of before stays. Where it
    listens, workers, the time zone and the database stay until a restart.
    """
    from llmctl.store import serving

    run = context.of(ctx)
    found = serving.daemons(run.database)
    if not found:
        hint = "llmctl serve starts one, with the configuration as it is then"
        raise LlmctlError(f"no gateway serves {run.database}", hint=hint, code="not_running")
    for daemon in found:
        _tell(daemon)
    ended = [_outcome(run.config.database, daemon) for daemon in found]
    for daemon in ended:
        if daemon.error:
            raise ConfigError(f"the configuration of before stays: {daemon.error}", hint="mend it, then reload again")
    notes = list(dict.fromkeys(note for daemon in ended for note in daemon.notes))
    values = {"reloaded": [daemon.pid for daemon in ended], "kept": notes}
    run.out.one(values, "Reloaded: the configuration holds for calls from now on.")
    for note in notes:
        run.out.prose(f"! {note}")


def _tell(daemon: Daemon) -> None:
    try:
        os.kill(daemon.pid, signal.SIGHUP)
    except PermissionError:
        raise LlmctlError(
            f"the gateway (process {daemon.pid}) is not yours to reload", hint="run it as its user: sudo -u llmctl ..."
        ) from None
    except ProcessLookupError:
        raise LlmctlError(
            f"no process {daemon.pid} here: does the gateway run in a container?", hint="reload it in there"
        ) from None


def _outcome(database: Path, before: Daemon) -> Daemon:
    """What became of it. Raises LlmctlError: it ended meanwhile, or says nothing."""
    from llmctl.store import serving

    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        now = [one for one in serving.daemons(database) if (one.pid, one.since_s) == (before.pid, before.since_s)]
        if not now:
            raise LlmctlError("the gateway ended meanwhile", hint="its log says why")
        if now[0].reloads > before.reloads:
            return now[0]
        time.sleep(LOOK_EVERY_S)
    raise LlmctlError(f"the gateway did not reload within {WAIT_S:g} s", hint="its log says why")
