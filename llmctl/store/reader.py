"""The daemon's longer reads, beside its event loop: aiosqlite, on a connection that cannot write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import aiosqlite

from llmctl.domain.limit import Limit, Standing

from . import own_usage, standings
from .database import BUSY_TIMEOUT_MS, translated
from .own_usage import OwnUsage
from .sql import Reading, as_json

T = TypeVar("T")


class Reader:
    """`open`, any number of reads, `close`. Each reading is a short snapshot, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            self._connection = await aiosqlite.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000
            )
        except sqlite3.Error as error:
            raise translated(error) from error

    async def close(self) -> None:
        await self._connection.close()

    async def standings(self, limits: Sequence[Limit], *, user_id: int, now_s: int) -> list[Standing]:
        """Where each limit stands now; of those on each user, this user's. Raises StoreError."""
        return [
            await self._run(standings.member_now(limit, user_id if limit.each == "user" else 0, now_s))
            for limit in limits
            if limit.each != "end_user"
        ]

    async def own_usage(self, user_id: int, zone: str, now_s: int) -> tuple[OwnUsage, OwnUsage]:
        """What a user has used today and this month, as the zone has them. Raises StoreError."""
        return await self._run(own_usage.lately(user_id, zone, now_s))

    async def priced_models(self, providers: Iterable[str]) -> list[str]:
        """The models that the price list knows for these names of providers, patterns among them. Raises StoreError."""
        return await self._run(_priced_models(list(providers)))

    async def _run(self, reading: Reading[T]) -> T:
        async with self._turn:
            try:
                try:
                    await self._connection.execute("BEGIN")
                    return await self._steps(reading)
                finally:
                    with suppress(sqlite3.Error):  # an I/O error has ended it already, and is the one to be told
                        await self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise translated(error) from error

    async def _steps(self, reading: Reading[T]) -> T:
        try:
            sql, parameters = next(reading)
            while True:
                rows = await self._connection.execute_fetchall(sql, parameters)
                sql, parameters = reading.send(list(rows))
        except StopIteration as done:
            result: T = done.value
            return result


def _priced_models(providers: list[str]) -> Reading[list[str]]:
    rows = yield (
        """
        SELECT DISTINCT model FROM prices
        WHERE superseded_at IS NULL AND provider IN (SELECT value FROM json_each(?)) ORDER BY model
        """,
        (as_json(providers),),
    )
    return [name for (name,) in rows]
