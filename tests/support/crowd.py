"""Numbered calls without end: the client writes each number where the provider sees it and where the ledger keeps it
(a tag), so that two books can be compared call by call."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from contextlib import suppress
from itertools import count
from typing import Self

import aiohttp

from .faulty import ANSWER, Faulty, Line, Seen, events, whole
from .wire import CHAT

TAG = "x-llmctl-tags"


async def counted(line: Line) -> None:
    """An answer at once or after a while, whole or as a stream."""
    seen = await line.request()
    slow_s = random.choice((0.0, 0.0, 0.02, 0.1))
    if not seen.stream:
        await asyncio.sleep(slow_s)
        await line.send_whole(whole(seen.anthropic))
        return
    await line.start_stream()
    for event in events(seen.anthropic):
        await asyncio.sleep(slow_s / len(ANSWER.split()))
        await line.send_event(event)
    await line.end_stream()


def number_of(seen: Seen) -> int:
    return int(json.loads(seen.body)["messages"][0]["content"])


def numbers_seen(faulty: Faulty, name: str) -> list[int]:
    """The numbers of the calls that reached the provider, as often as they did."""
    return [number_of(seen) for seen in faulty.seen(name)]


class Crowd:
    """`with Crowd(url, keys) as crowd:` so many clients call one after another, some as streams; those that lose their
    gateway ask again in a moment. `answered`: the numbers of calls whose client got all of the answer."""

    _numbers = count(1)  # never twice in one run

    def __init__(self, url: str, keys: list[str], *, model: str, at_once: int = 32) -> None:
        self._url = url
        self._keys = keys
        self._model = model
        self._at_once = at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answered: set[int] = set()
        self.statuses: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        async with aiohttp.ClientSession(self._url, connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(self._call_on(session, key) for key in self._of_each()))

    def _of_each(self) -> list[str]:
        return [self._keys[place % len(self._keys)] for place in range(self._at_once)]

    async def _call_on(self, session: aiohttp.ClientSession, key: str) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            body = {
                "model": self._model,
                "messages": [{"role": "user", "content": str(number)}],
                "max_tokens": 50,
                "stream": number % 2 == 0,
            }
            headers = {"Authorization": f"Bearer {key}", TAG: f"n{number}"}
            with suppress(aiohttp.ClientError, OSError):
                async with session.post(CHAT, json=body, headers=headers) as answer:
                    text = await answer.read()
                    self.statuses.add(answer.status)
                    if answer.status == 200 and (not body["stream"] or b"[DONE]" in text):
                        self.answered.add(number)
                    continue
            await asyncio.sleep(0.02)
