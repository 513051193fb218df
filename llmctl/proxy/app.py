"""One worker: everything that a call needs, wired together, started, reloaded and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from llmctl import tokenizer
from llmctl.config import Config
from llmctl.domain.errors import LlmctlError, StoreError
from llmctl.sandbox import Sandbox
from llmctl.store import configured
from llmctl.store.ledger import Ledger
from llmctl.store.reader import Reader

from .admin import Admin
from .alerts import Alerts
from .background import Background
from .body import Inflight
from .cells import Block
from .contents import Contents
from .exposition import Exposition
from .handler import Handler
from .handshakes import TlsListener
from .lessons import Lessons
from .metrics import CROWDED, Metrics, SharedStats, by_provider
from .objects import Objects
from .server import Handle, HttpServer, Malformed
from .setup import Setup
from .sightings import Sightings
from .sockets import BACKLOG
from .telemetry import Telemetry
from .tls import Certificate

logger = logging.getLogger(__name__)

HEADERS_MAX = 100
FIELD_BYTES_MAX = 64 << 10
HEALTH_EVERY_S = 1.0
# A unix socket's file belongs to all workers, and is removed by who made it; from Python 3.13 on a server that closes
# does so unless it is told not to.
KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
CUT_WAIT_S = 5.0  # for calls that did not end in time: long enough to book them


class Gateway:
    """`start`, any number of `reload`, then `stop`; `broken` returns when nothing more can be served."""

    def __init__(self, config: Config, blocks: Sequence[memoryview], number: int) -> None:
        """`blocks`: what all workers count in; `number`: which of them is ours."""
        self._config = config
        self._blocks = blocks
        self._number = number
        self._block = Block(blocks[number])
        self._opened = AsyncExitStack()  # closed from the last to the first
        self._sandbox: Sandbox | None = None
        self._sandbox_place: tuple[str, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._setups: list[Setup] = []  # the last one is in force, the others have calls that go on
        self._inflight = Inflight()
        self._lessons = Lessons()
        self._certificate: Certificate | None = None
        self._clients: list[asyncio.Server | TlsListener] = []
        self._admin: asyncio.Server | None = None
        self._webs: list[HttpServer] = []  # for clients, for the admin

    async def start(self, clients: Sequence[socket.socket], admin: socket.socket | None) -> None:
        """Raises LlmctlError: a credential or the database is missing, ... Then nothing is left open."""
        try:
            await self._start(clients, admin)
        except BaseException:
            await self._opened.aclose()
            raise

    async def _start(self, clients: Sequence[socket.socket], admin: socket.socket | None) -> None:
        config = self._config
        tokenizer.configure(Path(f"{config.database}.tiktoken"))
        if config.server.tls is not None:
            self._certificate = Certificate(config.server.tls)
        self._ledger = Ledger(
            config.database,
            default_zone=config.timezone,
            share_percent=config.bounds.cap_share_percent,
            synchronous=config.server.synchronous,
            stats=SharedStats(self._block),
        )
        await self._ledger.start()
        self._opened.push_async_callback(self._ledger.close)
        self._metrics = Metrics(self._block, self._blocks)
        self._objects = Objects(config)
        self._opened.callback(self._objects.close)
        telemetry = Telemetry(config.telemetry) if config.telemetry.endpoint else None
        if telemetry is not None:
            self._opened.push_async_callback(asyncio.to_thread, telemetry.close)
        self._background = Background(config.database, self._objects, self._ledger, self._metrics, telemetry)
        self._reader = Reader(config.database)
        await self._reader.open()
        self._opened.push_async_callback(self._reader.close)
        self._opened.push_async_callback(self._close_setups)
        setup = await self._set_up(config)
        self._contents = Contents(config)
        self._opened.push_async_callback(self._contents.flush)
        self._sightings = Sightings(config)
        self._opened.push_async_callback(self._sightings.flush)
        self._handler = Handler(
            setup=setup,
            ledger=self._ledger,
            objects=self._objects,
            metrics=self._metrics,
            sightings=self._sightings,
            telemetry=telemetry,
            contents=self._contents,
        )
        self._opened.push_async_callback(self._end_tasks)
        if self._certificate is not None:
            self._spawn(self._certificate.run())
        self._spawn(self._sightings.run())
        self._spawn(self._contents.run())
        self._spawn(self._background.run())
        # One worker judges for all: two could tell of the same calls on either side of an hour.
        counts = partial(by_provider, self._blocks) if self._number == 0 else dict
        self._alerts = Alerts(config, counts)
        self._spawn(self._alerts.run())
        self._opened.push_async_callback(self._hang_up)
        await self._listen(clients, admin)

    async def reload(self, config: Config) -> None:
        """For calls from now on; those under way go on with what they began with. Raises LlmctlError: then nothing is
        changed."""
        setup = await self._set_up(config, before=self._setups[-1])
        self._config = config
        self._ledger.configure(share_percent=config.bounds.cap_share_percent)
        for web in self._webs:
            web.configure(config.server)
        self._alerts.configure(config)
        self._contents.configure(config)
        before, self._handler.setup = self._handler.setup, setup
        self._spawn(self._retire(before))

    async def stop(self) -> None:
        """No new calls; those under way end, or are cut after `shutdown_s`; then everything is booked and closed.
        /readyz says so until no call is left."""
        for listening in self._clients:
            listening.close()
        self._handler.drain()
        await self._until_idle(self._config.server.timeouts.shutdown_s)
        if self._handler.open_calls:
            logger.warning("cutting %d calls that did not end in time", self._handler.open_calls)
            for setup in self._setups:
                setup.watch.cut_all()
            await self._until_idle(CUT_WAIT_S)
        await self._opened.aclose()

    def close_admin(self) -> None:
        """No more questions about how it is."""
        if self._admin is not None:
            self._admin.close()

    async def broken(self) -> StoreError:
        """Waits until the ledger can take no more calls for good, and says why."""
        while self._ledger.failed is None:  # noqa: ASYNC110 - the ledger's thread sets it, seldom and never in a hurry
            await asyncio.sleep(HEALTH_EVERY_S)
        return self._ledger.failed

    def not_ready(self) -> str:
        """Why no call can be served now; empty: it can."""
        if self._handler.draining:
            return "shutting down"
        failure = self._ledger.failed or self._ledger.unavailable
        return "" if failure is None else str(failure)

    async def _set_up(self, config: Config, before: Setup | None = None) -> Setup:
        """Everything of it is there before anything of it counts."""
        if any(provider.is_sandbox for provider in config.providers.values()) and self._sandbox is None:
            await self._start_sandbox()
        setup = Setup(config, self._reader, self._inflight, self._sandbox_place, self._background, self._lessons)
        try:
            if before is not None and self._certificate is not None and config.server.tls is not None:
                self._certificate.configure(config.server.tls)
            deployments = {name: provider.deployed for name, provider in config.providers.items()}
            await asyncio.to_thread(configured.keep, config.database, deployments, int(time.time()))
        except LlmctlError:
            setup.directory.close()
            raise
        if before is not None:
            setup.upstream.take_over(before.upstream)
        await setup.start()
        self._setups.append(setup)
        self._background.configure(config, setup.upstream)
        return setup

    async def _retire(self, setup: Setup) -> None:
        await setup.retire()
        self._setups.remove(setup)

    async def _close_setups(self) -> None:
        for setup in self._setups:
            await setup.close()
        if self._sandbox is not None:
            await self._sandbox.stop()

    async def _start_sandbox(self) -> None:
        credential = secrets.token_urlsafe(24)
        sandbox = Sandbox(credential, Path(f"{self._config.database}.sandbox"))
        try:
            base_url = await sandbox.start()
        except tokenizer.TokenizerError as error:
            raise LlmctlError(f"the sandbox cannot start: {error}") from None
        self._sandbox, self._sandbox_place = sandbox, (f"{base_url}/v1", credential)

    async def _listen(self, clients: Sequence[socket.socket], admin: socket.socket | None) -> None:
        loop = asyncio.get_running_loop()
        web = self._http_server(self._handler.handle, self._handler.malformed)
        for one in clients:
            ours = one.dup()  # each worker closes a descriptor of its own: the supervisor's stays
            if self._certificate is not None:
                self._clients.append(TlsListener(web, ours, self._certificate.context))
                continue
            if one.family == socket.AF_UNIX:
                listening = loop.create_unix_server(web, sock=ours, backlog=BACKLOG, **KEEP_FILE)
            else:
                listening = loop.create_server(web, sock=ours, backlog=BACKLOG)
            self._clients.append(await listening)
        if admin is not None:
            pages = Admin(Exposition(self._config, self._blocks), self.not_ready)
            self._admin = await loop.create_server(
                self._http_server(pages.handle, pages.malformed), sock=admin.dup(), backlog=BACKLOG
            )

    def _http_server(self, handle: Handle, malformed: Malformed) -> HttpServer:
        """Each has its own count of connections: who fills the one does not shut the other."""
        web = HttpServer(
            handle,
            malformed=malformed,
            server=self._config.server,
            crowded=lambda: self._metrics.refused(CROWDED),
            access_log=None,
            auto_decompress=False,
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=1.0,
        )
        self._webs.append(web)
        return web

    async def _hang_up(self) -> None:
        for listening in self._clients:
            listening.close()
        self.close_admin()
        await asyncio.gather(*(web.shutdown(1.0) for web in self._webs))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work beside the calls ended: this is a bug", exc_info=error)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _until_idle(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self._handler.open_calls and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
