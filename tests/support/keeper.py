"""A provider of several accounts that keeps responses, and ends those in the background when a test says so."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

WAIT_S = 10.0
POLL_S = 0.005
USAGE = (100, 20)
ACCOUNT = web.RequestKey("account", str)


@dataclass(slots=True)
class Asked:
    """A request that reached it."""

    method: str
    path: str  # with its query
    account: str
    body: bytes


@dataclass(slots=True)
class Keeper:
    """`with Keeper({"credential": "account"}) as keeper:`; responses are kept by account and id."""

    accounts: dict[str, str]
    asked: list[Asked] = field(default_factory=list)
    kept: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    cancelled_usage: tuple[int, int] | None = None  # OpenAI reports none
    base_url: str = ""

    _thread: threading.Thread = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _stop: asyncio.Event = field(init=False)
    _started: threading.Event = field(default_factory=threading.Event)
    _made: int = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    def account_of(self, response_id: str) -> str:
        return next(account for account, kept_id in self.kept if kept_id == response_id)

    def finish(self, response_id: str, usage: tuple[int, int] | None = USAGE, *, status: str = "completed") -> None:
        """The response ends so."""
        response = self.kept[self.account_of(response_id), response_id]
        response["usage"] = _usage(usage)
        if status == "failed":
            response["error"] = {"code": "server_error", "message": "it broke"}
        response["status"] = status

    def forget(self, response_id: str) -> None:
        del self.kept[self.account_of(response_id), response_id]

    def count(self, method: str, part: str) -> int:
        return sum(one.method == method and part in one.path for one in self.asked)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._note])
        app.router.add_post("/v1/responses", self._create)
        app.router.add_post("/v1/responses/input_tokens", self._count)
        app.router.add_get("/v1/responses/{id}", self._retrieve)
        app.router.add_delete("/v1/responses/{id}", self._delete)
        app.router.add_post("/v1/responses/{id}/cancel", self._cancel)
        app.router.add_get("/v1/responses/{id}/input_items", self._items)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        account = self.accounts.get(request.headers.get("Authorization", "").removeprefix("Bearer "), "")
        self.asked.append(Asked(request.method, request.path_qs, account, await request.read()))
        if not account:
            return web.json_response({"error": {"message": "who are you?"}}, status=401)
        request[ACCOUNT] = account
        return await handler(request)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        previous = asked.get("previous_response_id")
        if previous and (request[ACCOUNT], previous) not in self.kept:
            return _not_found(previous, 400)
        self._made += 1
        background = bool(asked.get("background"))
        response = {
            "id": f"resp_{self._made}",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "queued" if background else "completed",
            "background": background,
            "model": f"{asked['model']}-2026",
            "store": asked.get("store", True),
            "error": None,
            "instructions": asked.get("instructions"),
            "output": _output(self._made),
            "usage": None if background else _usage(USAGE),
        }
        if response["store"]:
            self.kept[request[ACCOUNT], response["id"]] = response
        if asked.get("stream"):
            return await self._stream(request, response, 0)
        return web.json_response(response)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "response.input_tokens", "input_tokens": 15})

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        response = self._found(request)
        if response is None:
            return _not_found(request.match_info["id"])
        if request.query.get("stream") == "true":
            return await self._stream(request, response, int(request.query.get("starting_after", -1)) + 1)
        return web.json_response(response)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if self._found(request) is None:
            return _not_found(request.match_info["id"])
        del self.kept[request[ACCOUNT], request.match_info["id"]]
        return web.json_response({"id": request.match_info["id"], "object": "response", "deleted": True})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        response = self._found(request)
        if response is None:
            return _not_found(request.match_info["id"])
        if response["status"] in ("queued", "in_progress"):
            response |= {"status": "cancelled", "usage": _usage(self.cancelled_usage)}
        return web.json_response(response)

    async def _items(self, request: web.Request) -> web.StreamResponse:
        item = {"id": "msg_1", "type": "message", "role": "user", "content": []}
        return web.json_response(
            {"object": "list", "data": [item], "first_id": "msg_1", "last_id": "msg_1", "has_more": False}
        )

    def _found(self, request: web.Request) -> dict[str, Any] | None:
        return self.kept.get((request[ACCOUNT], request.match_info["id"]))

    async def _stream(self, request: web.Request, response: dict[str, Any], first: int) -> web.StreamResponse:
        """Event 0 tells its id, event 1 that it ended."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        if first <= 0:
            await _send(stream, {"type": "response.created", "sequence_number": 0, "response": response})
        while response["status"] in ("queued", "in_progress"):
            await asyncio.sleep(POLL_S)
        if response["status"] in ("completed", "incomplete", "failed"):
            await _send(stream, {"type": f"response.{response['status']}", "sequence_number": 1, "response": response})
        await stream.write_eof()
        return stream


def _output(number: int) -> list[dict[str, Any]]:
    code = {
        "type": "code_interpreter_call",
        "id": f"ci_{number}",
        "container_id": f"cntr_{number}",
        "status": "completed",
        "code": '{"id":"in_code"}',
        "outputs": [],
    }
    content = [{"type": "output_text", "text": 'says "id": "in_text"', "annotations": []}]
    message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}
    return [code, message]


async def _send(stream: web.StreamResponse, event: dict[str, Any]) -> None:
    await stream.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


def _usage(counts: tuple[int, int] | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return {
        "input_tokens": counts[0],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counts[1],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(counts),
    }


def _not_found(response_id: str, status: int = 404) -> web.Response:
    error = {"message": f"Response with id '{response_id}' not found.", "type": "invalid_request_error"}
    return web.json_response({"error": {**error, "param": None, "code": None}}, status=status)
