"""What is looked at for alerts, by the balances."""

from __future__ import annotations

import pytest

from llmctl.domain.alert import Alert
from llmctl.domain.money import AMOUNT_NANO_MAX
from llmctl.store import alerts, balances, limits
from tests.support.ledgers import Books

from .conftest import NOW_S


@pytest.mark.parametrize(
    ("amount", "settled", "percents"),
    [
        (AMOUNT_NANO_MAX, AMOUNT_NANO_MAX // 2, [50]),
        (AMOUNT_NANO_MAX, AMOUNT_NANO_MAX // 2 - 1, []),
        (3, 2, [50]),
        (3, 1, []),
    ],
)
def test_a_member_of_a_limit_of_any_size_is_seen_at_its_share(
    books: Books, amount: int, settled: int, percents: list[int]
) -> None:
    books.add_user("alice")
    limit = books.limit("org", amount, window="total", each="user")
    with books.store.write() as tx:
        tx.execute("INSERT INTO balances VALUES (?, (SELECT id FROM users), 0, ?, 0)", (limit, settled))
        found = alerts.Lookout("UTC").limits_crossed(tx, (50, 100), NOW_S)
    assert [alert.facts["percent"] for alert in found] == percents


@pytest.mark.parametrize(("window", "again"), [("total", []), ("month", [50])])
def test_a_crossing_is_told_once_for_as_long_as_its_window_goes_on(books: Books, window: str, again: list[int]) -> None:
    books.add_user("alice")
    limit = books.limit("org", 100, window=window)

    def told(now_s: int) -> list[object]:
        with books.store.write() as tx:
            place = balances.place_of(limits.get(tx, f"l{limit}", default_zone="UTC"), 0, now_s)
            balances.write(tx, {place.row: balances.standing(place, 60, 0)})
            found = alerts.Lookout("UTC").limits_crossed(tx, (50, 100), now_s)
            return [alert.facts["percent"] for alert in alerts.add(tx, found, [], now_s)]

    assert told(NOW_S) == [50]
    assert told(NOW_S) == []
    later_s = NOW_S + alerts.KEEP_S + 1
    assert told(later_s) == again
    assert told(later_s) == []


def test_a_lower_share_is_no_news_after_a_higher_one_in_the_same_window(books: Books) -> None:
    books.add_user("alice")
    limit = books.limit("org", 100, window="month")

    def told(settled: int, now_s: int = NOW_S) -> list[object]:
        with books.store.write() as tx:
            place = balances.place_of(limits.get(tx, f"l{limit}", default_zone="UTC"), 0, now_s)
            balances.write(tx, {place.row: balances.standing(place, settled, 0)})
            found = alerts.unknown(tx, alerts.Lookout("UTC").limits_crossed(tx, (50, 80, 100), now_s))
            return [alert.facts["percent"] for alert in alerts.add(tx, found, [], now_s)]

    assert told(80) == [80]
    assert told(60) == []  # as after `usage reprice`
    assert told(100) == [100]
    assert told(85) == []
    assert told(60, NOW_S + 32 * alerts.DAY_S) == [50]


def test_what_is_told_of_a_limit_that_is_gone_is_forgotten(books: Books) -> None:
    limit = books.limit("org", 100, window="total")
    facts = {"limit": f"l{limit}", "window": "total"}
    with books.store.write() as tx:
        alerts.add(tx, [Alert("limit", "k", "t", facts)], [], NOW_S)
        alerts.add(tx, [], [], NOW_S + alerts.KEEP_S + 1)
        assert len(alerts.listing(tx, most=9)) == 1
        limits.remove(tx, books.author, f"l{limit}", default_zone="UTC")
        alerts.add(tx, [], [], NOW_S + alerts.KEEP_S + 1)
        assert alerts.listing(tx, most=9) == []
