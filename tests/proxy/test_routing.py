"""Several credentials, models that stand in for others, and what is never sent twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.faulty import INPUT_TOKENS, OUTPUT_TOKENS, Faulty, Line, error, fine, usage, wait_until, whole
from tests.support.wire import CHAT, MESSAGES, Reply, Wire, ask, post, request_bytes

CREDENTIALS = ("good", "spent", "dead", "narrow")
TIMEOUT_S = 1.0


async def by_credential(line: Line) -> None:
    """good works, spent is rate-limited for a second, dead is not known."""
    seen = await line.request()
    shown = seen.headers.get("authorization", "").removeprefix("Bearer ") or seen.headers.get("x-api-key")
    if shown == "good":
        await line.send_whole(whole(seen.anthropic))
    elif shown == "narrow" and b"forbidden" in seen.body:
        await line.send_whole(error(seen.anthropic, "permission_error", "not this one"), status="403 Forbidden")
    elif shown == "narrow":
        await line.send_whole(whole(seen.anthropic))
    elif shown == "spent":
        limited = error(seen.anthropic, "rate_limit_error", "slow down")
        await line.send_whole(limited, "retry-after: 1", status="429 Too Many Requests")
    else:
        await line.send_whole(error(seen.anthropic, "invalid_api_key", "no"), status="401 Unauthorized")


def busy(status: str, *headers: str) -> Callable[[Line], object]:
    async def fault(line: Line) -> None:
        seen = await line.request()
        await line.send_whole(error(seen.anthropic, "overloaded_error", f"said {status}"), *headers, status=status)

    return fault


FILE_GONE = "You do not have permission to access the File abc123 or it may not exist."


async def flags(line: Line) -> None:
    """A prompt, as OpenRouter and xAI do, or a file in it, as Google does."""
    seen = await line.request()
    if b"bad" in seen.body or b"gone" in seen.body:
        message = FILE_GONE if b"gone" in seen.body else "Your input was flagged"
        flagged = {"error": {"code": 403, "message": message, "metadata": {"reasons": ["violence"]}}}
        await line.send_whole(json.dumps(flagged).encode(), status="403 Forbidden")
    else:
        await line.send_whole(whole(seen.anthropic))


async def limited_and_billed(line: Line) -> None:
    """It had begun, and says what that comes to."""
    seen = await line.request()
    said = json.loads(error(seen.anthropic, "rate_limit_error", "too many output tokens")) | {"usage": usage(False)}
    await line.send_whole(json.dumps(said).encode(), status="429 Too Many Requests")


async def limited_late(line: Line) -> None:
    seen = await line.request()
    await asyncio.sleep(1)
    await line.send_whole(error(seen.anthropic, "rate_limit_error", "slow down"), status="429 Too Many Requests")


async def silent(line: Line) -> None:
    await line.request()
    await line.until_hung_up()


async def reset(line: Line) -> None:
    await line.request()
    line.reset()


FAULTS = {
    "fine": fine,
    "other": fine,
    "keyed": by_credential,
    # Those that fail often rest: each test has its own.
    **{
        name: busy("503 Service Unavailable")
        for name in "busy busy2 busy3 busy4 busy5 busy6 busy7 busy8 busy9 busy10 busy11".split()
    },
    "resting": busy("429 Too Many Requests", "retry-after: 86400"),
    "tired": busy("429 Too Many Requests", "retry-after: 86400"),
    "overloaded": busy("529 Overloaded", "retry-after: 86400"),
    "odd": busy("429 Too Many Requests", "retry-after: -7", "retry-after-ms: soon"),
    "broken": busy("500 Internal Server Error"),
    "flagging": flags,
    "billing": limited_and_billed,
    "stalling": limited_late,
    "silent": silent,
    "reset": reset,
}
FALLBACKS = """
[fallbacks]
"busy/m" = ["refused/m", "fine/m"]
"flagging/m" = ["other/m"]
"overloaded/m" = ["odd/m", "busy3/m"]
"resting/m" = ["other/m"]
"tired/m" = ["other/m"]
"busy8/m" = ["fine/denied", "other/m"]
"busy9/m" = ["fine/small", "other/m"]
"busy10/m" = ["fine/small", "fine/m"]
"busy11/m" = ["fine/m"]
"billing/m" = ["fine/m"]
"stalling/m" = ["fine/m"]
"busy4/m" = ["fine/m"]
"busy5/m" = ["fine/m"]
"busy7/m" = ["fine/m"]
"broken/m" = ["fine/m"]
"reset/m" = ["fine/m"]
"silent/m" = ["fine/m"]
"refused/m" = ["busy6/m", "odd/m", "fine/m"]
"speaks/m" = ["deaf/m", "fine/m"]
"odd/m" = ["fine/denied"]
named = ["other/m"]
[aliases]
named = "busy2/of-an-alias"
"""


def configuration(directory: Path, faulty: Faulty) -> str:
    text = faulty.providers(directory)
    for name in CREDENTIALS:
        (directory / name).write_text(name)
    text += f"[providers.silent.timeouts]\nfirst_byte_s = {TIMEOUT_S}\n"
    text += f'[providers.deaf]\ndialect = "openai"\nbase_url = "{faulty.base_url("fine")}"\n'
    text += f'[providers.speaks]\ndialect = "anthropic"\nbase_url = "{faulty.base_url("busy2")}"\n'
    for name, credentials in {
        "several": "spent good dead",
        "dying": "dead good",
        "alone": "spent",
        "mixed": "narrow good",
    }.items():
        files = ", ".join(
            f'{{ file = "{one}", weight = {999 if one != "good" else 1} }}' for one in credentials.split()
        )
        text += f'[providers.{name}]\ndialect = ["openai", "anthropic"]\nbase_url = "{faulty.base_url("keyed")}"\n'
        text += f"credentials = [{files}]\n"
    return text


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with Faulty(FAULTS) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def gateway(running: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("routing")
    with Daemon(directory, configuration(directory, running), extra=FALLBACKS) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        yield daemon


@pytest.fixture(scope="module")
def key(gateway: Daemon) -> str:
    return gateway.add_user("alice", "sales")


def attempts(gateway: Daemon, reply: Reply) -> list[dict]:
    """The rows of a call, from its first attempt to the one that the client saw."""
    last = gateway.call(reply.headers["x-llmctl-call-id"])
    first = last["attempt_of"] or last["id"]
    rows = [row for row in gateway.json("calls", "-n", "50") if first in (row["id"], row["attempt_of"])]
    return sorted(rows, key=lambda row: row["id"])


def test_another_credential_is_tried_and_the_limited_one_rests(gateway: Daemon, faulty: Faulty, key: str) -> None:
    replies = [post(gateway.url, CHAT, ask("several/m"), key) for _ in range(10)]
    assert [reply.status for reply in replies] == [200] * 10
    rows = attempts(gateway, replies[0])
    assert [(row["state"], row["error"], row["status"]) for row in rows][-1] == ("settled", None, 200)
    assert all(row["state"] == "released" and row["cost_usd"] == "0.000000000" for row in rows[:-1])
    # Each of the others was asked once, and then left alone.
    assert len(faulty.seen("keyed")) <= 10 + 2


def test_a_rest_ends_when_the_provider_said(gateway: Daemon, faulty: Faulty, key: str) -> None:
    assert post(gateway.url, CHAT, ask("several/m"), key).status == 200
    time.sleep(1.1)
    asked_before = len(faulty.seen("keyed"))
    assert [post(gateway.url, CHAT, ask("several/m"), key).status for _ in range(3)] == [200] * 3
    assert asked_before + 3 <= len(faulty.seen("keyed")) <= asked_before + 5


def test_a_single_credential_is_never_held_back(gateway: Daemon, faulty: Faulty, key: str) -> None:
    replies = [post(gateway.url, CHAT, ask("alone/m"), key) for _ in range(3)]
    assert [(reply.status, reply.headers["retry-after"]) for reply in replies] == [(429, "1")] * 3
    assert len(faulty.seen("keyed")) == 3
    assert replies[0].error["message"] == "slow down"


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_credential_that_is_not_taken_is_replaced_by_another(
    gateway: Daemon, faulty: Faulty, key: str, path: str
) -> None:
    assert [post(gateway.url, path, ask("dying/m", path=path), key).status for _ in range(5)] == [200] * 5
    assert len(faulty.seen("keyed")) <= 6


def test_a_model_that_one_credential_may_not_call_does_not_make_it_rest(
    gateway: Daemon, faulty: Faulty, key: str
) -> None:
    assert post(gateway.url, CHAT, ask("mixed/forbidden"), key).status == 200
    faulty.clear()
    assert [post(gateway.url, CHAT, ask("mixed/m"), key).status for _ in range(5)] == [200] * 5
    shown = {seen.headers["authorization"] for seen in faulty.seen("keyed")}
    assert "Bearer narrow" in shown  # of weight 999


@pytest.mark.parametrize(("padding", "message"), [("bad", "Your input was flagged"), ("gone", FILE_GONE)])
def test_a_prompt_that_is_flagged_is_the_clients_affair(
    gateway: Daemon, faulty: Faulty, key: str, padding: str, message: str
) -> None:
    faulty.clear()
    for _ in range(5):
        reply = post(gateway.url, CHAT, ask("flagging/m", padding=padding), key)
        assert (reply.status, json.loads(reply.body)["error"]["message"]) == (403, message)
    (row,) = attempts(gateway, reply)
    assert (row["state"], row["error"], float(row["cost_usd"])) == ("settled", "provider_403", 0)
    assert faulty.seen("other") == []
    assert attempts(gateway, post(gateway.url, CHAT, ask("flagging/m"), key))[0]["provider"] == "flagging"


def test_what_stands_in_answers_and_each_attempt_has_its_row(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("busy/m"), key)
    assert reply.status == 200
    rows = attempts(gateway, reply)
    assert [(row["provider"], row["state"], row["error"]) for row in rows] == [
        ("busy", "released", "provider_503"),
        ("refused", "released", "provider_unreachable"),
        ("fine", "settled", None),
    ]
    assert {row["request_model"] for row in rows} == {"busy/m"}
    assert [row["attempt_of"] for row in rows] == [None, rows[0]["id"], rows[0]["id"]]
    assert (rows[2]["input_tokens"], rows[2]["output_tokens"]) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert b'"model": "m"' in faulty.last("fine").body
    shown = gateway.here("why", rows[2]["id"])
    assert rows[0]["id"] in shown


def test_an_alias_has_what_stands_in_for_it(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("named"), key)
    assert reply.status == 200
    assert [row["provider"] for row in attempts(gateway, reply)] == ["busy2", "other"]


def test_attempts_have_an_end_and_the_last_answer_reaches_the_client(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("overloaded/m"), key)
    assert (reply.status, reply.error["message"]) == (503, "said 503 Service Unavailable")
    rows = attempts(gateway, reply)
    assert [(row["provider"], row["state"], row["status"]) for row in rows] == [
        ("overloaded", "released", None), ("odd", "released", None), ("busy3", "settled", 503),
    ]  # fmt: skip
    reply = post(gateway.url, CHAT, ask("refused/m"), key)
    assert reply.status == 429
    assert len(attempts(gateway, reply)) == 3  # attempts_max


@pytest.mark.parametrize(("model", "status"), [("broken/m", 500), ("reset/m", 502), ("silent/m", 504)])
def test_what_may_have_been_billed_is_not_sent_again(
    gateway: Daemon, faulty: Faulty, key: str, model: str, status: int
) -> None:
    reply = post(gateway.url, CHAT, ask(model), key)
    assert reply.status == status
    (row,) = attempts(gateway, reply)
    assert (row["state"], row["status"]) == ("settled", status)
    assert row["usage_source"] == (None if status == 500 else "estimated")
    assert not faulty.seen("fine")


def test_only_what_speaks_the_clients_dialect_stands_in(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, MESSAGES, ask("speaks/m", path=MESSAGES), key)
    assert reply.status == 200
    assert [row["provider"] for row in attempts(gateway, reply)] == ["speaks", "fine"]


def test_a_model_that_is_denied_does_not_stand_in(gateway: Daemon, faulty: Faulty, key: str) -> None:
    gateway.here("model", "deny", "fine/denied", "--user", "alice")
    reply = post(gateway.url, CHAT, ask("odd/m"), key)
    assert (reply.status, reply.error["message"]) == (429, "said 429 Too Many Requests")
    assert not faulty.seen("fine")


def test_behind_what_the_caller_may_not_use_the_next_one_stands_in(gateway: Daemon, faulty: Faulty) -> None:
    key = gateway.add_user("erin", "narrow")
    gateway.here("model", "deny", "fine/denied", "--user", "erin")
    gateway.here("limit", "set", "--user", "erin", "--cost", "0.000000001", "--per", "day", "--model", "fine/small")
    for model in ("busy8/m", "busy9/m"):
        reply = post(gateway.url, CHAT, ask(model), key)
        assert reply.status == 200
        assert [row["provider"] for row in attempts(gateway, reply)] == [model.partition("/")[0], "other"]
    assert not faulty.seen("fine")


def test_who_may_not_use_a_model_is_not_helped_out_while_it_rests(gateway: Daemon, faulty: Faulty) -> None:
    key, other = gateway.add_user("frank", "narrow"), gateway.add_user("gina", "narrow")
    gateway.here("model", "deny", "tired/m", "--user", "frank")
    assert post(gateway.url, CHAT, ask("tired/m"), key).status == 403
    assert post(gateway.url, CHAT, ask("tired/m"), other).status == 200  # from now on it rests
    assert post(gateway.url, CHAT, ask("tired/m"), key).status == 403


def test_an_answer_that_is_billed_is_the_last_one(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("billing/m"), key)
    assert reply.status == 429
    (row,) = attempts(gateway, reply)
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == (429, INPUT_TOKENS, OUTPUT_TOKENS)
    assert not faulty.seen("fine")


def test_a_client_that_left_gets_no_other_attempt(gateway: Daemon, faulty: Faulty, key: str) -> None:
    with Wire(gateway.url) as wire:
        wire.send(request_bytes(CHAT, ask("stalling/m"), key))
        assert wait_until(lambda: faulty.seen("stalling"))
    assert wait_until(lambda: gateway.json("calls", "-n", "1")[0]["state"] != "open")
    (row,) = gateway.json("calls", "-n", "1")
    assert (row["provider"], row["error"]) == ("stalling", "provider_429")
    assert not faulty.seen("fine")


def test_a_limit_binds_what_stands_in_as_it_binds_the_first_choice(gateway: Daemon, faulty: Faulty) -> None:
    key = gateway.add_user("bob", "limited")
    gateway.here("limit", "set", "--user", "bob", "--requests", "5", "--per", "day", "--model", "fine/*")
    statuses = [post(gateway.url, CHAT, ask("busy4/m"), key).status for _ in range(7)]
    # Where the limit on what stands in is spent, the first choice alone is tried, though it rests.
    assert statuses == [200] * 5 + [503, 503]
    assert len(faulty.seen("fine")) == 5


def test_attempts_that_brought_nothing_are_no_requests(gateway: Daemon, faulty: Faulty) -> None:
    key = gateway.add_user("dora", "limited")
    gateway.here("limit", "set", "--user", "dora", "--requests", "3", "--per", "day")
    statuses = [post(gateway.url, CHAT, ask("busy7/m"), key).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_an_attempt_whose_place_nobody_may_take_is_the_call(gateway: Daemon, faulty: Faulty) -> None:
    key = gateway.add_user("henry", "spent")
    gateway.here("limit", "set", "--user", "henry", "--cost", "0.000000001", "--per", "day", "--model", "fine/*")
    gateway.here("limit", "set", "--user", "henry", "--requests", "2", "--per", "day")
    replies = [post(gateway.url, CHAT, ask("busy10/m"), key) for _ in range(4)]
    assert [reply.status for reply in replies] == [503, 503, 429, 429]
    assert len(faulty.seen("busy10")) == 2 and not faulty.seen("fine")
    (row,) = attempts(gateway, replies[1])
    assert (row["state"], row["status"], row["error"]) == ("settled", 503, "provider_503")


def test_what_an_attempt_held_is_room_for_the_one_that_takes_its_place(gateway: Daemon, faulty: Faulty) -> None:
    key = gateway.add_user("ida", "tight")
    gateway.here("limit", "set", "--user", "ida", "--concurrency", "1")
    gateway.here("limit", "set", "--user", "ida", "--requests", "2", "--per", "minute")
    replies = [post(gateway.url, CHAT, ask("busy11/m"), key) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [row["state"] for row in attempts(gateway, replies[0])] == ["released", "settled"]


def test_streams_are_tried_again_before_their_first_byte(gateway: Daemon, faulty: Faulty, key: str) -> None:
    reply = post(gateway.url, CHAT, ask("busy5/m", stream=True), key)
    assert reply.status == 200 and reply.body.endswith(b"data: [DONE]\n\n")
    assert attempts(gateway, reply)[-1]["usage_source"] == "reported"


def test_while_all_credentials_of_the_first_choice_rest_what_stands_in_is_asked_at_once(
    gateway: Daemon, faulty: Faulty, key: str
) -> None:
    replies = [post(gateway.url, CHAT, ask("resting/m"), key) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert len(faulty.seen("resting")) == 1
    assert [row["provider"] for row in attempts(gateway, replies[2])] == ["other"]


def test_after_a_timeout_the_call_is_repeated_where_the_admin_says_so(tmp_path: Path, running: Faulty) -> None:
    extra = '[retries]\nafter_timeout = true\nattempts_max = 2\n[fallbacks]\n"silent/m" = ["fine/m"]\n'
    with Daemon(tmp_path, configuration(tmp_path, running), extra=extra) as daemon:
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        reply = post(daemon.url, CHAT, ask("silent/m"), daemon.add_user("carol"))
        assert reply.status == 200
        rows = attempts(daemon, reply)
        assert [(row["state"], row["usage_source"]) for row in rows] == [
            ("settled", "estimated"),
            ("settled", "reported"),
        ]
