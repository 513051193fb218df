"""An organisation with history: groups, users, limits, and calls booked through the real ledger, over several days."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmctl.domain.demand import Demand, Rates
from llmctl.domain.errors import Refused
from llmctl.domain.principal import Caller
from llmctl.domain.usage import Usage
from llmctl.store import callers, groups, keys, users
from llmctl.store.audit import Author
from llmctl.store.booking import Closing, Held, Opening, Refusal
from llmctl.store.database import Store, create
from llmctl.store.ledger import Ledger

DOLLAR = 1_000_000_000
NOW_S = 1_795_442_400  # Monday 23 November 2026, 14:00 UTC
DAY_S = 86_400
ZONE = "UTC"


class Shop:
    """`async with Shop(path) as shop:`; afterwards the commands read what it booked."""

    def __init__(self, path: Path, *, now_s: int = NOW_S) -> None:
        if not path.exists():
            create(path)
        self.now_s = now_s
        self._path = path
        self._store = Store(path)
        self._author = Author("tester", now_s - 30 * DAY_S)
        self._secrets: dict[str, str] = {}
        self._clock = SimpleNamespace(at_s=float(now_s))
        self._ledger = Ledger(path, default_zone=ZONE, share_percent=25, clock_s=lambda: self._clock.at_s)

    async def __aenter__(self) -> Shop:
        await self._ledger.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ledger.close()
        self._store.close()

    def group(self, name: str, *, parent: str | None = None, timezone: str | None = None) -> None:
        with self._store.write() as tx:
            groups.add(tx, self._author, name, parent=parent, timezone=timezone)

    def user(self, name: str, group: str | None = None) -> None:
        with self._store.write() as tx:
            users.add(tx, self._author, name, group=group, email=None)
            self._secrets[name] = keys.create(tx, self._author, name).secret

    def knows(self, user: str) -> None:
        """A user of before gets another key."""
        with self._store.write() as tx:
            self._secrets[user] = keys.create(tx, self._author, user, name="again").secret

    def _caller(self, user: str) -> Caller:
        return callers.load(self._store.connection, self._secrets[user], now_s=self.now_s)

    async def call(
        self,
        user: str,
        *,
        model: str = "gpt-5",
        provider: str = "openai",
        asked: str = "",
        at_s: int | None = None,
        cost: int | None = DOLLAR // 100,
        usage: Usage | None = None,
        settle: bool = True,
        tags: str = "",
        end_user: str = "",
        **closing: object,
    ) -> int:
        """One call, settled unless `settle` is False. Returns its id."""
        self._clock.at_s = float(self.now_s - 60 if at_s is None else at_s)
        call_id = self._ledger.new_call_id()
        opening = Opening(
            call_id=call_id,
            started_at_ms=int(self._clock.at_s * 1000),
            caller=self._caller(user),
            provider=provider,
            model=model,
            dialect="openai",
            endpoint="chat.completions",
            request_model=asked or model,
            stream=False,
            demand=Demand(1_000, 1_000, 256, 1, False, None if cost is None else Rates(DOLLAR, 10 * DOLLAR)),
            price_id=None,
            tags=tags,
            end_user=end_user,
        )
        held = await self._ledger.hold(opening)
        assert isinstance(held, Held), held
        if settle:
            self.end(call_id, cost=cost, usage=usage, **closing)
        return call_id

    def end(
        self, call_id: int, *, cost: int | None = DOLLAR // 100, usage: Usage | None = None, **closing: object
    ) -> None:
        """Settles a call that is open, or releases it: `state`."""
        facts: dict[str, Any] = {
            "state": "settled",
            "status": 200,
            "usage": usage or Usage(input_tokens=1_000, cache_read_tokens=400, output_tokens=200),
            "usage_source": "reported",
            "cost_nano_usd": cost,
            "raw_usage": '{"prompt_tokens":1000,"completion_tokens":200}',
            "latency_ms": 840,
            "ttft_ms": 210,
        }
        self._ledger.settle(Closing(call_id=call_id, **(facts | closing)))

    def refused(self, user: str, *, model: str = "gpt-5", code: str = "model_not_allowed") -> None:
        self._clock.at_s = float(self.now_s - 30)
        self._ledger.refuse(
            Refusal(
                call_id=self._ledger.new_call_id(),
                started_at_ms=int(self._clock.at_s * 1000),
                caller=self._caller(user),
                dialect="openai",
                endpoint="chat.completions",
                request_model=model,
                stream=False,
                refused=Refused(code, "as it is"),
                status=403,
            )
        )
