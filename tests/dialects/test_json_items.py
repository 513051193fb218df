"""Objects of a JSON list, cut out of a stream."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.wire import json_items
from llmctl.dialects.wire.json_items import ItemSplitter

values = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='{}[]",\\ aé', max_size=8),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, max_size=4), st.sampled_from([None, 2]), st.integers(1, 20), st.booleans())
def test_each_object_is_found_whole_and_no_byte_is_lost(
    objects: list[Any], indent: int | None, size: int, ascii_only: bool
) -> None:
    body = b" \n" + json.dumps(objects, indent=indent, ensure_ascii=ascii_only).encode() + b"\r\n"
    splitter = ItemSplitter()
    found = [item for at in range(0, len(body), size) for item in splitter.feed(body[at : at + size])]
    assert [json.loads(item.data) for item in found] == objects
    assert b"".join(item.raw for item in found + splitter.close()) == body


def test_an_object_too_long_to_be_read_passes_unread(monkeypatch: Any) -> None:
    monkeypatch.setattr(json_items, "EVENT_BYTES_MAX", 50)
    splitter = ItemSplitter()
    body = b'[{"a": "' + b"x" * 200 + b'"}, {"b": 1}]'
    found = [item for at in range(0, len(body), 16) for item in splitter.feed(body[at : at + 16])]
    assert [item.oversized for item in found[:-1]] == [True] * (len(found) - 1)
    assert len(found) > 1
    assert json.loads(found[-1].data) == {"b": 1}
    assert not found[-1].oversized
    assert splitter.held < 50
