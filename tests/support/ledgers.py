"""A database with a caller in it, and the calls that a test books."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from llmctl.domain.demand import Demand, Rates
from llmctl.domain.principal import Caller
from llmctl.domain.scope import ORGANISATION
from llmctl.domain.usage import Usage
from llmctl.store import callers, fold, groups, keys, limits, scopes, users
from llmctl.store.audit import Author
from llmctl.store.booking import Closing, Opening
from llmctl.store.database import Store, create
from llmctl.store.ledger import Ledger

DOLLAR = 1_000_000_000
RATES = Rates(input_rate=1 * DOLLAR, output_rate=10 * DOLLAR)  # USD 1 and 10 per million tokens


class Books:
    """One database, seen from the commands' side and from the daemon's."""

    def __init__(self, path: Path) -> None:
        create(path)
        self.path = path
        self.store = Store(path)
        self.author = Author("tester", int(time.time()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def add_user(self, name: str, group: str | None = None) -> str:
        """Returns the secret of the user's key."""
        with self.store.write() as tx:
            if group is not None and groups.find(tx, group) is None:
                groups.add(tx, self.author, group, parent=None, timezone=None)
            users.add(tx, self.author, name, group=group, email=None)
            return keys.create(tx, self.author, name).secret

    def limit(self, scope: str, amount: int, *, measure: str = "cost", window: str = "month", **more: object) -> int:
        """`scope` is "org", "group NAME", "user NAME" or "key USER/NAME". Returns the limit's id."""
        kind, _, name = scope.partition(" ")
        with self.store.write() as tx:
            where = {
                "org": lambda: ORGANISATION,
                "group": lambda: scopes.of_group(tx, name),
                "user": lambda: scopes.of_user(tx, name),
                "key": lambda: scopes.of_key(tx, name),
            }[kind]()
            put = limits.put(
                tx, self.author, where, measure=measure, window=window, amount=amount, default_zone="UTC", **more
            )
            return put.limit.id

    def caller(self, secret: str, now_s: int | None = None) -> Caller:
        now_s = int(time.time()) if now_s is None else now_s
        return callers.load(self.store.connection, secret, now_s=now_s)

    def ledger(self, **more: object) -> Ledger:
        return Ledger(self.path, default_zone="UTC", share_percent=25, **more)

    def rows(self, sql: str, *parameters: object) -> list[tuple]:
        return self.store.connection.execute(sql, parameters).fetchall()


def demand(input_tokens: int = 1_000, output_tokens: int = 1_000, least: int | None = None) -> Demand:
    return Demand(input_tokens, output_tokens, output_tokens if least is None else least, 1, False, RATES)


def opening(
    ledger: Ledger, caller: Caller, wanted: Demand | None = None, *, at_ms: int | None = None, end_user: str = ""
) -> Opening:
    return Opening(
        call_id=ledger.new_call_id(),
        started_at_ms=int(time.time() * 1000) if at_ms is None else at_ms,
        caller=caller,
        provider="openai",
        model="gpt-test",
        dialect="openai",
        endpoint="chat.completions",
        request_model="gpt-test",
        stream=False,
        demand=wanted or demand(),
        price_id=1,
        end_user=end_user,
    )


def closing(call_id: int, *, input_tokens: int = 500, output_tokens: int = 100, **more: object) -> Closing:
    """A settled call, priced as RATES say."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    facts: dict[str, object] = {
        "status": 200,
        "usage": usage,
        "usage_source": "reported",
        "cost_nano_usd": (input_tokens + 10 * output_tokens) * 1_000,
        "price_id": 1,
        "raw_usage": f'{{"prompt_tokens":{input_tokens},"completion_tokens":{output_tokens}}}',
        "response_model": "gpt-test-2026",
        "latency_ms": 12,
    }
    return Closing(call_id, "settled", **{**facts, **more})


def differences(books: Books) -> list[str]:
    """Where balances or roll-ups say something else than the calls themselves, or a row something that its table does
    not allow. Empty: all agree."""
    found = [text for (text,) in books.rows("PRAGMA integrity_check") if text != "ok"]
    sums = "coalesce(sum(cost_nano), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)"
    calls = books.rows(f"SELECT count(*), {sums} FROM calls WHERE state = 'settled'")
    rollups = books.rows(f"SELECT coalesce(sum(calls), 0), {sums} FROM rollups")
    if calls != rollups:
        found.append(f"calls say {calls}, roll-ups {rollups}")
    folded = books.rows(
        f"SELECT coalesce(sum(calls), 0), {sums} FROM rollups WHERE ({', '.join(fold.KEY)}) <= (?, ?, ?, ?, ?, ?)",
        *fold.place(books.store.connection),
    )
    for kind in ("day", "month"):
        summed = books.rows(
            f"SELECT coalesce(sum(calls), 0), {sums} FROM summaries JOIN spans ON spans.id = span_id WHERE kind = ?",
            kind,
        )
        if summed != folded:
            found.append(f"roll-ups say {folded}, summaries of each {kind} {summed}")
    balances = books.rows("SELECT limit_id, window_start, settled, held FROM balances")
    for limit_id, window_start, settled, held in balances:
        ((measure, kind, principal),) = books.rows(
            "SELECT measure, principal, principal_id FROM limits WHERE id = ?", limit_id
        )
        mine = {
            "org": "true",
            "group": f"lineage_id IN (SELECT lineage_id FROM lineage_groups WHERE group_id = {principal})",
            "user": f"user_id = {principal}",
            "key": f"key_id = {principal}",
        }[kind]
        spent, taken = {
            "cost": ("cost_nano", "held_nano"),
            "tokens": ("input_tokens + output_tokens", "held_input_tokens + held_output_tokens"),
            "requests": ("1", "1"),
            "concurrency": ("0", "1"),
        }[measure]
        since = f"started_at_ms >= {window_start * 1000} AND {mine}"
        ((really,),) = books.rows(f"SELECT coalesce(sum({spent}), 0) FROM calls WHERE state = 'settled' AND {since}")
        ((open_,),) = books.rows(f"SELECT coalesce(sum({taken}), 0) FROM calls WHERE state = 'open' AND {since}")
        if (settled, held) != (really, open_):
            found.append(f"l{limit_id}: balance {settled}+{held}, calls {really}+{open_}")
    return found
