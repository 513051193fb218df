"""One worker's life: a Gateway on its own event loop, until it is told to stop; reloaded when it is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import aiohttp

from llmctl.config import Config
from llmctl.domain.errors import LlmctlError, StoreError
from llmctl.store.serving import Serving

from . import memory
from .app import Gateway
from .reloading import BACK, FAILED, RELOAD, RELOADED, Renew, log_reload
from .sockets import Sockets
from .supervisor import (
    ALIVE,
    BEAT_S,
    EXIT_FAILED,
    EXIT_OK,
    MESSAGE_BYTES_MAX,
    READY,
    exit_code_of,
)
from .systemd import Notifier

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ERROR_BYTES_MAX = 8_000


class Reports(Protocol):
    """To whom a worker says how it is."""

    beat_s: float | None  # how often it says that it lives; None: nobody asks

    def ready(self) -> None: ...
    def alive(self) -> None: ...
    def reloading(self) -> None: ...
    def reloaded(self, error: str, notes: list[str]) -> None: ...
    def stopping(self) -> None: ...


class ToAll:
    """Of a worker without a supervisor: to systemd, and to those who look from outside."""

    def __init__(self, notifier: Notifier, serving: Serving) -> None:
        self._notifier = notifier
        self._serving = serving
        self.beat_s = None if notifier.watchdog_s is None else notifier.watchdog_s / 4
        self.alive, self.reloading, self.stopping = notifier.alive, notifier.reloading, notifier.stopping

    def ready(self) -> None:
        self._notifier.ready("serves")

    def reloaded(self, error: str, notes: list[str]) -> None:
        self._serving.reloaded(error=error, notes=notes)
        log_reload([error] if error else [], notes)
        self.ready()


class ToSupervisor:
    """Over the channel to the process that started it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.beat_s: float | None = BEAT_S

    def ready(self) -> None:
        self._say(READY)

    def alive(self) -> None:
        self._say(ALIVE)

    def reloading(self) -> None:
        """It asked for it."""

    def reloaded(self, error: str, notes: list[str]) -> None:
        self._say(FAILED + error.encode()[:ERROR_BYTES_MAX] if error else RELOADED)

    def stopping(self) -> None:
        """It asked for it."""

    def _say(self, message: bytes) -> None:
        with suppress(OSError):  # it is gone, or does not listen: it will see for itself
            self._channel.send(message)


class Worker:
    def __init__(
        self,
        config: Config,
        renew: Renew,
        sockets: Sockets,
        number: int,
        reports: Reports,
        channel: socket.socket | None,
        blocks: Sequence[memoryview],
    ) -> None:
        """`renew` reads the configuration anew; `channel` leads to the supervisor, if there is one."""
        self._config = config
        self._renew = renew
        self._sockets = sockets
        self._number = number
        self._reports = reports
        self._channel = channel
        self._blocks = blocks
        self._stop = asyncio.Event()
        self._orphaned = False  # the process that started this one is gone
        self._reload = asyncio.Event()
        self._goes_back = False  # to the configuration of before: not every worker could take over the new one

    def run(self) -> int:
        """Returns an exit code. Raises LlmctlError: it cannot start."""
        try:
            import uvloop
        except ImportError:  # a platform without it
            return asyncio.run(self._live())
        return uvloop.run(self._live())

    async def _live(self) -> int:
        self._listen_to_signals()
        asyncio.get_running_loop().set_exception_handler(_note_stray)
        gateway = Gateway(self._config, self._blocks, self._number)
        admin = self._sockets.admin if self._number == 0 else None
        await gateway.start(self._sockets.clients[self._number], admin)
        memory.freeze()
        chores = (self._reload_when_told(gateway), self._beat(), memory.give_back())
        tasks = [asyncio.create_task(chore) for chore in chores]
        self._reports.ready()
        failure = await self._until_stopped(gateway)
        code = EXIT_OK if failure is None else EXIT_FAILED if self._channel is None else exit_code_of(failure)
        # Else it is started again, and who knocks may wait for it.
        for_good = self._channel is None or code != EXIT_FAILED
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reports.stopping()
        if for_good:
            self._sockets.rest(self._number)
        if self._channel is None or self._orphaned:  # else the supervisor does, when all are to stop
            self._sockets.unlink()
        if self._orphaned:  # whoever takes our place wants the address now, not when the last call has ended
            gateway.close_admin()
            self._sockets.refuse_admin()
        beat = asyncio.create_task(self._beat())
        await gateway.stop()
        beat.cancel()
        if self._number == 0 and for_good and not self._orphaned:
            self._sockets.refuse_admin()
        return code

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def on_stop() -> None:
            if self._stop.is_set():
                os._exit(EXIT_FAILED)  # the second one: now. What is open is recovered by the next start
            self._stop.set()

        def on_channel() -> None:
            assert self._channel is not None
            try:
                message = self._channel.recv(MESSAGE_BYTES_MAX)
            except ConnectionResetError:  # it died with beats of ours unread, and libuv would not tell of its end again
                message = b""
            if message in (RELOAD, BACK):
                self._goes_back = message == BACK
                self._reload.set()
            elif not message:
                loop.remove_reader(self._channel)
                logger.critical("stopping: the process that started this one is gone")
                self._orphaned = True
                self._stop.set()

        if self._channel is None:
            for signum in STOP_SIGNALS:
                loop.add_signal_handler(signum, on_stop)
            loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        else:
            loop.add_signal_handler(signal.SIGTERM, on_stop)
            self._channel.setblocking(False)
            loop.add_reader(self._channel, on_channel)

    async def _until_stopped(self, gateway: Gateway) -> StoreError | None:
        """Why it cannot go on; None: it was told to stop."""
        broken = asyncio.ensure_future(gateway.broken())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
        failure = broken.result() if broken.done() else None
        if failure is not None:
            logger.critical("stopping: %s", failure)
        broken.cancel()
        stopped.cancel()
        return failure

    async def _reload_when_told(self, gateway: Gateway) -> None:
        before = self._config
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._reports.reloading()
            error, config, notes = "", before, list[str]()
            try:
                if not self._goes_back:
                    config, notes = await asyncio.to_thread(self._renew, self._config)
                await gateway.reload(config)
                before, self._config = self._config, config
            except LlmctlError as failure:
                error = str(failure)
            except Exception:
                logger.exception("the reload failed")
                error = "the reload failed: this is a bug, see the log"
            self._reports.reloaded(error, notes)

    async def _beat(self) -> None:
        while self._reports.beat_s is not None:
            self._reports.alive()
            await asyncio.sleep(self._reports.beat_s)


def _note_stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for any more: a connection to a provider may fail after its call was given up."""
    error = context.get("exception")
    if isinstance(error, (OSError, aiohttp.ClientError)):
        logger.warning("a connection failed that nobody waits for: %s", type(error).__name__)
    else:
        loop.default_exception_handler(context)
