"""Calls that are not let through: what both official SDKs make of it, and what the holder of the key is told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import anthropic
import openai
import pytest

from tests.support.daemon import Daemon

from .conftest import Claude, Client, claudes_of, clients_of, gateway_before
from .recorder import Recorder
from .sdk import chat, completion, embedding, message, response

# At USD 1 and 2 per million tokens a short call of at most OUT output tokens holds some 2,200 tokens for its input
# (bytes, and the provider's possible hidden prompt) and OUT for its output: about USD 0.0042.
OUT = 1_000
OPENAI_CALLS = [chat, completion, response]


# What a call with an output maximum of 3,900 may use of a small prompt, hidden one included: USD 1 and 2 per million.
NEARLY_A_CENT = (1_900, 3_900)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, running_recorder: Recorder) -> Iterator[Daemon]:
    """Of its own: what other tests' answers teach it about the recorder's models would be held here too."""
    with gateway_before(tmp_path_factory.mktemp("refusals"), running_recorder) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(gateway: Daemon) -> Iterator[Client]:
    yield from clients_of(gateway)


@pytest.fixture(scope="module")
def claude(gateway: Daemon) -> Iterator[Claude]:
    yield from claudes_of(gateway)


def limited(gateway: Daemon, name: str, *limit: str) -> str:
    """A new user with a limit. Returns the key."""
    secret = gateway.add_user(name)
    gateway.here("limit", "set", "--user", name, *limit)
    return secret


def refused_rows(gateway: Daemon, user: str, count: int | None = None) -> list[dict]:
    return gateway.calls("--refused", "--user", user, count=count)


def test_a_spent_limit_is_insufficient_quota_and_makes_exactly_one_attempt(
    gateway: Daemon, client: Client, recorder: Recorder
) -> None:
    secret = limited(gateway, "spent", "--cost", "0.01", "--per", "month")
    recorder.usage = NEARLY_A_CENT
    assert chat(client(secret), "parrot", max_tokens=3_900).counts == (1_900, 0, 3_900)
    patient = client(secret).with_options(max_retries=2)
    began_s = time.monotonic()
    for ask in OPENAI_CALLS:
        with pytest.raises(openai.RateLimitError) as refused:
            ask(patient, "parrot")
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.value.response.headers
        assert "retry-after-ms" not in refused.value.response.headers
    assert time.monotonic() - began_s < 5
    assert len(recorder.sent) == 1
    rows = refused_rows(gateway, "spent", len(OPENAI_CALLS))
    assert [row["endpoint"] for row in rows] == ["responses", "completions", "chat.completions"]
    assert {(row["status"], row["error"], row["cost_usd"]) for row in rows} == {(429, "limit_spent", None)}
    headers = refused.value.response.headers
    assert rows[0]["id"] == headers["x-llmctl-call-id"] == headers["x-request-id"] == headers["request-id"]


def test_the_refusal_of_a_spent_limit_names_it_its_numbers_its_reset_and_what_to_do(
    gateway: Daemon, client: Client, recorder: Recorder
) -> None:
    secret = limited(gateway, "told", "--cost", "0.01", "--per", "month")
    (limit,) = gateway.json("limit", "list", "--user", "told")
    recorder.usage = NEARLY_A_CENT
    chat(client(secret), "parrot", max_tokens=3_900)
    with pytest.raises(openai.RateLimitError) as refused:
        chat(client(secret), "parrot")
    said = refused.value.body["message"]
    now = datetime.now(UTC)
    reset = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC).isoformat()
    assert f"limit {limit['id']} (user told) is spent: $0.01" in said
    assert "per month" in said
    assert "$0.0097 spent" in said
    assert "$0.00 held by open calls" in said
    assert "$0.0003 left" in said
    assert f"resets at {reset}" in said
    assert said.endswith("or ask your admin to raise it")


@pytest.mark.parametrize("limit", ["--requests 1 --per total", "--tokens 3000 --per total", "--requests 0 --per day"])
def test_limits_on_requests_and_tokens_are_spent_too(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder, limit: str
) -> None:
    user = "spent" + re.sub(r"\W+", "-", limit)
    secret = limited(gateway, user, *limit.split())
    recorder.usage = (2_000, 800)
    if "0" not in limit.split():
        chat(client(secret), "parrot", max_tokens=800)
    with pytest.raises(openai.RateLimitError) as refused:
        chat(client(secret), "parrot")
    assert refused.value.code == "insufficient_quota"
    if "total" in limit:
        assert "it never resets" in refused.value.message
    with pytest.raises(anthropic.APIStatusError) as refused_too:
        message(claude(secret), "parrot")
    assert refused_too.value.status_code == 402


def test_a_spent_limit_is_a_billing_error_to_anthropics_sdk_and_makes_one_attempt(
    gateway: Daemon, claude: Claude, recorder: Recorder
) -> None:
    secret = limited(gateway, "spent-claude", "--cost", "0.01", "--per", "month")
    recorder.usage = NEARLY_A_CENT
    message(claude(secret), "parrot", max_tokens=3_900)
    with pytest.raises(anthropic.APIStatusError) as refused:
        message(claude(secret).with_options(max_retries=2), "parrot")
    assert refused.value.status_code == 402
    assert refused.value.body["type"] == "error"
    assert refused.value.body["error"]["type"] == "billing_error"
    assert "(user spent-claude) is spent" in refused.value.body["error"]["message"]
    headers = refused.value.response.headers
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert refused.value.request_id == refused.value.body["request_id"] == headers["x-llmctl-call-id"]
    (row,) = refused_rows(gateway, "spent-claude", 1)
    assert (row["status"], row["dialect"], row["id"]) == (402, "anthropic", refused.value.request_id)
    assert len(recorder.sent) == 1


@pytest.mark.parametrize("limit", ["--cost 0.005 --per month", "--concurrency 1"], ids=["money", "concurrency"])
def test_a_limit_that_open_calls_hold_is_retried_by_the_sdk_until_it_fits(
    gateway: Daemon, client: Client, recorder: Recorder, limit: str
) -> None:
    user = f"held{limit.split()[0]}"
    secret = limited(gateway, user, *limit.split())
    impatient, patient = client(secret), client(secret).with_options(max_retries=2)
    with ThreadPoolExecutor() as pool:
        with recorder.holding():
            open_call = pool.submit(chat, impatient, "parrot", max_tokens=OUT)
            recorder.wait_for(1)
            with pytest.raises(openai.RateLimitError) as refused:
                chat(impatient, "parrot", max_tokens=OUT)
            retried = pool.submit(chat, patient, "parrot", max_tokens=OUT)
            rows = refused_rows(gateway, user, 2)
        assert open_call.result().counts == retried.result().counts == (100, 0, 20)
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_exceeded")
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["retry-after-ms"]) == 1000 * int(headers["retry-after"])
    assert "x-should-retry" not in headers
    assert {row["error"] for row in rows} == {"limit_held" if "cost" in limit else "rate_limited"}
    if "cost" in limit:
        assert re.search(
            r"is held by open calls: \$0\.005\d* per month, \$0\.00 spent, \$0\.004\d* held", refused.value.message
        )
    assert "retry" in refused.value.message
    assert len(refused_rows(gateway, user)) == 2


def test_held_limits_are_rate_limit_errors_with_the_dialects_rate_headers(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder
) -> None:
    secret = limited(gateway, "held-tokens", "--tokens", "4000", "--per", "day")
    with ThreadPoolExecutor() as pool, recorder.holding():
        pool.submit(chat, client(secret), "parrot", max_tokens=OUT)
        recorder.wait_for(1)
        with pytest.raises(openai.RateLimitError) as refused:
            chat(client(secret), "parrot", max_tokens=OUT)
        with pytest.raises(anthropic.RateLimitError) as refused_too:
            message(claude(secret), "parrot", max_tokens=OUT)
    headers = refused.value.response.headers
    assert headers["x-ratelimit-limit-tokens"] == "4000"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 1_000
    assert re.fullmatch(r"\d+s", headers["x-ratelimit-reset-tokens"])
    assert refused_too.value.body["error"]["type"] == "rate_limit_error"
    headers = refused_too.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["anthropic-ratelimit-tokens-limit"] == "4000"
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-tokens-reset"])
    assert reset.utcoffset() is not None and reset > datetime.now(UTC)


@pytest.mark.parametrize("limit", ["--cost 0.001 --per month", "--tokens 500 --per total"], ids=["money", "tokens"])
def test_a_call_that_exceeds_the_whole_limit_is_no_try_later(
    gateway: Daemon, client: Client, claude: Claude, recorder: Recorder, limit: str
) -> None:
    secret = limited(gateway, f"small{limit.split()[0]}", *limit.split())
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client(secret).with_options(max_retries=2), "parrot", max_tokens=OUT)
    assert (refused.value.code, refused.value.type) == ("request_exceeds_limit", "invalid_request_error")
    amount, needed = (
        (r"\$0\.001\d* per month", r"\$0\.00\d+") if "cost" in limit else ("500 tokens in total", r"2,\d+ tokens")
    )
    assert re.search(rf"exceeds limit l\d+ \(user small.*\): {amount}, .*needs up to {needed}", refused.value.message)
    with pytest.raises(anthropic.BadRequestError) as refused_too:
        message(claude(secret), "parrot", max_tokens=OUT)
    assert refused_too.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError):
        embedding(client(secret), "parrot")
    assert recorder.sent == []


def test_a_soft_limit_refuses_nothing(gateway: Daemon, client: Client, recorder: Recorder) -> None:
    secret = limited(gateway, "warned", "--cost", "0.000001", "--per", "day", "--soft")
    for _ in range(2):
        assert chat(client(secret), "parrot").counts == (100, 0, 20)
    assert (
        "x-llmctl-limit-passed"
        in gateway.send("/v1/chat/completions", {"model": "parrot", "messages": []}, key=secret).headers
    )


@pytest.mark.parametrize("where", ["org", "group", "user", "key", "each"])
def test_every_principals_limit_stops_a_call(gateway: Daemon, client: Client, recorder: Recorder, where: str) -> None:
    secret = gateway.add_user(f"member-{where}", f"team-{where}")
    scope: Callable[[], list[str]] = {
        "org": lambda: ["--org", "--model", "echo/echo-org"],  # of one model: the other tests go on
        "group": lambda: ["--group", "team-group"],
        "user": lambda: ["--user", "member-user"],
        "key": lambda: ["--key", "member-key/default"],
        "each": lambda: ["--group", "team-each", "--each", "user"],
    }[where]
    gateway.here("limit", "set", *scope(), "--requests", "1", "--per", "total")
    chat(client(secret), "echo-org")
    with pytest.raises(openai.RateLimitError) as refused:
        chat(client(secret), "echo-org")
    assert refused.value.code == "insufficient_quota"
    named = {"org": "organisation", "group": "group team-group", "user": "user member-user", "key": "key member-key/"}
    assert named.get(where, "each user") in refused.value.message
    if where == "each":
        chat(client(gateway.add_user("member-other", "team-each")), "echo-org")
    if where == "org":
        chat(client(secret), "echo-1")
        gateway.here("limit", "remove", gateway.json("limit", "list", "--org")[0]["id"], "--yes")
