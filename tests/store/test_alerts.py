"""What is looked at for alerts, by the balances."""

from __future__ import annotations

import pytest

from llmctl.domain.money import AMOUNT_NANO_MAX
from llmctl.store import alerts
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
