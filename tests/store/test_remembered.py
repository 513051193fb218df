"""What the ledger keeps of its last transaction: used while nobody else writes, and only then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.domain.limit import Standing
from llmctl.store import balances, limits
from llmctl.store.database import Store
from llmctl.store.remembered import BALANCES_MAX, Remembered, State
from tests.support.ledgers import Books

NOW_S = int(time.time())
STATE = State(1, -1, "UTC")


class Writer:
    """One connection that remembers."""

    def __init__(self, books: Books) -> None:
        self.store = Store(books.path)
        self.remembered = Remembered()
        with self.store.read() as tx:
            self.places = [balances.place_of(limit, 0, NOW_S) for limit in limits.listing(tx, default_zone="UTC")]
        self.read: list[str] = []
        self.store.connection.set_trace_callback(lambda sql: self.read.append(sql) if "FROM json_each" in sql else None)

    def add(self, settled: int) -> dict[balances.Row, Standing]:
        """One transaction that adds to all balances, as a batch does."""
        with self.store.write() as tx:
            self.remembered.look(tx)
            self.remembered.state = self.remembered.state or STATE
            found = self.remembered.standings(tx, {place.row: place for place in self.places})
            for place in self.places:
                one = found.setdefault(place.row, balances.standing(place, 0, 0))
                one.settled += settled
            balances.write(tx, found)
            self.remembered.keep(found)
        self.remembered.committed(self.store.connection)
        return found

    def settled(self) -> list[int]:
        return [one.settled for one in self.add(0).values()]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with Books(tmp_path / "llmctl.db") as books:
        books.limit("org", 1_000_000)
        books.limit("org", 1_000_000, measure="tokens", window="day")
        yield books


@pytest.fixture
def writer(books: Books) -> Iterator[Writer]:
    writer = Writer(books)
    yield writer
    writer.store.close()


def test_nothing_is_read_again_while_nobody_else_writes(writer: Writer) -> None:
    writer.add(5)
    writer.read.clear()
    writer.add(7)
    assert writer.settled() == [12, 12]
    assert writer.read == []
    assert writer.remembered.state == STATE


def test_what_another_connection_changed_is_read_again(books: Books, writer: Writer) -> None:
    writer.add(5)
    with books.store.write() as tx:
        tx.execute("UPDATE balances SET settled = settled + 100")
    assert writer.settled() == [105, 105]
    books.store.connection.execute("DELETE FROM balances")
    assert writer.settled() == [0, 0]


def test_two_that_write_in_turns_see_each_other(books: Books, writer: Writer) -> None:
    other = Writer(books)
    for number in range(1, 4):
        assert writer.add(1)[writer.places[0].row].settled == 2 * number - 1
        assert other.add(1)[writer.places[0].row].settled == 2 * number
    other.store.close()


def test_what_this_connection_changed_otherwise_is_read_again(writer: Writer) -> None:
    writer.add(5)
    with writer.store.write() as tx:
        balances.drop(tx, [place.row for place in writer.places])
    writer.remembered.look(writer.store.connection)
    assert writer.remembered.state is None
    assert writer.settled() == [0, 0]


def test_what_was_rolled_back_is_forgotten(writer: Writer) -> None:
    writer.add(5)
    with pytest.raises(RuntimeError), writer.store.write() as tx:
        writer.remembered.look(tx)
        found = writer.remembered.standings(tx, {place.row: place for place in writer.places})
        for one in found.values():
            one.settled += 1_000
        raise RuntimeError
    assert writer.settled() == [5, 5]


def test_of_a_slot_of_a_minute_its_own_part_is_kept(writer: Writer) -> None:
    place = writer.places[0]
    one = balances.standing(place, 5, 1)
    one.add_others(100, 10)
    one.extra = 7
    writer.remembered.keep({place.row: one})
    again = writer.remembered.standings(writer.store.connection, {place.row: place})[place.row]
    assert again == balances.standing(place, 5, 1)


def test_so_many_are_kept(writer: Writer) -> None:
    place = writer.places[0]
    for member in range(BALANCES_MAX + 1):
        row = (place.limit.id, member, place.window_start_s)
        writer.remembered.keep({row: balances.standing(place, 0, 0)})
    assert len(writer.remembered._balances) == 1
