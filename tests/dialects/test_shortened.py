"""A text without what its long strings hold says the same, and everything comes back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.cohere.dialect import COHERE
from llmctl.dialects.openai.dialect import OPENAI
from llmctl.dialects.openai.request import MONEY_NAMES
from llmctl.dialects.request import Request
from llmctl.dialects.wire import shortened as module
from llmctl.dialects.wire.edits import Edits
from llmctl.dialects.wire.fields import Fields, read_object
from llmctl.dialects.wire.lenient import members
from llmctl.dialects.wire.shortened import BACKSLASHES_MAX, TEXT_BYTES_MIN, full_size, restored, shortened
from llmctl.domain.errors import Refused

CHAT = "chat.completions"
LONG = "a" * TEXT_BYTES_MIN
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LONG}"}}

PIECES = st.sampled_from(["\\", '"', '\\"', "é", "😀", "\n", "plain words ", "{", "}", ":", ",", "a" * 20])
TEXTS = st.lists(PIECES, max_size=20).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=5)


def chat(**more: Any) -> bytes:
    return json.dumps({"model": "gpt-5", **more}).encode()


def read(body: bytes) -> Request:
    return OPENAI.read_request(CHAT, body)


def read_short(body: bytes) -> Fields:
    """With every string counted as long that has more than a few letters."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TEXT_BYTES_MIN", 1), ("STRING_BYTES_MIN", 8), ("BEGINNING_BYTES", 4)):
            patch.setattr(module, name, value)
        return read_object(body)


@settings(max_examples=300)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_any_object_has_the_same_members_and_edits(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    plain, short = read_object(body), read_short(body)
    assert plain.text is body
    assert restored(short.text, body) == body
    found = {name: restored(bytes(raw), body) for name, raw in short.values.items()}
    assert found == {name: bytes(raw) for name, raw in plain.values.items()}
    sizes = {name: full_size(raw) if len(raw) > module.BEGINNING_BYTES else None for name, raw in short.values.items()}
    assert all(size == len(plain.values[name]) for name, size in sizes.items() if size is not None)
    edits = []
    for fields in (plain, short):
        edit = Edits()
        edit.put(fields, ("a",), b'"new"')
        edit.put(fields, ("new", "inner"), b"1")
        edits.append(edit.apply(fields.text, body))
    assert edits[0] == edits[1]


@pytest.mark.parametrize("backslashes", range(BACKSLASHES_MAX + 3))
def test_a_quote_after_backslashes_ends_the_string_or_does_not(backslashes: int) -> None:
    end = b"\\" * backslashes + (b"" if backslashes % 2 == 0 else b'"')
    body = b'{"a": "%b%b", "model": "%b"}' % (LONG.encode(), end, LONG.encode())
    assert list(json.loads(body)) == ["a", "model"]
    short = shortened(body)
    assert restored(short, body) == body
    assert {name: len(value) for name, value in json.loads(body).items()} == {
        name: len(json.loads(restored(bytes(raw), body))) for name, raw in read_object(body).values.items()
    }


@pytest.mark.parametrize("before", ["", "\\\\", "\\n", "é", "\\u00e9", "\\ud83d\\ude00", "x\\"[:1]])
@pytest.mark.parametrize("place", range(module.BEGINNING_BYTES - 8, module.BEGINNING_BYTES + 2))
def test_the_beginning_that_stays_ends_in_no_escape_and_no_character(before: str, place: int) -> None:
    body = f'{{"model": "m", "text": "{"b" * place}{before}{LONG}"}}'.encode()
    fields = read_object(body)
    assert len(fields.text) < len(body)
    assert fields.string("text") == json.loads(body)["text"]


def test_a_large_image_is_counted_with_all_its_bytes_and_sent_as_it_came() -> None:
    body = chat(messages=[{"role": "user", "content": [IMAGE, {"type": "text", "text": "what is it?"}]}])
    request = read(body)
    assert len(request.fields.text) < 1_000
    assert (request.ask.input_bytes, request.ask.images) == (len(body), 1)
    assert len(LONG) < request.ask.image_bytes < len(LONG) + 100
    sent = request.upstream_body(model="other", output_tokens_max=7, output_field="max_tokens")
    assert json.loads(sent) == {**json.loads(body), "model": "other", "max_tokens": 7}


@pytest.mark.parametrize(
    "more",
    [
        b', "model": "dear"',
        b', "max_tokens": 1, "max_tokens": 2',
        b', "MAX_TOKENS": 1',
        b', "messages": []',
        b"",
    ],
)
def test_what_stands_behind_a_long_string_is_judged_as_ever(more: bytes) -> None:
    body = b'{"model": "gpt-5", "messages": [{"role": "user", "content": "%b"}]%b}' % (LONG.encode(), more)
    if not more:
        assert read(body).ask.unbounded_input == ""
        return
    with pytest.raises(Refused):
        read(body)


@pytest.mark.parametrize("text", [b'{"a": "%b', b'{"a": "%b"', b'{"a": "%b\\', b'"%b"', b'["%b"]', b'{"%b"}', b"%b"])
def test_what_is_no_object_is_none_with_long_strings_either(text: bytes) -> None:
    with pytest.raises(Refused):
        read_object(text % LONG.encode())


@pytest.mark.parametrize("wrong", [b"\\u", b"\\u00", b"\\x4", b'\\u123\\"', b'\\x1\\"', b"\\q"])
@pytest.mark.parametrize("behind", [b"", b"more"])
def test_what_is_no_json_is_none_in_a_long_string_either(wrong: bytes, behind: bytes) -> None:
    body = b'{"model": "m", "note": "%b%b%b", "messages": []}' % (LONG.encode(), wrong, behind)
    with pytest.raises(Refused, match="not valid JSON") as caught:
        read(body)
    (place,) = re.findall(r"byte (\d+)", str(caught.value)) or ("0",)
    assert int(place) >= len(LONG)


@pytest.mark.parametrize("wrong", [b"\n", b"\0", b"\x01"])
def test_a_control_character_is_the_providers_to_refuse_in_a_long_string_without_escapes(wrong: bytes) -> None:
    body = b'{"model": "m", "note": "%b%b", "messages": []}' % (LONG.encode(), wrong)
    assert read(body).body == body
    assert list(members(body)) == ["model", "note", "messages"]  # its input is estimated by what is in it
    with pytest.raises(Refused, match="not valid JSON"):
        read(body.replace(wrong, wrong + b"\\n"))


@pytest.mark.parametrize("first", ["\n", '"', "\\", "/"])
def test_a_string_that_begins_with_an_escape_counts_whole(first: str) -> None:
    text = first + LONG
    body = json.dumps({"model": "m", "query": text, "documents": ["a", "b", text]}).encode()
    escaped = len(json.dumps(text))
    for dialect, endpoint in ((OPENAI, "rerank"), (COHERE, "cohere.rerank")):
        asked = dialect.read_request(endpoint, body)
        assert read_object(body).text != body
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "TEXT_BYTES_MIN", 1 << 30)
            assert asked.ask == dialect.read_request(endpoint, body).ask
    assert full_size(read_object(body).values["query"]) == escaped
    url = chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": text}}]}])
    assert read(url).ask.image_bytes > len(text)


def test_an_end_user_with_a_long_name_is_the_same_each_time() -> None:
    first = read(chat(user=LONG, messages=[])).ask.end_user
    assert first == read(chat(messages=[{"role": "user", "content": LONG}], user=LONG)).ask.end_user
    assert first != read(chat(user=LONG + "b", messages=[])).ask.end_user


def test_a_mark_that_a_client_writes_is_text() -> None:
    body = chat(messages=[{"role": "user", "content": "<0123456789abcdef0123456789abcdef:0:10>" + LONG}])
    assert restored(shortened(body), body) == body


def test_code_is_not_gone_through_quote_by_quote() -> None:
    body = chat(messages=[{"role": "user", "content": '{"a": "b"}\n' * 100_000}], max_tokens=5)
    assert shortened(body) is body
    assert read(body).ask.output_tokens_max == 5


def test_names_that_decide_money_are_found_in_any_place() -> None:
    assert "cache_control" not in MONEY_NAMES  # found by its letters, wherever it is
    part = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert read(chat(messages=[{"role": "user", "content": [part]}])).ask.cache_write_ttl == "1h"
    spelled = {"type": "text", "text": LONG + '"cache_control" "ttl":"1h" \\u0061'}
    assert read(chat(messages=[{"role": "user", "content": [spelled]}])).ask.cache_write_ttl == ""
