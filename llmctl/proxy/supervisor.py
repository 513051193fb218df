"""The process that starts the workers, restarts those that die, and passes on what it is told: to stop, to reload."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from llmctl.config import Config
from llmctl.domain.errors import ConfigError, LlmctlError, SchemaMismatch, StoreBroken
from llmctl.store.serving import Serving

from .reloading import FAILED, RELOADED, Child, Reload, Renew
from .sockets import Sockets
from .systemd import Notifier

logger = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_CONFIG = 0, 1, 78  # 78: EX_CONFIG, so that systemd does not loop
EXIT_BROKEN = 74  # EX_IOERR, of a worker to its supervisor: the database is of no use to any of them
RESTART_S = 1.0  # a worker that dies at once must not spin: each time that it was not ready, it waits twice as long
RESTART_S_MAX = 30.0
BEAT_S = 2.5  # how often a worker says that its event loop turns
HUNG_S = 20.0  # without a word: it hangs, and is started anew; well within WatchdogSec, so that the others go on
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
MESSAGE_BYTES_MAX = 32 << 10

# What a worker says to its supervisor by itself, and reloading.py what both say of a reload: one message, one datagram.
READY, ALIVE = b"ready", b"alive"


def exit_code_of(error: LlmctlError) -> int:
    """Of a worker that cannot start, or go on."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_BROKEN if isinstance(error, (StoreBroken, SchemaMismatch)) else EXIT_FAILED


Run = Callable[[Config, int, socket.socket], int]  # one worker's life; returns its exit code


class Supervisor:
    """`run` returns an exit code."""

    def __init__(
        self,
        config: Config,
        *,
        renew: Renew,
        work: Run,
        sockets: Sockets,
        notifier: Notifier,
        serving: Serving,
    ) -> None:
        """`renew` reads and checks the configuration anew; it raises LlmctlError."""
        self._wanted = config.server.workers
        self._reloading = Reload(config, renew, serving)
        self._work = work
        self._sockets = sockets
        self._notifier = notifier
        self._serving = serving
        self._workers: dict[int, Child] = {}  # by process id
        self._due_at_s: dict[int, float] = {}  # worker number -> when it is started again
        self._pause_s: dict[int, float] = {}  # worker number -> how long it waited, since it was ready last
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._awake_at_s = time.monotonic()
        self._told_ready = False
        self._reload_again = False
        self._status = EXIT_OK

    def run(self) -> int:
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, lambda _signum, _frame: None)  # what counts is the byte that wakes the loop
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        for number in range(self._wanted):
            self._start(number)
        while self._workers or self._due_at_s:
            for key, _ in self._selector.select(self._patience_s()):
                if key.data is None:
                    self._on_signals(self._woken.recv(4096))
                else:
                    self._on_message(key.data)
            self._start_due()
            self._end_hung()
            self._notifier.alive()
        return self._status

    # ---- workers ----

    def _start(self, number: int) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._put_off(number, error)
            return
        # A signal to the child before it has handlers of its own would wake this process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            ours.close()
            theirs.close()
            self._put_off(number, error)
            return
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            ours.setblocking(False)
            worker = self._workers[pid] = Child(number, pid, ours, time.monotonic())
            self._selector.register(ours, selectors.EVENT_READ, worker)
            return
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signum in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C comes to all of a terminal: the supervisor passes it on
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        # So that the supervisor's end of each channel is left to the supervisor alone: its end is how they see it die.
        for each in (ours, self._woken, self._wake, *(worker.channel for worker in self._workers.values())):
            each.close()
        self._selector.close()
        self._serving.release()
        os._exit(self._work(self._reloading.config, number, theirs))

    def _end_hung(self) -> None:
        """Its calls are booked by the others. One that begins may take its time: it books what the dead left open."""
        now_s = time.monotonic()
        asleep, self._awake_at_s = now_s - self._awake_at_s > 2 * BEAT_S, now_s
        for worker in self._workers.values():
            if asleep:  # the whole machine was, it seems
                worker.heard_at_s = now_s
            elif worker.ready and now_s - worker.heard_at_s > HUNG_S:
                logger.error("worker %d has said nothing for %d seconds: it is killed", worker.number, HUNG_S)
                worker.ready = False
                os.kill(worker.pid, signal.SIGKILL)

    def _put_off(self, number: int, error: OSError) -> None:
        """The machine has no process or descriptor left for one more worker: the others serve meanwhile."""
        logger.error("worker %d cannot be started: %s; trying again", number, error.strerror)
        self._start_later(number)

    def _start_later(self, number: int) -> None:
        pause_s = self._pause_s[number] = min(2 * self._pause_s.get(number, RESTART_S / 2), RESTART_S_MAX)
        self._due_at_s[number] = time.monotonic() + pause_s
        if pause_s > RESTART_S:  # else who knocks there may wait
            self._sockets.rest(number)

    def _start_due(self) -> None:
        if self._reloading.pending:  # which configuration they are to have is not known yet
            return
        now_s = time.monotonic()
        for number in [number for number, at_s in self._due_at_s.items() if at_s <= now_s]:
            del self._due_at_s[number]
            self._start(number)

    def _bury(self) -> None:
        while self._workers:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._on_death(worker, os.waitstatus_to_exitcode(wait_status))

    def _on_death(self, worker: Child, code: int) -> None:
        self._deafen(worker)
        worker.channel.close()
        if self._stopping:
            self._status = self._status or (EXIT_FAILED if code > 0 else EXIT_OK)
        elif code == EXIT_BROKEN or (code == EXIT_CONFIG and not self._told_ready):
            self._stop()
            self._status = EXIT_CONFIG if code == EXIT_CONFIG else EXIT_FAILED
        else:  # also where a credential's file is gone since the others read it: they serve, and it may come back
            logger.error("worker %d ended with %d; starting it again", worker.number, code)
            self._start_later(worker.number)
        self._look_whether_reloaded()

    # ---- what is told ----

    def _on_signals(self, signums: bytes) -> None:
        for signum in signums:
            if signum == signal.SIGCHLD:
                self._bury()
            elif signum == signal.SIGHUP:
                self._reload()
            else:
                self._stop()

    def _on_message(self, worker: Child) -> None:
        try:
            message = worker.channel.recv(MESSAGE_BYTES_MAX)
        except OSError:
            return
        worker.heard_at_s = time.monotonic()
        if message == READY:
            worker.ready = True
            self._pause_s.pop(worker.number, None)
            self._tell_ready()
        elif message == RELOADED or message.startswith(FAILED):
            self._reloading.on_answer(worker, message)
            self._look_whether_reloaded()
        elif not message:  # it ends, and has nothing more to say
            self._deafen(worker)

    def _deafen(self, worker: Child) -> None:
        with suppress(KeyError):
            self._selector.unregister(worker.channel)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._due_at_s.clear()
            self._sockets.unlink()
            self._notifier.stopping()
        for pid in self._workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    # ---- reloading ----

    def _reload(self) -> None:
        if self._stopping:
            return
        if self._reloading.pending:
            self._reload_again = True
            return
        self._notifier.reloading()
        self._reloading.begin(self._workers.values())
        self._due_at_s = dict.fromkeys(self._due_at_s, 0.0)  # what kept them from starting may be mended
        self._look_whether_reloaded()

    def _look_whether_reloaded(self) -> None:
        if not self._reloading.ends(self._workers.values()):
            return
        self._tell_ready()
        if self._reload_again:
            self._reload_again = False
            self._reload()

    # ---- systemd ----

    def _tell_ready(self) -> None:
        ready = sum(worker.ready for worker in self._workers.values())
        if self._told_ready or ready == self._wanted:
            self._told_ready = True
            self._notifier.ready(f"{ready} of {self._wanted} workers serve")

    def _patience_s(self) -> float:
        due_at_s = () if self._reloading.pending else self._due_at_s.values()
        waits = [at_s - time.monotonic() for at_s in due_at_s]
        if self._notifier.watchdog_s is not None:
            waits.append(self._notifier.watchdog_s / 4)
        return max(0.0, min([*waits, BEAT_S]))
