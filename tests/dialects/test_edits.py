"""Changing a body leaves every other byte as it came."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.wire.edits import Edits
from llmctl.dialects.wire.fields import read_object

PATHS: list[tuple[str, ...]] = [("model",), ("stream_options", "include_usage"), ("generation", "config", "max")]


def edited(body: bytes, *puts: tuple[tuple[str, ...], bytes]) -> bytes:
    fields, edits = read_object(body), Edits()
    for path, value in puts:
        edits.put(fields, path, value)
    return edits.apply(fields.text, body)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b" { } ", b' {"stream_options":{"include_usage":true} } '),
        (b'{"a": 1}', b'{"stream_options":{"include_usage":true},"a": 1}'),
        (b'{"stream_options":null, "a":1}', b'{"stream_options":{"include_usage":true}, "a":1}'),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{ "x":1}}', b'{"stream_options":{"include_usage":true, "x":1}}'),
        (b'{"stream_options":{"include_usage" : false }}', b'{"stream_options":{"include_usage" : true }}'),
    ],
)
def test_an_option_is_set_with_the_fewest_bytes(body: bytes, after: bytes) -> None:
    assert edited(body, (("stream_options", "include_usage"), b"true")) == after


def test_several_edits_are_applied_in_one_go() -> None:
    body = b'{"model" : "alias", "max_tokens": 100, "x": [1, 2] }'
    after = edited(body, (("model",), b'"real"'), (("max_tokens",), b"7"), (("n",), b"1"), (("k",), b"2"))
    assert after == b'{"n":1,"k":2,"model" : "real", "max_tokens": 7, "x": [1, 2] }'


def test_nothing_changed_gives_the_same_object_back() -> None:
    body = b'{"model":"m"}'
    assert edited(body, (("model",), b'"m"')) is body


OBJECTS = st.dictionaries(
    st.sampled_from(["model", "a", "b", "stream_options", "generation"]) | st.text(max_size=3),
    st.none() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5),
    max_size=5,
)


@settings(deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from(PATHS), st.sampled_from([None, 2]))
def test_only_the_edited_value_differs(
    outer: dict[str, Any], inner: dict[str, Any], path: tuple[str, ...], indent: int | None
) -> None:
    value = {**outer, **({path[0]: inner} if len(path) > 1 else {})}
    if len(path) == 3:
        value[path[0]] = {**inner, path[1]: {}}
    try:
        body = json.dumps(value, indent=indent).encode()
        after = json.loads(edited(body, (path, b'"edited"')))
    except UnicodeEncodeError:
        return
    expected = json.loads(body)
    at = expected
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = "edited"
    assert after == expected
