from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.redaction import KINDS, Redactor

ALL = Redactor(KINDS)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to Jane.Doe+x@example.co.uk, please", "write to [email], please"),
        ("my key is sk-proj-abcDEF1234567890_xyz-123", "my key is [key]"),
        ("sk-llmctl-4mTq8ZbV0sKd2RfXh6YpLw9c", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE and ghp_" + "a1" * 18, "[key] and [key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----.", "[key]."),
        ("pay with 4111 1111 1111 1111 now", "pay with [card] now"),
        ("5500-0000-0000-0004", "[card]"),
        ("order 4111 1111 1111 1112 is none", "order 4111 1111 1111 1112 is none"),
        ("a\\nsk-abcdefghijklmnop1234\\t4111111111111111\\nbob@example.com", "a\\n[key]\\t[card]\\n[email]"),
        (r"AD\bob@example.com", r"AD\[email]"),
        ("pi is 3.14159265358979323846", "pi is 3.14159265358979323846"),
        ("task-force and risk-averse", "task-force and risk-averse"),
    ],
)
def test_what_is_secret_or_somebodys_is_taken_out(text: str, redacted: str) -> None:
    assert ALL(text) == redacted


def test_only_what_was_asked_for_is_taken_out() -> None:
    assert Redactor(["card"])("a@b.example 4111111111111111") == "a@b.example [card]"


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    assert isinstance(ALL(text), str)


@pytest.mark.parametrize(
    "piece", ["a", "a@", "a@b.", "1 ", "eyJaaaaaaaaaaaa-", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "sk-aaaa "]
)
def test_no_text_is_looked_through_again_and_again(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))  # in the time of its square this would take an hour
    assert ALL(text + "-----END").endswith("-----END")


def test_a_long_text_is_redacted_to_its_end() -> None:
    words = ["lorem ipsum", "bob@example.com", "4111 1111 1111 1111", "sk-abcdefghijklmnop1234"]
    text = ", ".join(words * 3_000)
    assert ALL(text) == ", ".join(["lorem ipsum", "[email]", "[card]", "[key]"] * 3_000)
