"""Readers that stay: they delay no call, and the log is cut down as soon as they let go."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from contextlib import closing as closed

import pytest

from llmctl.domain.errors import StoreError
from llmctl.store import own_usage, upkeep
from llmctl.store.booking import Held
from llmctl.store.database import Checkpoint, Store
from llmctl.store.ledger import Ledger
from llmctl.store.reader import Reader
from llmctl.store.sql import Reading
from tests.support.ledgers import Books, closing, opening

SMALL = 300_000  # bytes
READ_S = 0.03  # two of them are over before the log is given up: READERS_WAIT_S


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "CHECKPOINT_EVERY", 50)
    monkeypatch.setattr(upkeep, "TRUNCATE_BYTES", SMALL)
    monkeypatch.setattr(upkeep, "TRUNCATE_AGAIN_S", 0.0)


async def call(books: Books, count: int) -> float:
    """The longest that one of these calls waited for its hold, in seconds."""
    ledger = books.ledger()
    await ledger.start()
    longest = await call_on(ledger, books, count)
    await ledger.close()
    return longest


async def call_on(ledger: Ledger, books: Books, count: int) -> float:
    caller = books.caller(books.add_user(f"u{time.monotonic_ns()}"))
    longest = 0.0
    for _ in range(count):
        wanted = opening(ledger, caller)
        began_s = time.perf_counter()
        assert isinstance(await ledger.hold(wanted), Held)
        longest = max(longest, time.perf_counter() - began_s)
        ledger.settle(closing(wanted.call_id))
    return longest


@pytest.mark.usefixtures("small_log")
async def test_a_reader_that_stays_delays_no_call_and_the_log_shrinks_when_it_goes(
    books: Books, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []  # for readers, with all who write behind them
    real = Store.checkpoint

    def checkpoint(store: Store, mode: str = "PASSIVE") -> Checkpoint:
        found = real(store, mode)
        waits.extend([mode] if found.busy else [])
        return found

    monkeypatch.setattr(Store, "checkpoint", checkpoint)
    with closed(sqlite3.connect(books.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        assert await call(books, 400) < 1.0
        assert len(waits) <= 2  # before it is known that the reader stays, and at the end
        assert books.store.wal_bytes() > SMALL
        assert 1 <= caplog.text.count("somebody reads without end") <= 5  # each time that it doubled
        reader.execute("COMMIT")
        await call(books, 10)
    assert books.store.wal_bytes() == 0


@pytest.mark.usefixtures("small_log")
async def test_a_log_that_grew_is_cut_down_bit_by_bit_while_calls_go_on(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    bit = 100_000
    monkeypatch.setattr(upkeep, "CUT_BYTES", bit)
    ledger = books.ledger()
    await ledger.start()
    with closed(sqlite3.connect(books.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        await call_on(ledger, books, 200)
        reader.execute("COMMIT")
    sizes = [books.store.wal_bytes()]
    while sizes[-1] > SMALL:
        await call_on(ledger, books, 10)
        sizes.append(books.store.wal_bytes())
        assert len(sizes) < 1_000
    assert sizes[0] > 5 * bit
    assert max(before - after for before, after in itertools.pairwise(sizes)) <= 2 * bit
    await ledger.close()


@pytest.mark.usefixtures("small_log")
async def test_readers_that_follow_one_another_without_a_gap_do_not_let_the_log_grow(books: Books) -> None:
    over = threading.Event()

    def read(delay_s: float) -> None:
        with closed(sqlite3.connect(books.path, isolation_level=None)) as reader:
            time.sleep(delay_s)
            while not over.is_set():
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM calls").fetchone()
                time.sleep(READ_S)
                reader.execute("COMMIT")

    threads = [threading.Thread(target=read, args=(delay_s,)) for delay_s in (0.0, READ_S / 2)]
    for thread in threads:
        thread.start()
    largest = 0
    try:
        for _ in range(6):
            await call(books, 200)
            largest = max(largest, books.store.wal_bytes())
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert largest < 5 * SMALL


async def test_of_an_error_that_ended_the_transaction_the_daemon_s_reader_tells_itself(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Reading[object]:
        yield ("ROLLBACK", ())  # as SQLite does, of an I/O error
        yield ("SELECT what FROM calls", ())

    reader = Reader(books.path)
    await reader.open()
    try:
        monkeypatch.setattr(own_usage, "lately", broken)
        with pytest.raises(StoreError, match="no such column: what"):
            await reader.own_usage(1, "UTC", 0)
        monkeypatch.undo()
        assert await reader.own_usage(1, "UTC", 0)
    finally:
        await reader.close()
