"""A reload of several workers: when it has ended, all have the new configuration, or all have that of before."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from llmctl.config import Config
from llmctl.domain.errors import LlmctlError
from llmctl.store.serving import Serving

logger = logging.getLogger(__name__)

# What a worker is asked for, the new configuration or after all the one of before, and what it answers.
RELOAD, BACK = b"reload", b"back"
RELOADED, FAILED = b"reloaded", b"failed "

Renew = Callable[[Config], tuple[Config, list[str]]]


@dataclass(slots=True)
class Child:
    """A worker, as its supervisor sees it."""

    number: int
    pid: int
    channel: socket.socket
    heard_at_s: float
    ready: bool = False
    reloading: bool = False  # it was asked, and has not answered
    ahead: bool = False  # it took over a configuration that others may not be able to


class Reload:
    """One after the other."""

    def __init__(self, config: Config, renew: Renew, serving: Serving) -> None:
        """`renew` reads and checks the configuration anew; it raises LlmctlError."""
        self.config = config  # of workers that are started
        self.pending = False
        self.errors: list[str] = []
        self._fresh = config
        self._notes: list[str] = []
        self._renew = renew
        self._serving = serving

    def begin(self, workers: Iterable[Child]) -> None:
        """The new configuration is checked here first: workers are only told of one that is right."""
        self.pending, self.errors, self._notes = True, [], []
        try:
            self._fresh, self._notes = self._renew(self.config)
        except LlmctlError as error:
            self.errors.append(str(error))
        except Exception:
            logger.exception("the reload failed")
            self.errors.append("the reload failed: this is a bug, see the log")
        else:
            _ask(workers, RELOAD)

    def on_answer(self, worker: Child, answer: bytes) -> None:
        worker.reloading = False
        if answer == RELOADED:
            worker.ahead = not worker.ahead
            return
        self.errors.append(answer.removeprefix(FAILED).decode(errors="replace"))  # it may be cut
        if worker.ahead:  # it cannot go back: one that begins with the configuration of before takes its place
            worker.ahead = False
            os.kill(worker.pid, signal.SIGTERM)

    def ends(self, workers: Collection[Child]) -> bool:
        """Whether it has ended just now, which is told; those that took over what another one could not go back."""
        if not self.pending or any(worker.reloading for worker in workers):
            return False
        ahead = [worker for worker in workers if worker.ahead]
        if self.errors and ahead:
            _ask(ahead, BACK)
            return False
        for worker in ahead:
            worker.ahead = False
        if not self.errors:
            self.config = self._fresh
        self.pending = False
        self._serving.reloaded(error=self.errors[0] if self.errors else "", notes=self._notes)
        log_reload(self.errors, self._notes)
        return True


def log_reload(errors: list[str], notes: list[str]) -> None:
    if errors:
        logger.error("the configuration of before stays: %s", errors[0])
    else:
        logger.info("; ".join(["took over the configuration", *notes]))


def _ask(workers: Iterable[Child], message: bytes) -> None:
    for worker in workers:
        with suppress(OSError):  # one that is dying is started again, with the configuration that counts by then
            worker.channel.send(message)
            worker.reloading = True
