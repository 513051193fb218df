"""The daemon's processes: sockets, workers, signals. `serve` returns an exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmctl.config import Address, Config
from llmctl.domain.errors import ConfigError, LlmctlError, SchemaMismatch, StoreBroken
from llmctl.store import callers, filesystem, recovery
from llmctl.store.database import Store, must_exist

from .app import Gateway
from .upstream import Upstream

logger = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_CONFIG = 0, 1, 78  # 78: EX_CONFIG, so that systemd does not loop
EXIT_BROKEN = 74  # EX_IOERR, of a worker to the one that started it: the database is of no use to any of them
BACKLOG = 4096
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RESTART_S = 1.0  # a worker that dies at once must not spin


@dataclass(frozen=True, slots=True)
class Sockets:
    """A listening socket for each worker on one port: the kernel spreads connections, none is lost with a worker."""

    clients: tuple[socket.socket, ...]
    admin: socket.socket

    def refuse_clients(self, number: int) -> None:
        """No new connections to this worker: whoever knocked on a socket that other processes still have open would be
        let in by none of them, and wait until the last one ends."""
        _refuse(self.clients[number])

    def refuse_admin(self) -> None:
        """The same for the admin address: its worker is gone, others may go on with their calls."""
        _refuse(self.admin)


def serve(config: Config, *, say: Callable[[str], None]) -> int:
    """Runs until SIGTERM or SIGINT. `say` tells a person what happens. Raises LlmctlError if it cannot start."""
    _raise_file_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal must not cut calls; reloading is not there yet
    _check(config)
    sockets = _bind(config)
    workers = config.server.workers
    say(f"llmctl listens on http://{_address(sockets.clients[0])}  (admin: http://{_address(sockets.admin)}/metrics)")
    try:
        if workers == 1:
            return _work(config, sockets, 0, None)
        return _supervise(config, sockets)
    finally:
        for each in (*sockets.clients, sockets.admin):
            each.close()


def _check(config: Config) -> None:
    """What would end every worker is said once, and before anybody is told that we listen. Raises LlmctlError."""
    Upstream(config)  # reads the credentials
    must_exist(config.database)
    filesystem.check(config.database)
    store = Store(config.database, synchronous=config.server.synchronous)
    try:
        with store.write() as tx:
            callers.settings_version(tx)
            recovery.open_owners(tx)
    finally:
        store.close()


def _work(config: Config, sockets: Sockets, number: int, supervisor: int | None) -> int:
    """One worker: a Gateway on its own event loop, until it is told to stop."""
    return _run(_serve_until_stopped(config, sockets, number, supervisor))


def _run(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:  # a platform without it
        return asyncio.run(main)
    return uvloop.run(main)


async def _serve_until_stopped(config: Config, sockets: Sockets, number: int, supervisor: int | None) -> int:
    """`supervisor`: a pipe that ends with the process that started this one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_FAILED)  # the second one: now. What is open is recovered by the next start
        stop.set()

    def on_orphaned() -> None:
        assert supervisor is not None
        loop.remove_reader(supervisor)
        logger.critical("stopping: the process that started this one is gone")
        stop.set()

    for signum in STOP_SIGNALS:
        loop.add_signal_handler(signum, on_signal)
    if supervisor is not None:
        loop.add_reader(supervisor, on_orphaned)
    gateway = Gateway(config)
    await gateway.start(sockets.clients[number], sockets.admin if number == 0 else None)
    _settle_garbage_collection()
    broken = asyncio.ensure_future(gateway.broken())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
    code = EXIT_OK
    if broken.done():
        logger.critical("stopping: %s", broken.result())
        code = _code_of(broken.result()) if supervisor is not None else EXIT_FAILED
    broken.cancel()
    stopped.cancel()
    for_good = supervisor is None or code != EXIT_FAILED  # else it is started again, and who knocks may wait for it
    if for_good:
        sockets.refuse_clients(number)
    await gateway.stop()
    if number == 0 and for_good:
        sockets.refuse_admin()
    return code


def _code_of(error: LlmctlError) -> int:
    """Of a worker that cannot go on."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_BROKEN if isinstance(error, (StoreBroken, SchemaMismatch)) else EXIT_FAILED


def _supervise(config: Config, sockets: Sockets) -> int:
    """Forks the workers before anything is opened, restarts those that die, and passes the stop signal on."""
    running: dict[int, int] = {}  # process id -> worker number
    stopping = False
    pipe = os.pipe()

    def stop(signum: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in list(running):
            with suppress(ProcessLookupError):  # it has just ended, and is not taken off the list yet
                os.kill(pid, signal.SIGTERM)

    def start(number: int) -> None:
        # A stop signal between the fork and the note of it would miss that worker.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            if not stopping:
                running[_fork(config, sockets, number, pipe)] = number
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    status = EXIT_OK
    for number in range(config.server.workers):
        start(number)
    while running:
        pid, wait_status = os.wait()
        number = running.pop(pid, -1)
        code = os.waitstatus_to_exitcode(wait_status)
        if number < 0:
            continue
        if stopping:
            status = status or (EXIT_FAILED if code > 0 else EXIT_OK)
            continue
        if code in (EXIT_CONFIG, EXIT_BROKEN):
            stop(signal.SIGTERM, None)
            status = EXIT_CONFIG if code == EXIT_CONFIG else EXIT_FAILED
            continue
        logger.error("worker %d ended with %d; starting it again", number, code)
        time.sleep(RESTART_S)
        start(number)
    return status


def _fork(config: Config, sockets: Sockets, number: int, pipe: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    supervisor, held = pipe
    os.close(held)  # so that only the supervisor's end is left
    try:
        code = _work(config, sockets, number, supervisor)
    except LlmctlError as error:
        sys.stderr.write(f"error: {error}\n")
        code = _code_of(error)
    except BaseException:
        logger.exception("worker %d failed", number)
        code = EXIT_FAILED
    sys.stderr.flush()
    os._exit(code)


def _bind(config: Config) -> Sockets:
    server = config.server
    admin = _listen(server.admin_listen, shared=False)
    try:
        first = _listen(server.listen, shared=server.workers > 1)
        port = first.getsockname()[1]
        address = Address(server.listen.host, port)
        others = [_listen(address, shared=True) for _ in range(server.workers - 1)]
    except BaseException:
        admin.close()
        raise
    return Sockets((first, *others), admin)


def _listen(address: Address, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}",
            hint="stop what uses it, or choose another with --listen or in [server]",
        ) from None
    listening.setblocking(False)
    return listening


def _refuse(listening: socket.socket) -> None:
    with suppress(OSError):  # nowhere but on Linux
        listening.shutdown(socket.SHUT_RDWR)


def _address(listening: socket.socket) -> Address:
    return Address(*listening.getsockname()[:2])


def _settle_garbage_collection() -> None:
    """What the start made lives until the end: the collector need not look at it again and again (measured: 12 % of the
    event loop's time). Calls make little that refers in circles, so it may also look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _raise_file_limit() -> None:
    """A call takes two descriptors; the usual soft limit of 1024 is a few hundred calls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
