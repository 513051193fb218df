from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmctl.domain import errors
from llmctl.domain.errors import REFUSALS, LlmctlError, Refused, StoreBroken, StoreError, StoreUnavailable


def family(error: type[LlmctlError]) -> Iterator[type[LlmctlError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


def test_every_error_has_a_code_of_its_own_and_stands_in_the_drawing() -> None:
    kinds = [kind for kind in family(LlmctlError) if kind is not Refused]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert errors.__doc__ is not None
    for kind in family(LlmctlError):
        assert kind.__name__ in errors.__doc__


def test_an_error_reads_as_what_is_wrong_and_what_to_do() -> None:
    assert str(LlmctlError("no group slaes", hint="did you mean sales?")) == "no group slaes; did you mean sales?"
    assert str(LlmctlError("no group slaes")) == "no group slaes"
    assert LlmctlError("x").code == "error"
    assert LlmctlError("x", code="special").code == "special" and LlmctlError.code == "error"


def test_whoever_handles_the_database_failing_handles_both_ways_it_can_fail() -> None:
    assert issubclass(StoreUnavailable, StoreError) and issubclass(StoreBroken, StoreError)
    assert not issubclass(StoreBroken, StoreUnavailable), "a broken file must not be retried for ever"


def test_a_refusal_carries_a_code_of_the_table() -> None:
    for code in REFUSALS:
        refused = Refused(code, "no", hint="ask")
        assert (refused.code, refused.retry_after_s, refused.param, refused.facts) == (code, None, None, {})


def test_a_refusal_with_a_code_outside_the_table_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Refused("go_away", "no")


def test_a_refusal_keeps_its_own_copy_of_the_numbers() -> None:
    facts: dict[str, object] = {"spent": 1}
    refused = Refused("limit_spent", "no", facts=facts)
    facts["spent"] = 2
    assert refused.facts == {"spent": 1}
