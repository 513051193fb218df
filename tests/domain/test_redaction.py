from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.redaction import KINDS, PIECE_CHARACTERS, Redactor

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


# Of the form that each provider gives; put together here, so that no scanner takes them for real ones.
BEGINNINGS = (
    "gsk_",
    "xai-",
    "pplx-",
    "hf_",
    "nvapi-",
    "r8_",
    "fw_",
    "tgp_v1_",
    "ABSK",
    "github_pat_",
    "glpat-",
    "npm_",
)
KEYS = [
    *(beginning + "4mTq8ZbV0sKd2RfXh6Yp" * 2 for beginning in BEGINNINGS),
    *("sk_" + "live_4mTq8ZbV0sKd2RfXh6Yp", "rk_" + "live_4mTq8ZbV0sKd2RfXh6Yp"),
    *("ya29." + "a0AfH6SMB_4mTq8ZbV0-sKd2", "ABSK" + "QmVkcm9ja0FQSUtleS1h/mNkZWZnaGlqa2+tbm9wcXJzdHV2=="),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["{}", "my key is {}, keep it", "a\\n{}", '{{"key": "{}"}}'])
def test_the_keys_of_providers_and_of_other_services_are_taken_out(key: str, text: str) -> None:
    assert ALL(text.format(key)) == text.format("[key]")


def test_a_key_that_lies_where_a_long_text_is_cut_is_taken_out_whole() -> None:
    key = "ABSK" + "QmVkcm9ja0FQSUtleS1hYmNkZWZn/aGlqa2xtbm9wcXJzdHV2"
    for before in range(PIECE_CHARACTERS - 40, PIECE_CHARACTERS):
        text = "." * before + " " + key + " " * 2 * PIECE_CHARACTERS
        assert "[key] " in ALL(text)


def test_names_that_begin_like_keys_stay() -> None:
    text = "xai-grok-code-fast-1-with-tools, pplx-70b-online-of-perplexity, hf_hub_download_with_a_long_name_indeed"
    assert ALL(text) == text


def test_only_what_was_asked_for_is_taken_out() -> None:
    assert Redactor(["card"])("a@b.example 4111111111111111") == "a@b.example [card]"


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    assert isinstance(ALL(text), str)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a@",
        "a@b.",
        "1 ",
        "eyJaaaaaaaaaaaa-",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "sk-aaaa ",
        "ABSK",
        "hf_",
        "/",
    ],
)
def test_no_text_is_looked_through_again_and_again(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))  # in the time of its square this would take an hour
    assert ALL(text + "-----END").endswith("-----END")


def test_a_long_text_is_redacted_to_its_end() -> None:
    words = ["lorem ipsum", "bob@example.com", "4111 1111 1111 1111", "sk-abcdefghijklmnop1234"]
    text = ", ".join(words * 3_000)
    assert ALL(text) == ", ".join(["lorem ipsum", "[email]", "[card]", "[key]"] * 3_000)
