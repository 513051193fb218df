"""Which credential a call takes, and what a provider's wish to be left alone means."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from llmctl.proxy.attempts import retry_after_s
from llmctl.proxy.credentials import FAILURES_FREE, REST_S_MAX, Credential, Credentials


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def several(clock: Clock, *weights: int) -> Credentials:
    return Credentials([Credential(f"c{n}", weight, n) for n, weight in enumerate(weights)], clock_s=clock)


def chosen(credentials: Credentials, *, tried: frozenset[int] = frozenset(), times: int = 300) -> Counter[str]:
    return Counter(one.secret for _ in range(times) if (one := credentials.choose(tried)) is not None)


def test_load_is_spread_by_weight() -> None:
    counts = chosen(several(Clock(), 3, 1), times=2_000)
    assert 1_350 < counts["c0"] < 1_650


def test_what_was_tried_or_rests_is_left_out_while_there_is_another() -> None:
    clock = Clock()
    credentials = several(clock, 1, 1, 1)
    assert set(chosen(credentials, tried=frozenset({0}))) == {"c1", "c2"}
    credentials.rest(1, 5)
    assert set(chosen(credentials, tried=frozenset({0}))) == {"c2"}
    assert credentials.has_another({0, 1}) and not credentials.has_another({0, 2})
    assert set(chosen(credentials, tried=frozenset({0, 1, 2}))) == {"c0", "c2"}  # rather again than one that rests
    clock.now_s += 5
    assert set(chosen(credentials, tried=frozenset({0}))) == {"c1", "c2"}


def test_where_all_rest_one_is_asked_all_the_same() -> None:
    credentials = several(Clock(), 1, 1)
    credentials.rest(0, 5)
    assert not credentials.all_rest
    credentials.rest(1, 5)
    assert credentials.all_rest
    assert sum(chosen(credentials).values()) == 300
    nobody = several(Clock())
    assert nobody.choose() is None and not nobody.all_rest
    nobody.rest(0, 5)  # a provider without credentials rests as a whole
    assert nobody.all_rest


def test_a_rest_is_bounded_whatever_the_provider_says() -> None:
    clock = Clock()
    credentials = several(clock, 1, 1)
    credentials.rest(0, 86_400)
    credentials.rest(1, -7)
    assert set(chosen(credentials)) == {"c1"}
    clock.now_s += REST_S_MAX
    assert set(chosen(credentials)) == {"c0", "c1"}


def test_failures_in_a_row_make_one_rest_longer_and_longer_until_it_works() -> None:
    clock = Clock()
    credentials = several(clock, 1, 1)
    for _ in range(FAILURES_FREE):
        credentials.failed(0)
    assert set(chosen(credentials)) == {"c0", "c1"}
    rests = []
    for _ in range(8):
        credentials.failed(0)
        began_s = clock.now_s
        while set(chosen(credentials, times=40)) == {"c1"}:
            clock.now_s += 1
        rests.append(clock.now_s - began_s)
    assert rests == [2, 4, 8, 16, 32, 60, 60, 60]
    credentials.worked(0)
    credentials.failed(0)
    assert set(chosen(credentials)) == {"c0", "c1"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "9" * 400}, None),
    ],
)
def test_how_long_a_provider_wants_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(CIMultiDictProxy(CIMultiDict(headers))) == seconds


def test_a_moment_is_a_time_from_now() -> None:
    found = retry_after_s(CIMultiDictProxy(CIMultiDict({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"})))
    assert found is not None and found > 1e8


def test_a_moment_without_a_zone_is_one_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        date = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(time.time() + 100))
        found = retry_after_s(CIMultiDictProxy(CIMultiDict({"retry-after": date})))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found is not None and 90 < found <= 100


def test_a_rest_outlives_the_configuration_that_the_credential_stays_in() -> None:
    clock = Clock()
    before = Credentials([Credential("a", 1, 0, "fa"), Credential("b", 1, 1, "fb")], clock_s=clock)
    before.rest(0, 30)
    for _ in range(FAILURES_FREE):
        before.failed(1)
    there = [Credential("b", 1, 0, "fb"), Credential("c", 1, 1, "fc"), Credential("a", 1, 2, "fa")]
    after = Credentials(there, clock_s=clock)
    after.take_over(before)
    assert set(chosen(after)) == {"b", "c"}
    after.failed(0)
    assert set(chosen(after)) == {"c"}


def test_a_credential_does_not_show_itself() -> None:
    assert "sk-secret" not in repr(Credentials([Credential("sk-secret")]).choose())
