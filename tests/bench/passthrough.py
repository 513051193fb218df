"""The yardstick: a plain aiohttp reverse proxy, as its documentation would have one write it. No keys, no accounting.

    python -m tests.bench.passthrough http://127.0.0.1:8000

The first line printed is its address.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

BODY_BYTES_MAX = 32 << 20  # as the gateway's
HOP_BY_HOP = {"connection", "host", "content-length", "transfer-encoding", "keep-alive"}

UPSTREAM = web.AppKey("upstream", URL)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def relay(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    url = request.app[UPSTREAM].join(request.rel_url)
    session = request.app[SESSION]
    async with session.request(request.method, url, data=body, headers=passed(request.headers)) as answer:
        if answer.content_type != "text/event-stream":
            return web.Response(status=answer.status, headers=passed(answer.headers), body=await answer.read())
        response = web.StreamResponse(status=answer.status, headers=passed(answer.headers))
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


def passed(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


async def session_for_life(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)  # the default of 100 would queue what the gateway sends at once
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        app[SESSION] = session
        yield


async def serve(upstream: URL) -> None:
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(session_for_life)
    app.router.add_route("*", "/{path:.*}", relay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print("http://{}:{}".format(*runner.addresses[0][:2]), flush=True)
    await asyncio.Event().wait()  # until it is terminated


if __name__ == "__main__":
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # wrk leaves in the middle of answers
    uvloop.run(serve(URL(sys.argv[1])))
