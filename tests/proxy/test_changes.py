"""A change by a command holds from the next request on, in every worker, while the daemon runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.support.daemon import Answer, Daemon

from .conftest import gateway_before
from .recorder import Recorder

AT_ONCE = 8  # connections, so that each worker gets some


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder
) -> Iterator[Daemon]:
    args = ["--workers", str(request.param)]
    with gateway_before(tmp_path_factory.mktemp("gateway"), running_recorder, args=args) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool


@pytest.fixture
def call(gateway: Daemon, pool: ThreadPoolExecutor, recorder: Recorder) -> Any:
    """Calls with a key, several at once: how many were answered with which status."""

    def call(key: str, model: str = "echo-1") -> Counter[int]:
        return Counter(answer.status for answer in pool.map(lambda _: ask(gateway, key, model), range(AT_ONCE)))

    return call


def ask(gateway: Daemon, key: str, model: str = "echo-1") -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    return gateway.send("/v1/chat/completions", body, key=key)


ALL = {status: Counter({status: AT_ONCE}) for status in (200, 401, 403, 429)}


def test_a_new_users_key_works_at_once_and_a_revoked_one_is_dead(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("ann")
    assert call(key) == ALL[200]
    second = gateway.llmctl("key", "create", "ann", "--name", "laptop", "-q").stdout.strip()
    assert call(second) == ALL[200]
    gateway.llmctl("key", "revoke", "ann/default")
    assert call(key) == ALL[401]
    assert call(second) == ALL[200]


def test_a_call_that_is_open_when_its_key_is_revoked_finishes(
    gateway: Daemon, pool: ThreadPoolExecutor, recorder: Recorder
) -> None:
    key = gateway.add_user("bert")
    with recorder.holding():
        open_call = pool.submit(ask, gateway, key)
        recorder.wait_for(1)
        gateway.llmctl("key", "revoke", "bert")
        assert ask(gateway, key).status == 401
    answer = open_call.result()
    assert answer.status == 200
    row = gateway.call(answer.call_id)
    assert (row["state"], row["input_tokens"], row["output_tokens"]) == ("settled", 100, 20)


def test_a_rotated_key_changes_over_at_once_or_after_its_grace(gateway: Daemon, call: Any) -> None:
    first = gateway.add_user("cleo")
    assert call(first) == ALL[200]
    second = gateway.llmctl("key", "rotate", "cleo", "-q").stdout.strip()
    assert call(first) == ALL[401]
    assert call(second) == ALL[200]
    third = gateway.llmctl("key", "rotate", "cleo", "--grace", "1h", "-q").stdout.strip()
    assert call(second) == call(third) == ALL[200]
    gateway.llmctl("key", "revoke", "cleo", "--old")
    assert call(second) == ALL[401]
    assert call(third) == ALL[200]
    assert len({row["key_id"] for row in gateway.calls("--user", "cleo", "--limit", "1000")}) == 1


def test_a_disabled_user_stops_and_an_enabled_one_goes_on(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("dora")
    assert call(key) == ALL[200]
    gateway.llmctl("user", "disable", "dora")
    assert call(key) == ALL[401]
    gateway.llmctl("user", "enable", "dora")
    assert call(key) == ALL[200]


def test_models_are_denied_allowed_and_reset_from_the_next_call_on(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("emil", "lab")
    assert call(key) == ALL[200]
    gateway.llmctl("model", "deny", "echo-*", "--group", "lab")
    assert call(key) == ALL[403]
    gateway.llmctl("model", "reset", "echo-*", "--group", "lab", "--yes")
    assert call(key) == ALL[200]
    gateway.llmctl("model", "allow", "echo/echo-2", "--user", "emil")
    assert call(key) == ALL[403]
    assert call(key, "echo-2") == ALL[200]
    gateway.llmctl("model", "allow", "echo-1", "--user", "emil")
    assert call(key) == ALL[200]


def test_a_limit_counts_what_was_spent_before_and_is_raised_and_removed_at_once(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("finn")
    assert call(key) == ALL[200]
    gateway.llmctl("limit", "set", "--user", "finn", "--requests", str(AT_ONCE), "--per", "day")
    assert call(key) == ALL[429]
    gateway.llmctl("limit", "set", "--user", "finn", "--requests", str(AT_ONCE + 3), "--per", "day")
    assert call(key) == Counter({200: 3, 429: AT_ONCE - 3})  # exactly, however many ask at once
    gateway.llmctl("limit", "set", "--user", "finn", "--cost", "0.001", "--per", "total")
    gateway.llmctl(
        "limit", "remove", next(row["id"] for row in limits(gateway, "finn") if row["measure"] == "requests"), "--yes"
    )
    assert call(key) == Counter({400: AT_ONCE})  # a call may cost more than all of the money limit
    gateway.llmctl("limit", "remove", limits(gateway, "finn")[0]["id"], "--yes")
    assert call(key) == ALL[200]


def test_money_limits_count_what_was_spent_before(gateway: Daemon, call: Any, recorder: Recorder) -> None:
    key = gateway.add_user("gina")
    recorder.usage = (2_000, 0)
    assert call(key) == ALL[200]
    gateway.llmctl(
        "limit", "set", "--user", "gina", "--cost", "0.016", "--per", "month"
    )  # 8 x 2,000 at USD 1 per million
    (limit,) = limits(gateway, "gina")
    assert Decimal(limit["spent"]) == Decimal("0.016")
    assert call(key) == ALL[429]


def test_a_price_holds_from_the_next_call_on(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("hugo")
    model = "echo-2"

    def costs() -> set[str | None]:
        rows = gateway.calls("--user", "hugo", "--limit", str(AT_ONCE), count=AT_ONCE)
        return {row["cost_usd"] and str(Decimal(row["cost_usd"]).normalize()) for row in rows}

    assert call(key, model) == ALL[200]
    assert costs() == {None}
    gateway.llmctl("price", "set", f"echo/{model}", "--input", "10", "--output", "100")
    assert call(key, model) == ALL[200]
    assert costs() == {"0.003"}  # 100 x 10 and 20 x 100 per million
    gateway.llmctl("price", "set", f"echo/{model}", "--input", "20", "--output", "100")
    assert call(key, model) == ALL[200]
    assert costs() == {"0.004"}


def test_a_price_opens_a_model_to_those_under_a_money_limit(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("ines")
    gateway.llmctl("limit", "set", "--user", "ines", "--cost", "5", "--per", "month")
    assert call(key, "echo-3") == ALL[403]
    gateway.llmctl("price", "set", "echo/echo-3", "--input", "1", "--output", "1")
    assert call(key, "echo-3") == ALL[200]


def limits(gateway: Daemon, user: str) -> list[dict[str, Any]]:
    return gateway.json("limit", "list", "--user", user)


def test_a_group_or_user_that_is_moved_stopped_or_removed_is_judged_so_at_once(gateway: Daemon, call: Any) -> None:
    key = gateway.add_user("mona", "movers")
    gateway.llmctl("group", "add", "closed")
    gateway.llmctl("model", "deny", "echo-*", "--group", "closed")
    assert call(key) == ALL[200]
    gateway.llmctl("user", "move", "mona", "--group", "closed")
    assert call(key) == ALL[403]
    gateway.llmctl("user", "move", "mona", "--group", "movers")
    assert call(key) == ALL[200]
    gateway.llmctl("group", "set", "movers", "--parent", "closed")
    assert call(key) == ALL[403]
    gateway.llmctl("group", "set", "movers", "--no-parent")
    gateway.llmctl("group", "rename", "movers", "shakers")
    gateway.llmctl("user", "rename", "mona", "monica")
    assert call(key) == ALL[200]
    gateway.llmctl("group", "disable", "shakers")
    assert call(key) == ALL[401]
    gateway.llmctl("group", "enable", "shakers")
    assert call(key) == ALL[200]
    gateway.llmctl("user", "remove", "monica", "--yes")
    assert call(key) == ALL[401]


def test_a_limit_counts_on_when_its_group_changes_its_days(gateway: Daemon, call: Any) -> None:
    """Balances of the old zone are forgotten; what was spent in the total window is found again."""
    key = gateway.add_user("zoe", "zonal")
    gateway.llmctl("limit", "set", "--group", "zonal", "--requests", str(AT_ONCE + 2), "--per", "total")
    assert call(key) == ALL[200]
    gateway.llmctl("group", "set", "zonal", "--timezone", "Pacific/Auckland")
    assert call(key) == Counter({200: 2, 429: AT_ONCE - 2})
