"""What follows an attempt without an answer, asked of the routing itself: which credential, which model, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl import config
from llmctl.proxy.attempts import FIRST, Attempt, Failure
from llmctl.proxy.call import Call
from llmctl.proxy.credentials import FAILURES_FREE, Credentials
from llmctl.proxy.directory import Directory
from llmctl.proxy.lessons import Lessons
from llmctl.proxy.plan import NOTHING, Plan
from llmctl.proxy.routing import Routing
from llmctl.proxy.upstream import Upstream
from llmctl.store.database import create
from llmctl.store.objects import StoredObject
from tests.support.calls import admitted

CONFIG = """
database = "llmctl.db"
[retries]
attempts_max = 5
[fallbacks]
"three/m" = ["deaf/m", "one/m", "other/m"]
bare = ["one/m"]
[aliases]
alias = "three/m"
m-of-three = "three/m"
"""
CREDENTIALS = {"three": 3, "deaf": 1, "one": 1, "other": 1}
UNREACHABLE, TIMEOUT = Failure("unreachable"), Failure("timeout", billable=True)


class Routed:
    """A routing before providers of some credentials each, none of which is asked."""

    def __init__(self, place: Path) -> None:
        create(place / "llmctl.db")
        (place / "credential").write_text("secret")
        text = CONFIG
        for name, count in CREDENTIALS.items():
            files = ", ".join(['{ file = "credential" }'] * count)
            dialect = "anthropic" if name == "deaf" else "openai"
            text += f'[providers.{name}]\ndialect = "{dialect}"\nbase_url = "http://127.0.0.1:9/v1"\n'
            text += f"credentials = [{files}]\n"
            text += 'models = ["bare"]\n' if name == "one" else ""
        (place / "config.toml").write_text(text)
        self.config = config.load(place / "config.toml")
        self.directory = Directory(self.config, Lessons())
        self.upstream = Upstream(self.config)
        self.routing = Routing(self.config, self.directory, self.upstream)

    def credentials(self, provider: str) -> Credentials:
        return self.upstream.credentials(self.config.providers[provider])

    def call(self, provider: str = "three", attempt: Attempt = FIRST, stored: StoredObject | None = None) -> Call:
        plan = Plan(self.config.providers[provider], "m", None, NOTHING, False, stored=stored)
        return admitted(plan, model="three/m", attempt=attempt)

    def following(self, failure: Failure, **call: object) -> Attempt | None:
        return self.routing.following(self.call(**call), failure)  # type: ignore[arg-type]


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Routed]:
    routed = Routed(tmp_path)
    yield routed
    routed.directory.close()


def test_each_credential_is_tried_once_and_then_what_stands_in(routed: Routed) -> None:
    attempt: Attempt | None = FIRST
    seen = []
    for number in range(3):
        assert attempt is not None
        attempt = routed.following(UNREACHABLE._replace(credential=number), attempt=attempt)
        seen.append(attempt)
    assert seen == [
        Attempt(number=2, tried=frozenset({0}), first_id=5),
        Attempt(number=3, tried=frozenset({0, 1}), first_id=5),
        Attempt("one/m", 2, number=4, first_id=5),  # the one before it does not speak OpenAI
    ]


def test_what_stands_in_has_others_behind_it_until_the_attempts_are_spent(routed: Routed) -> None:
    attempt = Attempt("one/m", 2, number=4, first_id=1)
    assert routed.following(UNREACHABLE, provider="one", attempt=attempt) == Attempt("other/m", 3, 5, first_id=1)
    assert routed.following(UNREACHABLE, provider="one", attempt=attempt._replace(number=5)) is None
    assert routed.following(UNREACHABLE, provider="other", attempt=attempt._replace(place=3)) is None


def test_the_last_attempt_is_for_what_stands_in(routed: Routed) -> None:
    """Of three credentials, all of them limited, none would be left for it."""
    attempt = Attempt(number=4, tried=frozenset({0}), first_id=1)
    assert routed.following(UNREACHABLE, attempt=attempt) == Attempt("one/m", 2, 5, first_id=1)
    last = Attempt("other/m", 3, number=4, first_id=1)
    assert routed.following(UNREACHABLE, attempt=last) == last._replace(number=5, tried=frozenset({0}))


def test_where_nobody_waits_for_another_there_is_none_and_the_failure_is_noted(routed: Routed) -> None:
    assert routed.following(Failure("option", unwanted=True)) is None
    assert routed.following(Failure("busy", retry_after_s=60, unwanted=True), provider="one") is None
    assert routed.credentials("one").all_rest


@pytest.mark.parametrize("name", ["three/m", "m-of-three", "alias"])
def test_what_stands_in_does_so_by_whichever_name_the_model_is_asked_for(routed: Routed, name: str) -> None:
    assert routed.directory.stand_ins(name, "openai") == ("deaf/m", "one/m", "other/m")
    assert routed.directory.stand_ins("other/m", "openai") == ()
    assert (
        routed.directory.stand_ins("one/bare", "openai") == routed.directory.stand_ins("bare", "openai") == ("one/m",)
    )


def test_what_rests_itself_does_not_stand_in(routed: Routed) -> None:
    for number in range(3):
        routed.credentials("three").rest(number, 60)
    assert routed.routing.first(routed.call().caller, "three/m", "openai") == Attempt("one/m", 2)
    routed.credentials("one").rest(0, 60)
    assert routed.routing.first(routed.call().caller, "three/m", "openai") == Attempt("other/m", 3)
    assert routed.following(UNREACHABLE) == Attempt("other/m", 3, 2, first_id=5)
    routed.credentials("other").rest(0, 60)
    assert routed.routing.first(routed.call().caller, "three/m", "openai") == FIRST
    assert routed.following(UNREACHABLE) is None


def test_what_is_kept_by_a_provider_is_asked_of_no_other_and_its_failure_noted(routed: Routed) -> None:
    stored = StoredObject("resp_1", 1, "three", "m", "f", False)
    assert routed.following(UNREACHABLE) is not None
    assert routed.following(Failure("busy", retry_after_s=60), stored=stored) is None
    assert not routed.credentials("three").has_another({1, 2})


def test_what_may_have_been_billed_is_not_tried_again(routed: Routed) -> None:
    assert routed.following(TIMEOUT) is None


def test_a_request_without_what_we_put_into_it_goes_to_the_same_place(routed: Routed) -> None:
    attempt = Attempt("one/m", 2, number=5, tried=frozenset({1}), first_id=1)
    again = attempt._replace(number=6, without_option=True)
    assert routed.following(Failure("option"), provider="one", attempt=attempt) == again


@pytest.mark.parametrize(
    ("failure", "times", "rests"),
    [
        (Failure("forbidden"), FAILURES_FREE + 1, False),  # it may serve others
        (Failure("credential"), 1, True),
        (Failure("busy", retry_after_s=60), 1, True),
        (Failure("busy"), FAILURES_FREE, False),
        (Failure("busy"), FAILURES_FREE + 1, True),
        (UNREACHABLE, FAILURES_FREE + 1, True),
        (TIMEOUT, FAILURES_FREE + 1, True),
        (Failure("option"), FAILURES_FREE + 1, False),
    ],
)
def test_which_failures_make_a_credential_rest(routed: Routed, failure: Failure, times: int, rests: bool) -> None:
    for _ in range(times):
        assert not routed.credentials("one").all_rest
        routed.following(failure, provider="one")
    assert routed.credentials("one").all_rest is rests
