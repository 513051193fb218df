"""JSON is redacted as it reads, and stays JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.redaction import KINDS, Redactor
from llmctl.proxy.json_strings import redacted

ALL = Redactor(KINDS)
KEY = "sk-abcdefghijklmnop1234"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (f"my key:\n{KEY}\tand", "my key:\n[key]\tand"),
        ("write to\nbob@example.com", "write to\n[email]"),
        ("pay with\r\n4111 1111 1111 1111", "pay with\r\n[card]"),
        (f"\u201c{KEY}\u201d", "\u201c[key]\u201d"),
        ({f"of\n{KEY}": [4111111111111111, 17, None]}, {"of\n[key]": ["[card]", 17, None]}),
        (json.dumps({"note": f"\u00e9\n{KEY}"}), '{"note": "\u00e9\\n[key]"}'),
        (f'`print("\\n{KEY}\\nbob@example.com")`', '`print("\\n[key]\\n[email]")`'),
        (f"[sic] -----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----", "[sic] [key]"),
    ],
)
def test_what_follows_a_line_break_is_found_and_json_stays_json(value: Any, kept: Any, *, ascii_only: bool) -> None:
    written = json.dumps({"value": value, "price": 1.50}, ensure_ascii=ascii_only)
    assert json.loads(redacted(written, ALL)) == {"value": kept, "price": 1.50}


def test_what_is_cut_or_none_is_redacted_too() -> None:
    assert (
        redacted(f'{{"a": "x\\n{KEY}", "b": "y\\n{KEY} and \\u20', ALL)
        == '{"a": "x\\n[key]", "b": "y\\n[key] and \\u20'
    )
    assert redacted(f"[Music] 4111 1111 1111 1111, {KEY}", ALL) == '[Music] [card], "[key]"'
    assert redacted(f"{KEY}\n", ALL) == "[key]\n"


@given(VALUES)
def test_where_nothing_is_found_it_stays_as_it_was_written(value: Any) -> None:
    written = json.dumps({"value": value})
    assert redacted(written, lambda text: text) == written
    assert json.loads(redacted(written, lambda text: text.replace("a", "b\n"))) is not None


@pytest.mark.parametrize("piece", ['"', '\\"', '["', "[", "1, ", '"\\u', "\\u005b\\u0022"])
def test_no_text_is_looked_through_again_and_again(piece: str) -> None:
    began_s = time.monotonic()
    redacted('["' + piece * (300_000 // len(piece)), ALL)
    assert time.monotonic() - began_s < 20  # in the time of its square it would take an hour
