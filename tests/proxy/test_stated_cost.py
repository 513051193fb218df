"""A provider that says itself what a call cost: that is the cost, and our own figure stays beside it."""

from __future__ import annotations

import json

from tests.support.daemon import Daemon
from tests.support.wire import CHAT, ask

from .recorder import Recorder


def answer(**usage: object) -> bytes:
    body = {"id": "c", "object": "chat.completion", "model": "echo-1", "service_tier": "flex", "choices": []}
    return json.dumps(body | {"usage": {"prompt_tokens": 1000, "completion_tokens": 100} | usage}).encode()


def booked(gateway: Daemon, key: str, recorder: Recorder, **usage: object) -> dict[str, object]:
    recorder.reply(answer(**usage), content_type="application/json")
    answered = gateway.send(CHAT, ask("echo/echo-1"), key=key)
    assert answered.status == 200
    return gateway.call(answered.call_id)


def test_what_the_provider_states_is_booked_and_ours_is_kept(gateway: Daemon, key: str, recorder: Recorder) -> None:
    row = booked(gateway, key, recorder, cost=0.5)
    assert (row["cost_usd"], row["price_source"]) == ("0.500000000", "provider")
    assert (row["own_cost_usd"], row["service_tier"]) == ("0.001200000", "flex")


def test_a_cost_of_nothing_in_ticks_is_no_statement(gateway: Daemon, key: str, recorder: Recorder) -> None:
    row = booked(gateway, key, recorder, cost_in_usd_ticks=0)
    assert (row["cost_usd"], row["price_source"], row["own_cost_usd"]) == ("0.001200000", "admin", None)


def test_the_provider_behind_a_router_is_kept_with_the_call(gateway: Daemon, key: str, recorder: Recorder) -> None:
    recorder.reply(
        b'{"model":"echo-1","provider":"Novita","service_tier":null,"choices":[],'
        b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"cost":0.25}}',
        content_type="application/json",
    )
    row = gateway.call(gateway.send(CHAT, ask("echo/echo-1"), key=key).call_id)
    assert (row["cost_usd"], row["service_tier"]) == ("0.250000000", "via Novita")
