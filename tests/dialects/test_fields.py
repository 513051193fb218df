"""Strict reading: what was judged is what is sent."""

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.wire.fields import STRINGS_MAX, read_object
from llmctl.domain.errors import Refused

KNOWN = frozenset({"max_tokens", "model"})


def refusal(body: bytes, known: frozenset[str] = KNOWN) -> Refused:
    with pytest.raises(Refused) as caught:
        read_object(body, known)
    assert caught.value.code == "bad_request"
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"a":1',
        b'{"a":1}}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":{"b":"\xed\xa0\x80"}}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"<html></html>",
    ],
)
def test_what_is_no_plain_json_object_is_refused(body: bytes) -> None:
    assert refusal(body).message


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_tokens":1,"max_tokens":1}',
        b'{"max_tokens":12,"max_tokens":1}',
        b'{"max_tokens":1,"max_tokens":12}',
        b'{"max_tokens":1,"b":2,"max_tokens":3}',
        b'{"b":2,"max_tokens":"x","max_tokens":"x"}',
        b'{"max\\u005ftokens":1,"max_tokens":2}',
        b'{"max_tokens":{"x":1},"max_tokens":{"x":1}}',
        b'{ "max_tokens" : 1 , "max_tokens" : 1 }',
        b'{"max_tokens":"}","max_tokens":"}"}',
        b'{"a":[1,2],"b":{"c":"\\""},"max_tokens":1\n,\t"max_tokens":1}',
    ],
)
def test_a_field_that_appears_twice_is_refused_by_name(body: bytes) -> None:
    error = refusal(body)
    assert error.param == "max_tokens"
    assert "twice" in error.message


def test_a_field_that_appears_twice_in_an_inner_object_is_refused_with_its_path() -> None:
    fields = read_object(b'{"stream_options":{"include_usage":true,"include_usage":false}}')
    with pytest.raises(Refused) as caught:
        fields.object("stream_options")
    assert caught.value.param == "stream_options.include_usage"


@pytest.mark.parametrize(
    "name",
    ["MAX_TOKENS", "Max_tokens", "max_Tokens", "max_to\u212aens", "max_token\u017f", "max_tokens\0", "max_tokens\0x"],
)
def test_a_variant_in_case_of_a_name_that_decides_money_is_refused(name: str) -> None:
    assert "write max_tokens" in refusal(json.dumps({name: 5}).encode()).message
    assert read_object(json.dumps({name: 5}).encode()).values  # where it decides nothing, it passes


@pytest.mark.parametrize("value", ["1.0", "1e3", "-1", "true", '"5"', "[]", "{}", "1000000001", "9" * 30])
def test_only_plain_digits_within_bounds_are_an_integer(value: str) -> None:
    fields = read_object(b'{"max_tokens":%b}' % value.encode())
    with pytest.raises(Refused, match="must be an integer"):
        fields.integer("max_tokens")


def test_wrong_types_are_refused_and_null_counts_as_absent() -> None:
    fields = read_object(b'{"a":1,"b":"x","c":true,"n":null,"o":{"x":2}}')
    assert (fields.integer("a"), fields.string("b"), fields.boolean("c")) == (1, "x", True)
    assert (fields.integer("n"), fields.string("n"), fields.boolean("n"), fields.object("n")) == (None,) * 4
    assert "n" not in fields
    assert fields.string("absent") is None
    inner = fields.object("o")
    assert inner is not None
    assert inner.integer("x") == 2
    for read in (fields.string, fields.boolean, fields.object):
        with pytest.raises(Refused):
            read("a")


def test_large_bodies_of_many_small_values_stay_cheap() -> None:
    assert len(read_object(b'{"a":[' + b"{}," * 2_000_000 + b"{}]}").values) == 1
    many = b"{" + b",".join(b'"%d":1' % number for number in range(2 * STRINGS_MAX + 2)) + b"}"
    assert "strings" in refusal(many).message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON_VALUES), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_value_is_found_where_it_stands(
    value: dict[str, Any], indent: int | str | None, ascii_only: bool
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        fields = read_object(body)
    except Refused as error:
        assert "JSON" in error.message or "UTF-8" in error.message  # a lone surrogate
        return
    assert {name: json.loads(body[slice(*fields.span(name))]) for name in fields.values} == value


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(string.ascii_letters, max_size=2), JSON_VALUES), min_size=1, max_size=6),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]),
)
def test_duplicates_are_found_exactly(members: list[tuple[str, Any]], separators: tuple[str, str]) -> None:
    comma, colon = separators
    body = "{" + comma.join(json.dumps(name) + colon + json.dumps(value) for name, value in members) + "}"
    encoded = body.encode()
    if "\\ud" in body:
        return
    if len({name for name, _ in members}) == len(members):
        assert len(read_object(encoded).values) == len(members)
    else:
        assert "twice" in refusal(encoded).message


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.text('{}[]",:\\ \n\tabu0019-.e', max_size=30).map(str.encode))
def test_rubbish_is_refused_and_never_breaks(body: bytes) -> None:
    try:
        fields = read_object(body, KNOWN)
    except Refused as error:
        assert error.code == "bad_request"
    else:
        assert all(fields.span(name) for name in fields.values)
