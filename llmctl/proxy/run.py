"""The daemon: what has to be right before anything starts, then one worker, or a supervisor with several."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable

from llmctl.config import Config
from llmctl.domain.errors import LlmctlError
from llmctl.store import callers, filesystem, recovery
from llmctl.store.database import Store, must_exist
from llmctl.store.serving import Serving

from .cells import shared_memory
from .setup import renewed
from .sockets import listening
from .supervisor import EXIT_FAILED, Supervisor, exit_code_of
from .systemd import Notifier, handed_over
from .tls import context_of
from .upstream import Upstream
from .worker import ToAll, ToSupervisor, Worker

logger = logging.getLogger(__name__)


def serve(config: Config, load: Callable[[], Config], *, say: Callable[[str], None]) -> int:
    """Runs until SIGTERM or SIGINT; returns an exit status. `load` reads the configuration anew, for a reload; `say`
    tells a person what happens. Raises LlmctlError if it cannot start."""
    _raise_file_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload before there is anything to reload
    notifier = Notifier()
    _check(config)
    _check_database(config)

    def renew(now: Config) -> tuple[Config, list[str]]:
        fresh, notes = renewed(now, load())
        _check(fresh)
        return fresh, notes

    blocks = shared_memory(config.server.workers)
    sockets = listening(config.server, handed_over())
    try:
        urls = [_url(config, address) for address in sockets.addresses]
        serving = Serving.claim(config.database, config.path, urls=urls, admin=sockets.admin_address)
        say(f"llmctl listens on {' and '.join(urls)}  (admin: http://{sockets.admin_address}/metrics)")
        if config.server.workers == 1:
            return Worker(config, renew, sockets, 0, ToAll(notifier, serving), None, blocks).run()

        def work(config: Config, number: int, channel: socket.socket) -> int:
            return _work(Worker(config, renew, sockets, number, ToSupervisor(channel), channel, blocks))

        return Supervisor(config, renew=renew, work=work, sockets=sockets, notifier=notifier, serving=serving).run()
    finally:
        sockets.unlink()
        sockets.close()


def _check(config: Config) -> None:
    """What would end every worker is said once, and before anybody is told that we listen. Raises ConfigError."""
    Upstream(config)  # reads the credentials
    if config.server.tls is not None:
        context_of(config.server.tls)


def _check_database(config: Config) -> None:
    """Raises StoreError."""
    must_exist(config.database)
    filesystem.check(config.database)
    store = Store(config.database, synchronous=config.server.synchronous)
    try:
        with store.write() as tx:
            callers.settings_version(tx)
            recovery.open_owners(tx)
    finally:
        store.close()


def _work(worker: Worker) -> int:
    """A worker in a process of its own: whatever happens is an exit code."""
    try:
        return worker.run()
    except LlmctlError as error:
        sys.stderr.write(f"error: {error}\n")
        return exit_code_of(error)
    except BaseException:
        logger.exception("a worker failed")
        return EXIT_FAILED
    finally:
        sys.stderr.flush()


def _url(config: Config, address: str) -> str:
    if address.startswith("unix:"):
        return address
    return f"{'https' if config.server.tls else 'http'}://{address}"


def _raise_file_limit() -> None:
    """A call takes two descriptors; the usual soft limit of 1024 is a few hundred calls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
