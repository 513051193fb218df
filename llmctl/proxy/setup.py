"""What depends on the configuration, built in one place and exchanged as a whole: a call keeps what it began with."""

from __future__ import annotations

import asyncio

from llmctl.config import Config
from llmctl.store.reader import Reader

from .addresses import Proxies
from .background import Background
from .body import BodyReader, Inflight
from .directory import Directory
from .exchange import Exchange
from .lessons import Lessons
from .local import Local
from .routing import Routing
from .upstream import Upstream
from .watch import Watch

LOOK_EVERY_S = 0.2


class Setup:
    """One configuration at work. `start`, calls, `retire`."""

    def __init__(
        self,
        config: Config,
        reader: Reader,
        inflight: Inflight,
        sandbox: tuple[str, str] | None,
        background: Background,
        lessons: Lessons,
    ) -> None:
        """Raises ConfigError, StoreError."""
        self.config = config
        self.upstream = Upstream(config, sandbox=sandbox)
        self.directory = Directory(config, lessons)
        self.watch = Watch(config.server, self.directory.cuts)
        self.exchange = Exchange(self.upstream, self.watch, background, lessons)
        self.local = Local(config, self.directory, reader, self.upstream)
        self.routing = Routing(config, self.directory, self.upstream)
        self.bodies = BodyReader(config.server, inflight)
        self.proxies = Proxies(config.server.trusted_proxies, config.server.forwarded_header)
        self.logs_requests = config.server.access_log
        self.open_calls = 0

    async def start(self) -> None:
        await self.upstream.start()
        self._watching = asyncio.create_task(self.watch.run())

    async def retire(self) -> None:
        """Waits for the last call, then gives back what it holds."""
        while self.open_calls:  # noqa: ASYNC110 - a reload is seldom, and nobody waits for the end of this
            await asyncio.sleep(LOOK_EVERY_S)
        await self.close()

    async def close(self) -> None:
        self._watching.cancel()
        await self.upstream.close()
        self.directory.close()


def renewed(now: Config, wanted: Config) -> tuple[Config, list[str]]:
    """What can be had of a new configuration without a restart; and what cannot, as lines that say so."""
    server, new = now.server, wanted.server
    stays = [
        ("[server] listen", server.listen, new.listen),
        ("[server] listen_mode", oct(server.listen_mode), oct(new.listen_mode)),
        ("[server] admin_listen", server.admin_listen, new.admin_listen),
        ("[server] workers", server.workers, new.workers),
        ("[server] synchronous", server.synchronous, new.synchronous),
        ("[server] log", server.log, new.log),
        ("[server.tls]", "on" if server.tls else "off", "on" if new.tls else "off"),
        ("database", now.database, wanted.database),
        ("timezone", now.timezone, wanted.timezone),
        ("[telemetry]", now.telemetry, wanted.telemetry),
    ]
    kept = [f"{name} stays as it is until a restart" for name, before, after in stays if before != after]
    server = new._replace(
        listen=server.listen,
        listen_mode=server.listen_mode,
        admin_listen=server.admin_listen,
        workers=server.workers,
        synchronous=server.synchronous,
        log=server.log,
        tls=new.tls if server.tls and new.tls else server.tls,
    )
    fresh = wanted._replace(server=server, database=now.database, timezone=now.timezone, telemetry=now.telemetry)
    return fresh, kept
