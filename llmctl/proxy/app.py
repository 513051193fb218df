"""One worker: everything that a call needs, wired together, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from pathlib import Path

from aiohttp import web

from llmctl import tokenizer
from llmctl.config import Config
from llmctl.domain.errors import LlmctlError, StoreError
from llmctl.sandbox import Sandbox
from llmctl.store.ledger import Ledger
from llmctl.store.reader import Reader

from .addresses import Proxies
from .admin import Admin
from .alerts import Alerts
from .body import BodyReader
from .directory import Directory
from .exchange import Exchange
from .handler import Handler
from .local import Local
from .metrics import Metrics
from .routing import Routing
from .server import HttpServer
from .sightings import Sightings
from .telemetry import Telemetry
from .upstream import Upstream
from .watch import Watch

logger = logging.getLogger(__name__)

HEADERS_MAX = 100
FIELD_BYTES_MAX = 64 << 10
HEALTH_EVERY_S = 1.0
CUT_WAIT_S = 5.0  # for calls that did not end in time: long enough to book them


class Gateway:
    """`start`, then `stop`; `broken` returns when nothing more can be served."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sandbox: Sandbox | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: asyncio.Server | None = None
        self._admin: asyncio.Server | None = None

    async def start(self, clients: socket.socket, admin: socket.socket | None) -> None:
        """Raises LlmctlError: a credential or the database is missing, ..."""
        config = self._config
        tokenizer.configure(Path(f"{config.database}.tiktoken"))
        self._ledger = Ledger(
            config.database,
            default_zone=config.timezone,
            share_percent=config.bounds.cap_share_percent,
            synchronous=config.server.synchronous,
        )
        self._upstream = Upstream(config, sandbox=await self._start_sandbox())
        await self._ledger.start()
        try:
            self._directory = Directory(config)
            self._reader = Reader(config.database)
            await self._reader.open()
        except BaseException:
            await self._ledger.close()
            raise
        await self._upstream.start()
        self._metrics = Metrics(self._ledger)
        self._watch = Watch(config.server)
        self._sightings = Sightings(config)
        self._telemetry = Telemetry(config.telemetry) if config.telemetry.endpoint else None
        self._handler = Handler(
            config=config,
            directory=self._directory,
            ledger=self._ledger,
            bodies=BodyReader(config.server),
            exchange=Exchange(self._upstream, self._watch),
            local=Local(config, self._directory, self._reader, self._upstream),
            metrics=self._metrics,
            sightings=self._sightings,
            routing=Routing(config, self._directory, self._upstream),
            proxies=Proxies(config.server.trusted_proxies, config.server.forwarded_header),
            telemetry=self._telemetry,
        )
        self._tasks.append(asyncio.create_task(self._sightings.run()))
        self._tasks.append(asyncio.create_task(self._watch.run()))
        self._tasks.append(asyncio.create_task(Alerts(config, self._metrics.by_provider).run()))
        await self._listen(clients, admin)

    async def stop(self) -> None:
        """No new calls; those under way end, or are cut after `shutdown_s`; then everything is booked and closed.
        /readyz says so until no call is left."""
        if self._clients is not None:
            self._clients.close()
        self._handler.drain()
        await self._until_idle(self._config.server.timeouts.shutdown_s)
        if self._handler.open_calls:
            logger.warning("cutting %d calls that did not end in time", self._handler.open_calls)
            self._watch.cut_all()
            await self._until_idle(CUT_WAIT_S)
        await self._web.shutdown(1.0)
        if self._admin is not None:
            self._admin.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sightings.flush()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)
        await self._upstream.close()
        await self._ledger.close()
        await self._reader.close()
        self._directory.close()
        if self._sandbox is not None:
            await self._sandbox.stop()

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

    async def _start_sandbox(self) -> tuple[str, str] | None:
        if not any(provider.is_sandbox for provider in self._config.providers.values()):
            return None
        credential = secrets.token_urlsafe(24)
        self._sandbox = Sandbox(credential)
        try:
            base_url = await self._sandbox.start()
        except tokenizer.TokenizerError as error:
            raise LlmctlError(f"the sandbox cannot start: {error}") from None
        return f"{base_url}/v1", credential

    async def _listen(self, clients: socket.socket, admin: socket.socket | None) -> None:
        loop = asyncio.get_running_loop()
        self._web = HttpServer(
            self._handler.handle,
            malformed=self._handler.malformed,
            server=self._config.server,
            access_log=None,
            auto_decompress=False,
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=1.0,
        )
        # Each worker holds a socket of its own: closing it here leaves the supervisor's.
        self._clients = await loop.create_server(self._web, sock=clients.dup(), backlog=4096)
        if admin is not None:
            pages = web.Server(Admin(self._metrics, self.not_ready).handle, access_log=None)
            self._admin = await loop.create_server(pages, sock=admin.dup())

    async def _until_idle(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self._handler.open_calls and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
