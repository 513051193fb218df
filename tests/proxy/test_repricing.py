"""A price is put right while the gateway serves: limits and reports follow, and calls go on."""

from __future__ import annotations

import threading

from tests.support.daemon import Daemon
from tests.support.wire import CHAT, ask

from .recorder import Recorder


def test_a_limit_is_spent_once_its_calls_are_repriced(gateway: Daemon, recorder: Recorder) -> None:
    key = gateway.add_user("repriced")
    gateway.here("limit", "set", "--user", "repriced", "--cost", "1", "--per", "month")
    gateway.here("price", "set", "echo/echo-cheap", "--input", "0.001", "--output", "0.001")
    recorder.usage = (1_000, 1_000)
    body = ask("echo/echo-cheap", max_tokens=1_000)
    first = gateway.send(CHAT, body, key=key)
    assert gateway.call(first.call_id)["cost_usd"] == "0.000002000"
    gateway.here("price", "set", "echo/echo-cheap", "--input", "1000", "--output", "1000")
    statuses: list[int] = []

    def go_on() -> None:
        other = gateway.add_user("bystander")
        statuses.extend(gateway.send(CHAT, ask("echo/echo-1"), key=other).status for _ in range(20))

    thread = threading.Thread(target=go_on)
    thread.start()
    gateway.here("usage", "reprice", "--model", "echo/echo-cheap", "--yes")
    thread.join()
    assert statuses == [200] * 20
    assert gateway.call(first.call_id)["cost_usd"] == "2.000000000"
    (row,) = gateway.json("usage", "--user", "repriced")
    assert row["cost_usd"] == "2.000000000"
    gateway.here("price", "set", "echo/echo-cheap", "--input", "0.001", "--output", "0.001")
    refused = gateway.send(CHAT, body, key=key)  # as cheap as before, but what was spent counts
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
    assert {check["state"] for check in gateway.json("doctor", "--offline") if check["check"] == "roll-ups"} == {"ok"}


def test_under_a_limit_an_unknown_model_is_refused_or_held_at_the_ceiling(gateway: Daemon, recorder: Recorder) -> None:
    key = gateway.add_user("unknowing")
    gateway.here("limit", "set", "--user", "unknowing", "--cost", "1", "--per", "month")
    refused = gateway.send(CHAT, ask("echo/echo-new"), key=key)
    assert refused.json["error"]["code"] == "model_unpriced"
    gateway.here("price", "set", "echo/echo-new*", "--ceiling", "--input", "30", "--output", "180")
    recorder.usage = (1_000, 100)
    passed = gateway.send(CHAT, ask("echo/echo-new", max_tokens=100), key=key)
    row = gateway.call(passed.call_id)
    assert (row["cost_usd"], row["price_source"]) == ("0.048000000", "ceiling")
    assert float(row["held_usd"]) > 0.048
    gateway.here("price", "remove", "echo/echo-new*", "--ceiling", "--yes")
