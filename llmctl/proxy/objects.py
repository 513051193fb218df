"""What providers keep: the object that a call is about or goes on from, if it is the caller's own, and the calls that
wait for what becomes of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llmctl.config import Config
from llmctl.domain.errors import Refused
from llmctl.domain.price import Price
from llmctl.domain.principal import Caller
from llmctl.store import deferred, objects, prices
from llmctl.store.database import Store, storing
from llmctl.store.deferred import DeferredCall
from llmctl.store.objects import StoredObject

# An object is noted with the booking of its call, some milliseconds after its client has the id: one that is not there
# is looked for again before we say so. Also of those that are somebody else's: how long it takes tells nothing.
LOOK_AGAIN_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)


class Objects:
    """Belongs to the event loop: its reads are look-ups by index, shorter than handing them to a thread."""

    def __init__(self, config: Config) -> None:
        self._store = Store(config.database, synchronous=config.server.synchronous)

    def close(self) -> None:
        self._store.close()

    async def find(self, caller: Caller, object_id: str) -> StoredObject:
        """Raises Refused("object_not_found"), in the same words for one that is somebody else's; StoreUnavailable."""
        found = await self._look(caller, object_id)
        if found is None:
            raise Refused("object_not_found", f"there is no response {object_id!r} of yours")
        return found

    async def continued(self, caller: Caller, response_id: str) -> StoredObject:
        """The response that a new one goes on from. Raises Refused("previous_response_not_found")."""
        found = await self._look(caller, response_id)
        if found is None:
            raise Refused(
                "previous_response_not_found",
                f"there is no response {response_id!r} of yours to go on from",
                hint="send the conversation itself",
                param="previous_response_id",
            )
        return found

    async def referred_to(self, caller: Caller, part_ids: Sequence[str]) -> StoredObject:
        """The stored answer that the first of these is in; they all have to be the caller's own. Raises
        Refused("object_not_found")."""
        first: StoredObject | None = None
        waits = iter(LOOK_AGAIN_S)  # for all of them together
        for part_id in part_ids:
            while (found := self._with_part(caller, part_id)) is None:
                if (pause_s := next(waits, None)) is None:
                    raise _no_part(part_id)
                await asyncio.sleep(pause_s)
            first = first or found
        assert first is not None
        return first

    def mentioned(self, caller: Caller, part_ids: Sequence[str]) -> StoredObject | None:
        """The first stored answer of the caller's that one of these is in. Raises Refused("object_not_found") for what
        is in somebody else's alone."""
        first: StoredObject | None = None
        for part_id in part_ids:
            found = self._with_part(caller, part_id)
            with storing():
                foreign = found is None and objects.is_part(self._store.connection, part_id)
            if foreign:
                raise _no_part(part_id)
            first = first or found
        return first

    def _with_part(self, caller: Caller, part_id: str) -> StoredObject | None:
        with storing():
            return objects.with_part(self._store.connection, part_id, caller.user_id)

    def waiting(self) -> list[tuple[int, int]]:
        """Calls that go on at a provider: id and starting time (ms). Raises StoreError."""
        with storing():
            return deferred.listing(self._store.connection)

    def deferred(self, call_id: int) -> tuple[DeferredCall, Price | None] | None:
        """Such a call and its price; None: it has ended. Raises StoreError."""
        with storing():
            call = deferred.one(self._store.connection, call_id)
            if call is None:
                return None
            price = None if call.price_id is None else prices.get(self._store.connection, call.price_id)
            return call, price

    async def _look(self, caller: Caller, object_id: str) -> StoredObject | None:
        for pause_s in (*LOOK_AGAIN_S, 0.0):
            with storing():
                found = objects.find(self._store.connection, object_id, caller.user_id)
            if found is not None or not pause_s:
                return found
            await asyncio.sleep(pause_s)
        return None


def _no_part(part_id: str) -> Refused:
    what = f"there is no stored item or container {part_id!r} of yours"
    return Refused("object_not_found", what, hint="send the content itself")
