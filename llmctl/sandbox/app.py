"""The sandbox as an HTTP server: who may ask, which path is what, and how an answer is sent."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from llmctl import tokenizer

from . import catalogue, chat, completions, embeddings, errors, gemini, messages
from .errors import FAULTS, Dialect, SandboxError
from .responses import PAGE_ITEMS, Responses
from .shelf import Shelf
from .wire import Endpoint, Reply, Stream, new_id

BODY_BYTES_MAX: Final = 4 << 20  # text only: more than fills the largest context window, escapes included
INLINE_BYTES_MAX: Final = 8 << 10  # under a millisecond of counting; longer bodies are read in a thread
SHUTDOWN_S: Final = 1.0  # open streams are play; they must not hold up the daemon's own end

ENDPOINTS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": chat.reply,
    "/v1/completions": completions.reply,
    "/v1/embeddings": embeddings.reply,
    "/v1/messages": messages.reply,
    "/v1/messages/count_tokens": messages.count_reply,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_log: Final = logging.getLogger(__name__)


class Sandbox:
    """The server. `credential` is what a caller must show; `shelf` is the directory, made at the start, for responses
    that it is asked to store; `delay_s` passes before each event of a stream."""

    def __init__(self, credential: str, shelf: Path, delay_s: float = 0.01) -> None:
        assert credential, "an empty credential would let everybody in"
        self._shelf = Shelf(shelf)
        self._responses = Responses(self._shelf, delay_s)
        self._credential = credential.encode()
        self._delay_s = delay_s
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; port 0 takes a free one. Returns `http://HOST:PORT`; OpenAI's SDKs want `/v1` behind it.

        Raises OSError if the port is taken, and TokenizerError if the vocabulary cannot be prepared.
        """
        assert self._runner is None, "started twice"
        self._shelf.open()
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        try:
            await runner.setup()
            await web.TCPSite(runner, host, port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        bound_port = runner.addresses[0][1]
        return f"http://[{host}]:{bound_port}" if ":" in host else f"http://{host}:{bound_port}"

    async def stop(self) -> None:
        """Close the port and end what still streams. Does nothing if it does not run."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        for path, endpoint in ENDPOINTS.items():
            app.router.add_post(path, self._answering(endpoint))
        app.router.add_post("/v1/models/{name:[^:/]+}:{method}", self._answer_google)
        app.router.add_post("/v1/responses", self._answering(self._responses.create))
        app.router.add_post("/v1/responses/input_tokens", self._answering(self._responses.count))
        app.router.add_post("/v1/responses/compact", self._answering(self._responses.compact))
        app.router.add_get("/v1/responses/{id}", self._retrieve)
        app.router.add_delete("/v1/responses/{id}", self._about(self._responses.delete))
        app.router.add_post("/v1/responses/{id}/cancel", self._about(self._responses.cancel))
        app.router.add_get("/v1/responses/{id}/input_items", self._list_items)
        app.router.add_get("/v1/models", _list_models)
        app.router.add_get("/v1/models/{name}", _show_model)
        app.on_startup.append(_load_vocabulary)
        app.on_response_prepare.append(_name_request)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever happens, the client gets an answer in its dialect and nothing of our inside."""
        request[_REQUEST_ID] = new_id("req_")
        try:
            self._authenticate(request)
            return await handler(request)
        except SandboxError as error:
            return _refuse(request, error)
        except web.HTTPRequestEntityTooLarge:
            message = f"The sandbox reads at most {BODY_BYTES_MAX} bytes of body."
            return _refuse(request, SandboxError("too_large", message))
        except web.HTTPNotFound:
            return _refuse(request, SandboxError("unknown_path", f"The sandbox has no {request.path[:200]}."))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            message = f"{request.path[:200]} takes {allowed}, not {error.method[:20]}."
            refusal = _refuse(request, SandboxError("wrong_method", message))
            refusal.headers["Allow"] = allowed
            return refusal
        except (web.RequestPayloadError, ConnectionError):
            # Where the client left, nobody reads this; raised, it would be an error in aiohttp's log.
            message = "The request body is not what its headers announce."
            return _refuse(request, SandboxError("invalid", message))
        except web.HTTPException as error:
            return _refuse(request, SandboxError("invalid", f"The request cannot be read: {error.reason}."))
        except Exception:
            _log.exception("the sandbox failed on %r", request.path)
            message = "The sandbox failed; the reason is in the gateway's log."
            return _refuse(request, SandboxError("internal", message))

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        named = request.headers.get("x-api-key", "") or request.headers.get("x-goog-api-key", "")
        shown = bearer.strip() if scheme.lower() == "bearer" else named
        if not hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), self._credential):
            raise SandboxError("bad_credential", "The sandbox does not know this credential.")

    def _answering(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            # Of a short body, embeddings still make thousands of numbers.
            return await self._answer(request, endpoint, in_thread=endpoint is embeddings.reply)

        return handle

    async def _answer_google(self, request: web.Request) -> web.StreamResponse:
        name, method = request.match_info["name"], request.match_info["method"]
        as_events = request.query.get("alt") == "sse"
        endpoint = partial(_google_reply, name, method, as_events)
        return await self._answer(request, endpoint, in_thread="mbed" in method)

    async def _answer(self, request: web.Request, endpoint: Endpoint, *, in_thread: bool) -> web.StreamResponse:
        body = await request.read()
        if len(body) <= INLINE_BYTES_MAX and not in_thread:
            reply = endpoint(body)
        else:
            reply = await asyncio.to_thread(endpoint, body)
        if isinstance(reply, Stream):
            return await self._stream(request, reply)
        return _json(reply)

    def _about(self, act: Callable[[str], Reply]) -> Handler:
        """What is done to a stored response by its id alone."""

        async def handle(request: web.Request) -> web.StreamResponse:
            reply = act(request.match_info["id"])
            assert not isinstance(reply, Stream)
            return _json(reply)

        return handle

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        after = query.get("starting_after", "")
        reply = self._responses.retrieve(
            request.match_info["id"],
            stream=query.get("stream") == "true",
            starting_after=int(after) if after.isdecimal() else -1,
        )
        return await self._stream(request, reply) if isinstance(reply, Stream) else _json(reply)

    async def _list_items(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        limit = query.get("limit", "")
        reply = self._responses.input_items(
            request.match_info["id"],
            after=query.get("after", ""),
            limit=int(limit) if limit.isdecimal() else PAGE_ITEMS,
            newest_first=query.get("order") != "asc",
        )
        return _json(reply)

    async def _stream(self, request: web.Request, reply: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": reply.content_type, "Cache-Control": "no-cache"})
        await response.prepare(request)
        try:
            for frame in reply.frames:
                await asyncio.sleep(self._delay_s)  # with 0 too: others get their turn
                await response.write(frame)
            await response.write_eof()
        except ConnectionError:
            pass  # the client left
        except Exception:
            _log.exception("the sandbox failed in a stream of %r", request.path)
            if request.transport is not None:
                request.transport.abort()  # half an answer must not look like a whole one
        return response


def _google_reply(name: str, method: str, as_events: bool, body: bytes) -> Reply:
    return gemini.reply(name, method, body, as_events=as_events)


def dialect_of(request: web.Request) -> Dialect:
    """`/v1/models` and unknown paths belong to all dialects; only Anthropic's clients send their version, only Google's
    this header."""
    if request.path.startswith("/v1/messages") or "anthropic-version" in request.headers:
        return "anthropic"
    if "x-goog-api-key" in request.headers:
        return "gemini"
    return "openai"


async def _list_models(request: web.Request) -> web.StreamResponse:
    return _json(catalogue.list_reply(dialect_of(request)))


async def _show_model(request: web.Request) -> web.StreamResponse:
    return _json(catalogue.model_reply(request.match_info["name"], dialect_of(request)))


def _refuse(request: web.Request, error: SandboxError) -> web.Response:
    return _json(errors.document(error, dialect_of(request), request[_REQUEST_ID]), FAULTS[error.code].status)


def _json(document: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    header = "request-id" if dialect_of(request) == "anthropic" else "x-request-id"
    response.headers[header] = request[_REQUEST_ID]


async def _load_vocabulary(_app: web.Application) -> None:
    # At the start, in a thread: a machine that cannot prepare it should say so now, not at the first call.
    await asyncio.to_thread(tokenizer.preload)
