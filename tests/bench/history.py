"""A database with millions of calls in it, to measure reports on.

    python -m tests.bench.history FILE --calls 10000000


Thirty days until now, 2,000 users in 20 groups, a few of them busy and most not, six models. The calls are written in
bulk, the roll-ups and summaries from them: two minutes for ten million.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from pathlib import Path

from llmctl.domain.scope import ORGANISATION
from llmctl.store import fold, groups, limits, scopes, users
from llmctl.store.audit import Author
from llmctl.store.database import Store, create, file_bytes
from llmctl.store.ids import EPOCH_US, SLOT_BITS
from llmctl.store.keys import create as create_key

DAYS = 30
DAY_S = 86_400
USERS = 2_000
GROUPS = 20
MODELS = ("gpt-5", "gpt-5-mini", "gpt-5-nano", "claude-sonnet-4-5", "claude-haiku-4-5", "gemini-2.5-flash")
DOLLAR = 1_000_000_000
SHAPE = (
    '{"prompt_tokens":\0,"completion_tokens":\0,"total_tokens":\0,'
    '"prompt_tokens_details":{"cached_tokens":\0},"completion_tokens_details":{"reasoning_tokens":\0}}'
)


def make(path: Path, calls: int, *, now_s: int, users_count: int = USERS) -> None:
    """A new database with so many settled calls in the thirty days before `now_s`."""
    create(path)
    store = Store(path, synchronous="NORMAL")
    with store.write() as tx:
        _organisation(tx, now_s, users_count)
    for day in range(DAYS):
        first, end = calls * day // DAYS, calls * (day + 1) // DAYS
        with store.write() as tx:
            _calls(tx, first, end, calls, now_s=now_s, users_count=users_count)
        store.checkpoint("TRUNCATE")
    fold.everything(store, default_zone="UTC", now_s=now_s)
    store.checkpoint("TRUNCATE")
    store.close()


def _organisation(tx: sqlite3.Connection, now_s: int, users_count: int) -> None:
    author = Author("bench", now_s - DAYS * DAY_S)
    for number in range(GROUPS):
        parent = f"group-{number // 2}" if number >= GROUPS // 2 else None
        groups.add(tx, author, f"group-{number}", parent=parent, timezone=None)
        group_id = groups.get(tx, f"group-{number}").id
        lineage = groups.lineage(tx, group_id)
        tx.execute("INSERT INTO lineages VALUES (?, ?)", (number, f"/{'/'.join(map(str, lineage))}/"))
        tx.executemany("INSERT INTO lineage_groups VALUES (?, ?)", [(number, one) for one in lineage])
    for number in range(users_count):
        users.add(tx, author, f"user-{number}", group=f"group-{number % GROUPS}", email=None)
        create_key(tx, author, f"user-{number}")
    for number, model in enumerate(MODELS):
        tx.execute("INSERT INTO models VALUES (?, 'openai', ?)", (number + 1, model))
        tx.execute("INSERT INTO names VALUES (?, ?)", (number + 1, model))
    tx.execute("INSERT INTO endpoints VALUES (1, 'openai', 'chat.completions')")
    tx.execute("INSERT INTO usage_shapes VALUES (1, ?)", (SHAPE,))
    for scope, each in ((ORGANISATION, ""), (ORGANISATION, "user"), (scopes.of_group(tx, "group-1"), "")):
        limits.put(
            tx,
            author,
            scope,
            measure="cost",
            window="month",
            amount=10**6 * DOLLAR,
            each=each,  # type: ignore[arg-type]
            default_zone="UTC",
        )


def _calls(tx: sqlite3.Connection, first: int, end: int, calls: int, *, now_s: int, users_count: int) -> None:
    start_us, span_us = (now_s - DAYS * DAY_S) * 1_000_000, DAYS * DAY_S * 1_000_000
    names = {
        "first": first,
        "end": end,
        "start_us": start_us,
        "step_us": span_us // calls,
        "epoch_us": EPOCH_US,
        "users": users_count,
        "groups": GROUPS,
        "models": len(MODELS),
    }
    (before,) = tx.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()
    tx.execute(_INSERT, names)
    sums = ", ".join(
        f"sum({one})" for one in ("1", "status >= 400", "usage_source = 'estimated'", "cost_nano IS NULL")
    ) + "".join(f", coalesce(sum({name}), 0)" for name in fold.SUMS[4:])
    tx.execute(
        f"""
        INSERT INTO rollups SELECT started_at_ms / 900000, lineage_id, user_id, key_id, model_id, 0, {sums}
        FROM calls WHERE id > ? GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT DO UPDATE SET {", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in fold.SUMS)}
        """,
        (before,),
    )


_INSERT = f"""
    WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end),
    dice AS MATERIALIZED (
        SELECT :start_us + i * :step_us AS us, abs(random() % 10007) / 10007.0 AS who,
               abs(random() % 1009) / 1009.0 AS which, 200 + abs(random() % 9000) AS input,
               20 + abs(random() % 1500) AS output, abs(random() % 1000) AS luck, 300 + abs(random() % 9000) AS ms
        FROM n
    ),
    drawn AS (
        SELECT *, CAST(who * who * who * :users AS INTEGER) AS u, 1 + CAST(which * which * :models AS INTEGER) AS model,
               input * (luck % 3) / 3 AS cached FROM dice
    )
    INSERT INTO calls (id, started_at_ms, state, lineage_id, user_id, key_id, model_id, endpoint_id, request_model_id,
        response_model_id, stream, status, held_nano, held_input_tokens, held_output_tokens, usage_source, input_tokens,
        cache_read_tokens, output_tokens, reasoning_tokens, cost_nano, price_id, usage_shape_id, usage_values,
        latency_ms, ttft_ms)
    SELECT (us - :epoch_us) << {SLOT_BITS}, us / 1000, 'settled', u % :groups, u + 1, u + 1, model, 1, model,
        model, luck % 2, iif(luck = 7, 500, 200), 90000000 + input * 1250, input + 2048, 8192,
        iif(luck = 8, 'estimated', 'reported'), input, cached, output, output / 4,
        iif(luck = 9, NULL, input * 1250 + output * 10000), 17, 1,
        input || ' ' || output || ' ' || (input + output) || ' ' || cached || ' ' || (output / 4), ms, ms / 5
    FROM drawn
"""


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=USERS)
    options = parser.parse_args()
    began_s = time.process_time()
    make(options.file, options.calls, now_s=int(time.time()), users_count=options.users)
    took_s = time.process_time() - began_s
    print(f"{options.calls:,} calls, {file_bytes(options.file) / options.calls:.0f} bytes each, {took_s:.0f} s of CPU")


if __name__ == "__main__":
    main()
