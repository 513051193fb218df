"""The admin listener: /healthz, /readyz, /metrics. Nothing here changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from .exposition import Exposition

CONTENT_TYPE_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Admin:
    def __init__(self, metrics: Exposition, not_ready: Callable[[], str]) -> None:
        """`not_ready` says why no call can be served now; empty: it can."""
        self._metrics = metrics
        self._not_ready = not_ready

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        path = request.raw_path.partition("?")[0]
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path == "/readyz":
            reason = self._not_ready()
            return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)
        if path == "/metrics":
            return web.Response(
                body=await asyncio.to_thread(self._metrics.text), headers={"Content-Type": CONTENT_TYPE_METRICS}
            )
        return web.Response(text="here are /healthz, /readyz and /metrics\n", status=404)

    def malformed(self, reason: str) -> web.Response:
        """The answer to what cannot be read as a request."""
        return web.Response(status=400, text=f"this request cannot be read: {reason}\n")
