"""Responses that a provider keeps: whose they are, where what is asked about them goes, and how those are booked that
go on in the background. Through OpenAI's SDK and the daemon, before a provider of two accounts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.keeper import Keeper

ACCOUNTS = {"sk-keeper-ONE": "one", "sk-keeper-TWO": "two"}
MODEL = "keep-1"
COST = "0.000140000"  # of USAGE, at the prices below
CONFIG = """
[providers.keeper]
dialect = "openai"
base_url = "{url}"
credentials = [{{ file = "one" }}, {{ file = "two" }}]
models = ["keep-*"]
[providers.other]
dialect = "openai"
base_url = "{url}"
credential_file = "one"
models = ["other-*"]
[aliases]
kept = "keeper/keep-1"
"""

Client = Callable[[str], openai.OpenAI]


def serving(directory: Path, keeper: Keeper, **more: Any) -> Daemon:
    for credential, account in ACCOUNTS.items():
        (directory / account).write_text(credential)
    daemon = Daemon(directory, CONFIG.format(url=keeper.base_url), **more)
    for provider in ("keeper", "other"):
        daemon.here("price", "set", f"{provider}/*", "--input", "1", "--output", "2", "--output-max", "1000")
    return daemon


@pytest.fixture(scope="module")
def running_keeper() -> Iterator[Keeper]:
    with Keeper(ACCOUNTS) as keeper:
        yield keeper


@pytest.fixture
def keeper(running_keeper: Keeper) -> Keeper:
    running_keeper.asked.clear()
    running_keeper.cancelled_usage = None
    return running_keeper


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, running_keeper: Keeper) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("kept"), running_keeper, server="workers = 2") as daemon:
        yield daemon


@pytest.fixture
def sdk() -> Iterator[Callable[[Daemon, str], openai.OpenAI]]:
    clients = []

    def make(daemon: Daemon, key: str) -> openai.OpenAI:
        clients.append(openai.OpenAI(base_url=daemon.base_url, api_key=key, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(gateway: Daemon, sdk: Callable[[Daemon, str], openai.OpenAI]) -> Client:
    return lambda key: sdk(gateway, key)


def rows(daemon: Daemon, user: str, endpoint: str = "responses", count: int | None = None) -> list[dict[str, Any]]:
    """The user's calls of an endpoint; with `count`, as soon as so many have ended."""
    deadline_s = time.monotonic() + 10
    while True:
        found = [row for row in daemon.json("calls", "--user", user, "--limit", "1000") if row["endpoint"] == endpoint]
        if count is None or sum(row["state"] == "settled" for row in found) == count:
            return found
        assert time.monotonic() < deadline_s, found
        time.sleep(0.02)


def age(daemon: Daemon, seconds: int) -> None:
    """As if all that goes on had begun so much earlier; as soon as nothing else is open."""
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 5000")
        deadline_s = time.monotonic() + 10
        while connection.execute("SELECT 1 FROM calls WHERE state = 'open' AND owner >= 0").fetchone():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        connection.execute("UPDATE calls SET started_at_ms = started_at_ms - ? WHERE state = 'open'", (seconds * 1000,))


def asking_about(responses: Any) -> list[Callable[[str], object]]:
    return [
        responses.retrieve,
        responses.cancel,
        responses.delete,
        responses.input_items.list,
        lambda one: responses.retrieve(one, stream=True),
    ]


def going_on_from(responses: Any) -> list[Callable[[str], object]]:
    return [
        lambda one: responses.create(model=MODEL, input="x", previous_response_id=one),
        lambda one: responses.input_tokens.count(model=MODEL, input="x", previous_response_id=one),
        lambda one: responses.compact(model=MODEL, previous_response_id=one),
    ]


def refused(ask: Callable[[str], object], response_id: str) -> str:
    """With which text, and which code."""
    with pytest.raises(openai.NotFoundError) as caught:
        ask(response_id)
    return f"{caught.value.body['message'].replace(response_id, 'ID')}, {caught.value.code}"


def test_a_stored_response_is_its_owners_alone_and_nobody_learns_that_it_exists(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    owner = client(gateway.add_user("anna", "sales"))
    colleague, stranger = client(gateway.add_user("ben", "sales")), client(gateway.add_user("carl", "free"))
    theirs = owner.responses.create(model=MODEL, input="my secret").id
    assert owner.responses.retrieve(theirs).id == theirs
    keeper.asked.clear()
    about: set[str] = set()
    going_on: set[str] = set()
    for response_id in (theirs, "resp_unknown"):
        about |= {refused(ask, response_id) for ask in asking_about(colleague.responses)}
        going_on |= {refused(ask, response_id) for ask in going_on_from(colleague.responses)}
        about.add(refused(stranger.responses.retrieve, response_id))
    assert about == {"there is no response 'ID' of yours, object_not_found"}
    assert going_on == {
        "there is no response 'ID' of yours to go on from; send the conversation itself, previous_response_not_found"
    }
    assert keeper.asked == []  # nothing was sent


def referring_to(number: str) -> list[dict[str, Any]]:
    """To what is in the response of that number."""
    hello = {"role": "user", "content": "and?"}
    return [
        {"input": [{"type": "item_reference", "id": f"msg_{number}"}, hello]},
        {"input": [{"id": f"msg_{number}"}, hello]},
        {"input": [{"type": "image_generation_call", "id": f"ci_{number}", "result": None}, hello]},
        {"input": [{"type": "reasoning", "id": f"ci_{number}", "summary": []}, hello]},
        {"input": "and?", "tools": [{"type": "code_interpreter", "container": f"cntr_{number}"}]},
        {
            "input": "and?",
            "tools": [
                {"type": "shell", "environment": {"type": "container_reference", "container_id": f"cntr_{number}"}}
            ],
        },
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_what_is_in_a_stored_response_is_its_owners_alone_too_and_asked_for_where_it_is_kept(
    gateway: Daemon, keeper: Keeper, client: Client, stream: bool, background: bool
) -> None:
    name = f"gina{stream:d}{background:d}"
    owner, colleague = (client(gateway.add_user(user, "sales")) for user in (name, f"not{name}"))
    made = owner.responses.create(model=MODEL, input="my secret", background=background, stream=stream)
    theirs = next(iter(made)).response.id if stream else made.id
    if background:
        keeper.finish(theirs)
        owner.responses.retrieve(theirs)
    number = theirs.removeprefix("resp_")
    rows(gateway, name, count=1)
    keeper.asked.clear()
    for body in referring_to(number):
        for ask in (owner.responses.create, owner.responses.input_tokens.count):
            ask(model=MODEL, **body)
        assert {one.account for one in keeper.asked} == {keeper.account_of(theirs)}
    keeper.asked.clear()
    told = next(body for body in referring_to("unknown") if b"reasoning" in str(body).encode())
    unknown = [body for body in referring_to("unknown") if body != told]
    assert colleague.responses.create(model=MODEL, **told)  # by a provider that keeps nothing
    keeper.asked.clear()
    for body in [*referring_to(number), *unknown]:
        for ask in (colleague.responses.create, colleague.responses.input_tokens.count):
            with pytest.raises(openai.NotFoundError, match="of yours; send the content itself"):
                ask(model=MODEL, **body)
    assert keeper.asked == []
    mine = colleague.responses.create(model=MODEL, input="x").id
    keeper.asked.clear()
    mentioning = [{"type": "reasoning", "id": f"ci_{number}", "summary": []}]
    with pytest.raises(openai.NotFoundError, match="of yours; send the content itself"):
        colleague.responses.create(model=MODEL, input=mentioning, previous_response_id=mine)
    assert keeper.asked == []
    own = {"type": "message", "role": "assistant", "id": f"msg_{number}", "content": "as it was sent along"}
    search = {"type": "web_search_call", "id": f"ws_{number}", "status": "completed", "action": {"type": "search"}}
    assert colleague.responses.create(model=MODEL, input=[own, search])


def test_of_what_is_not_stored_only_the_container_can_be_used_again(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    hans = client(gateway.add_user("hans"))
    number = hans.responses.create(model=MODEL, input="x", store=False).id.removeprefix("resp_")
    container = {"type": "code_interpreter", "container": f"cntr_{number}"}
    assert hans.responses.create(model=MODEL, input="and?", tools=[container])
    with pytest.raises(openai.NotFoundError):
        hans.responses.create(model=MODEL, input=[{"type": "item_reference", "id": f"msg_{number}"}])


def test_every_key_of_its_owner_reaches_it_also_after_a_rotation(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    made = client(gateway.add_user("dora")).responses.create(model=MODEL, input="x").id
    other_key = gateway.here("key", "create", "dora", "--name", "laptop", "-q").strip()
    assert client(other_key).responses.retrieve(made).id == made
    rotated = gateway.here("key", "rotate", "dora/laptop", "-q").strip()
    assert client(rotated).responses.retrieve(made).id == made
    gateway.here("user", "remove", "dora", "--yes")
    with pytest.raises(openai.NotFoundError):  # another person of that name is another person
        client(gateway.add_user("dora")).responses.retrieve(made)


def test_what_is_asked_about_a_response_goes_to_the_account_that_keeps_it(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    emil = client(gateway.add_user("emil"))
    ids = [emil.responses.create(model=MODEL, input="x").id for _ in range(12)]
    accounts = {response_id: keeper.account_of(response_id) for response_id in ids}
    assert set(accounts.values()) == {"one", "two"}
    keeper.asked.clear()
    for response_id, account in accounts.items():
        emil.responses.retrieve(response_id)
        emil.responses.input_items.list(response_id)
        later = emil.responses.create(model=MODEL, input="and?", previous_response_id=response_id)
        emil.responses.create(model="kept", input="and?", previous_response_id=later.id)  # an alias
        assert emil.responses.input_tokens.count(model=MODEL, input="x", previous_response_id=later.id)
        assert {one.account for one in keeper.asked} == {account}
        keeper.asked.clear()


def test_a_response_goes_on_where_it_is_kept_but_not_against_the_clients_word(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    fred = client(gateway.add_user("fred"))
    made = fred.responses.create(model=MODEL, input="x").id
    fred.responses.create(model="other-2", input="x", previous_response_id=made)
    assert keeper.asked[-1].account == keeper.account_of(made)
    assert b'"other-2"' in keeper.asked[-1].body
    assert rows(gateway, "fred", count=2)[0]["provider"] == "keeper"
    with pytest.raises(openai.BadRequestError, match="is kept by keeper") as refused:
        fred.responses.create(model="other/other-2", input="x", previous_response_id=made)
    assert refused.value.param == "model"


def test_what_is_not_stored_is_nobodys_and_a_deleted_one_no_longer_anybodys(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    gina = client(gateway.add_user("gina"))
    unstored = gina.responses.create(model=MODEL, input="x", store=False).id
    with pytest.raises(openai.NotFoundError):
        gina.responses.retrieve(unstored)
    made = gina.responses.create(model=MODEL, input="x").id
    gina.responses.delete(made)
    rows(gateway, "gina", "responses.delete", count=1)
    keeper.asked.clear()
    with pytest.raises(openai.NotFoundError):
        gina.responses.retrieve(made)
    assert keeper.asked == []


def test_conversations_are_refused_and_parameters_pass(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    hugo = client(gateway.add_user("hugo"))
    for ask in (hugo.responses.create, hugo.responses.input_tokens.count):
        with pytest.raises(openai.NotFoundError, match="previous_response_id goes on from a response"):
            ask(model=MODEL, input="x", conversation="conv_1")
    made = hugo.responses.create(model=MODEL, input="x").id
    listed = hugo.responses.input_items.list(
        made, after="msg_0", include=["reasoning.encrypted_content"], limit=3, order="asc", extra_query={"x": "1"}
    )
    assert listed.data[0].id == "msg_1"
    assert keeper.asked[-1].path.endswith(
        "/input_items?after=msg_0&include%5B%5D=reasoning.encrypted_content&limit=3&order=asc"
    )


def test_counting_and_reading_are_free_calls_with_a_row_each(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    ida = client(gateway.add_user("ida", "readers"))
    gateway.here("limit", "set", "--user", "ida", "--cost", "0.01", "--per", "month")
    assert ida.responses.input_tokens.count(model=MODEL, input="x").input_tokens == 15
    made = ida.responses.create(model="kept", input="x").id
    ida.responses.retrieve(made)
    rows(gateway, "ida", "responses.retrieve", count=1)
    calls = {row["endpoint"]: row for row in gateway.json("calls", "--user", "ida")}
    assert calls["responses"]["cost_usd"] == COST
    for endpoint in ("responses.input_tokens", "responses.retrieve"):
        row = calls[endpoint]
        assert (row["state"], row["status"], row["cost_usd"]) == ("settled", 200, "0.000000000")
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (0, 0, None)
    assert (calls["responses.retrieve"]["request_model"], calls["responses.retrieve"]["response_model"]) == (
        "keep-1",
        "keep-1-2026",
    )
    assert calls["responses"]["request_model"] == "kept"
    (usage,) = gateway.json("usage", "--user", "ida")
    assert (usage["input_tokens"], usage["output_tokens"], usage["cost_usd"]) == (100, 20, COST)


def test_a_background_response_holds_until_its_owner_reads_how_it_ended_and_is_booked_once(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    jana = client(gateway.add_user("jana"))
    gateway.here("limit", "set", "--user", "jana", "--concurrency", "1")
    begun = jana.responses.create(model=MODEL, input="x", background=True)
    assert (begun.status, begun.usage) == ("queued", None)
    with pytest.raises(openai.RateLimitError):  # it counts as long as it goes on
        jana.responses.create(model=MODEL, input="x")
    for _ in range(3):  # but it can be read
        assert jana.responses.retrieve(begun.id).status == "queued"
    (row,) = [row for row in rows(gateway, "jana") if row["state"] != "refused"]
    assert (row["state"], row["cost_usd"]) == ("open", None)
    assert "open, in the background" in gateway.here("why", row["id"])
    keeper.finish(begun.id)
    for _ in range(3):
        assert jana.responses.retrieve(begun.id).usage.total_tokens == 120
    (row,) = [row for row in rows(gateway, "jana", count=1) if row["state"] != "refused"]
    assert (row["usage_source"], row["cost_usd"], row["error"]) == ("reported", COST, None)
    assert (row["input_tokens"], row["output_tokens"], row["response_model"]) == (100, 20, "keep-1-2026")
    jana.responses.create(model=MODEL, input="x")  # there is room again
    rows(gateway, "jana", count=2)
    (usage,) = gateway.json("usage", "--user", "jana")
    assert (usage["input_tokens"], usage["estimated_calls"]) == (200, 0)


def test_a_background_stream_that_broke_is_taken_up_again_and_booked_once(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    karl = client(gateway.add_user("karl"))
    with karl.responses.create(model=MODEL, input="x", background=True, stream=True) as stream:
        response_id = next(iter(stream)).response.id
        other = karl.responses.retrieve(response_id)  # known from its first event on
        assert other.status == "queued"
    assert [row["state"] for row in rows(gateway, "karl")] == ["open"]
    keeper.finish(response_id)
    events = list(karl.responses.retrieve(response_id, stream=True, starting_after=0))
    assert [event.type for event in events] == ["response.completed"]
    (row,) = rows(gateway, "karl", count=1)
    assert (row["usage_source"], row["cost_usd"], row["stream"]) == ("reported", COST, True)
    assert any(row["stream"] for row in rows(gateway, "karl", "responses.retrieve", count=2))


def test_a_background_stream_that_ends_is_booked_like_any_other(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    lena = client(gateway.add_user("lena"))
    with lena.responses.create(model=MODEL, input="x", background=True, stream=True) as stream:
        events = iter(stream)
        keeper.finish(next(events).response.id)
        assert [event.type for event in events] == ["response.completed"]
    (row,) = rows(gateway, "lena", count=1)
    assert (row["usage_source"], row["cost_usd"]) == ("reported", COST)


def test_nobody_need_ask_the_daemon_does(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    mona = client(gateway.add_user("mona"))
    begun = [mona.responses.create(model=MODEL, input="x", background=True).id for _ in range(3)]
    for response_id in begun:
        keeper.finish(response_id)
    age(gateway, 10)
    assert {row["cost_usd"] for row in rows(gateway, "mona", count=3)} == {COST}
    for response_id in begun:  # one of the workers does it, with the right account
        assert keeper.count("GET", response_id) == 1


def test_what_the_provider_no_longer_knows_is_booked_at_all_that_was_held(
    gateway: Daemon, keeper: Keeper, client: Client
) -> None:
    nina = client(gateway.add_user("nina"))
    young = nina.responses.create(model=MODEL, input="x", background=True).id
    keeper.forget(young)
    age(gateway, 10)
    while not keeper.count("GET", young):
        time.sleep(0.02)
    gone = nina.responses.create(model=MODEL, input="x", background=True).id
    keeper.forget(gone)
    with pytest.raises(openai.NotFoundError):
        nina.responses.retrieve(gone)
    assert [row["state"] for row in rows(gateway, "nina")] == ["open", "open"]  # it may not know them yet
    age(gateway, 30)
    row = rows(gateway, "nina", count=1)[0]
    assert (row["usage_source"], row["error"], row["output_tokens"]) == ("estimated", "response_gone", 1000)
    assert float(row["cost_usd"]) > 0.002

    olga = client(gateway.add_user("olga"))
    olga.responses.create(model=MODEL, input="x", background=True)  # and goes on for ever
    age(gateway, 86_400)
    (row,) = rows(gateway, "olga", count=1)
    assert (row["usage_source"], row["error"]) == ("estimated", "response_expired")


@pytest.mark.parametrize("usage", [None, (70, 5)])
def test_cancelling_books_what_the_provider_says_or_all_that_was_held(
    gateway: Daemon, keeper: Keeper, client: Client, usage: tuple[int, int] | None
) -> None:
    name = f"paul-{usage is None}"
    paul = client(gateway.add_user(name))
    keeper.cancelled_usage = usage
    begun = paul.responses.create(model=MODEL, input="x", background=True)
    assert paul.responses.cancel(begun.id).status == "cancelled"
    assert paul.responses.cancel(begun.id).status == "cancelled"
    (row,) = rows(gateway, name, count=1)
    assert row["error"] == "cancelled"
    if usage is None:
        assert (row["usage_source"], row["output_tokens"]) == ("estimated", 1000)
    else:
        assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("reported", *usage)


def test_one_that_failed_costs_nothing_and_counts_as_an_error(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    quinn = client(gateway.add_user("quinn"))
    begun = quinn.responses.create(model=MODEL, input="x", background=True)
    keeper.finish(begun.id, None, status="failed")
    assert quinn.responses.retrieve(begun.id).status == "failed"
    (row,) = rows(gateway, "quinn", count=1)
    assert (row["error"], row["cost_usd"], row["usage_source"]) == ("server_error", "0.000000000", None)


def test_before_one_is_deleted_it_is_asked_for_its_usage(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    rosa = client(gateway.add_user("rosa"))
    ended, going_on = [rosa.responses.create(model=MODEL, input="x", background=True).id for _ in range(2)]
    keeper.finish(ended)
    rosa.responses.delete(ended)
    (row,) = [row for row in rows(gateway, "rosa", count=1) if row["state"] == "settled"]
    assert (row["usage_source"], row["cost_usd"]) == ("reported", COST)
    rosa.responses.delete(going_on)
    row = rows(gateway, "rosa", count=2)[0]
    assert (row["usage_source"], row["error"]) == ("estimated", "response_deleted")


def test_with_two_workers_a_response_is_known_to_both_at_once(gateway: Daemon, keeper: Keeper, client: Client) -> None:
    key = gateway.add_user("sven")
    for _ in range(20):
        made = gateway.send("/v1/responses", {"model": MODEL, "input": "x", "background": True}, key=key).json["id"]
        assert gateway.send(f"/v1/responses/{made}", method="GET", key=key).status == 200
        keeper.finish(made)
        assert gateway.send(f"/v1/responses/{made}", method="GET", key=key).json["status"] == "completed"
    assert {row["cost_usd"] for row in rows(gateway, "sven", count=20)} == {COST}
    (usage,) = gateway.json("usage", "--user", "sven")
    assert (usage["input_tokens"], usage["output_tokens"]) == (2000, 400)


def test_the_books_agree_and_no_secret_is_in_them(gateway: Daemon) -> None:
    checks = {row["check"]: row["state"] for row in gateway.json("doctor")}
    assert (checks["roll-ups"], checks["balances"]) == ("ok", "ok")
    with closing(sqlite3.connect(gateway.database)) as connection:
        dump = "\n".join(connection.iterdump())
    assert not any(credential in dump for credential in ACCOUNTS)


def test_one_that_goes_on_survives_every_end_of_the_daemon(
    tmp_path: Path, keeper: Keeper, sdk: Callable[[Daemon, str], openai.OpenAI]
) -> None:
    with serving(tmp_path, keeper) as daemon:
        key = daemon.add_user("tina")
        daemon.here("limit", "set", "--user", "tina", "--cost", "0.01", "--per", "month")
        tina = sdk(daemon, key)
        whole = tina.responses.create(model=MODEL, input="x", background=True).id
        stream = iter(tina.responses.create(model=MODEL, input="x", background=True, stream=True))
        streamed = next(stream).response.id
        tina.responses.retrieve(streamed)
        daemon.kill()
        daemon.start()
        assert [row["state"] for row in rows(daemon, "tina")] == ["open", "open"]
        (limit,) = daemon.json("limit", "list")
        assert float(limit["held"]) > 0.004
        began_s = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began_s < 5  # nobody waits for them
        (check,) = [row for row in daemon.json("doctor") if row["check"] == "open calls"]
        assert check["text"] == "2 calls open, 2 of them in the background, and no gateway runs"
        assert [row["state"] for row in rows(daemon, "tina")] == ["open", "open"]
        daemon.start()
        keeper.finish(whole)
        keeper.finish(streamed)
        assert sdk(daemon, key).responses.retrieve(whole).status == "completed"
        age(daemon, 10)
        assert {(row["usage_source"], row["cost_usd"]) for row in rows(daemon, "tina", count=2)} == {("reported", COST)}
        (limit,) = daemon.json("limit", "list")
        assert float(limit["held"]) == 0
