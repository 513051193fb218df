"""TLS connections from when they are accepted: one that has yet to shake hands counts as any other. asyncio's own
server tells of a connection only afterwards: those who never shake hands would be as many as they like."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

from .server import HttpServer, host_of
from .sockets import BACKLOG

logger = logging.getLogger(__name__)

ACCEPT_AGAIN_S = 1.0  # when there are no descriptors left


class TlsListener:
    """In the place of an `asyncio.Server`."""

    def __init__(self, web: HttpServer, listening: socket.socket, context: ssl.SSLContext) -> None:
        """Takes `listening` over."""
        listening.listen(BACKLOG)
        self._web = web
        self._listening = listening
        self._context = context
        self._shaking: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Those who shake hands already go on."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        with self._listening:
            while True:
                try:
                    one, peer = await asyncio.get_running_loop().sock_accept(self._listening)
                except OSError as error:
                    logger.error("no connection can be accepted: %s; trying again", error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                task = asyncio.create_task(self._shake_hands(one, host_of(peer)))
                self._shaking.add(task)
                task.add_done_callback(self._shaking.discard)
                await asyncio.sleep(0)  # else who connects without end keeps everybody else waiting

    async def _shake_hands(self, one: socket.socket, host: str) -> None:
        connection = self._web.let_in(host)
        if connection is None:
            one.close()  # an answer that it could read would cost the handshake
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, one, ssl=self._context, ssl_handshake_timeout=self._web.header_s
            )
        except OSError:  # it spoke no TLS, none that we speak, or nothing in time
            pass
        finally:
            connection.leave_unless_made()
