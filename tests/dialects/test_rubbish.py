"""Whatever clients and providers send, in every dialect and to every endpoint: requests are read or refused, answers
are read and pass as they came; nothing breaks, and no count is one that nobody could have used.

`make soak` takes more examples, and new ones each time."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.dialects.bedrock.usage import with_headers
from llmctl.dialects.endpoint import Endpoint
from llmctl.dialects.request import Request
from llmctl.dialects.table import AZURE_METERED, DIALECTS, FREE, METERED, NAMING
from llmctl.dialects.wire.multipart import Form, FormField, FormFile, FormReader
from llmctl.domain.call import Reading
from llmctl.domain.errors import Refused
from llmctl.domain.usage import COUNT_MAX, Usage

from .rubbish import FORM_PARTS, REQUESTS, SIZES, bodies, cut, encoded

ENDPOINTS = [
    endpoint
    for endpoint in (*METERED.values(), *AZURE_METERED.values(), *FREE.values(), *(one for _, one in NAMING))
    if endpoint.kind in ("metered", "free", "object")
]
GENTLE, HARD = 30, 5_000  # examples of each test and dialect
MODELS = ["m", "us.anthropic.claude-x", "amazon.nova-x", "meta.llama3", "cohere.rerank-x", "amazon.titan-embed-x"]

FILE = FormFile("file", "a.wav", 1_000, b"RIFF....WAVE")
A_FORM = Form(
    (FormField("model", b"m", 10, 11), FormField("prompt", b"x", 20, 21)), (FILE, FILE._replace(name="image"))
)


@cache
def request_of(endpoint: Endpoint) -> Request:
    """Some request to it that is none of the odd ones."""
    if endpoint.form_only and endpoint.read_form is not None:
        return endpoint.read_form(endpoint.name, A_FORM, "m")
    for more in (
        {},
        {"input": "x"},
        {"prompt": "x"},
        {"texts": ["x"]},
        {"query": "q", "documents": ["d"]},
        {"instances": [{"content": "x"}]},
    ):
        body = {"messages": [], "max_tokens": 5, "model": "m", **more}
        try:
            return endpoint.dialect.read_request(endpoint.name, encoded(body), "m")
        except Refused:
            continue
    return endpoint.dialect.read_request(endpoint.name, b"{}", "m")


# ---- the tests ----


def refused_or_read(endpoint: Endpoint, body: bytes, model: str) -> None:
    try:
        request = endpoint.dialect.read_request(endpoint.name, body, model)
        capped = None if endpoint.kind == "object" else 3  # what is asked about an object generates nothing
        sent = request.upstream_body(
            model="x", output_tokens_max=capped, output_field="options.num_predict", inject_usage=True
        )
    except Refused as error:
        assert error.code in ("bad_request", "not_supported")
        assert error.message
        return
    if endpoint.kind != "object":
        json.loads(sent)
    assert_asked(request)
    endpoint.dialect.input_text(request)


def assert_asked(request: Request) -> None:
    ask = request.ask
    assert ask.output_tokens_max is None or 0 <= ask.output_tokens_max <= COUNT_MAX
    assert ask.output_multiplier >= 1
    assert ask.input_bytes >= 0
    assert ask.images >= 0
    assert 0 <= ask.image_bytes <= max(ask.input_bytes, len(request.body))
    assert ask.server_tool_turns >= -1
    assert all(0 <= most <= 10 * COUNT_MAX for _, most in ask.units)
    assert len(ask.model) <= 200


def answers_pass(endpoint: Endpoint, body: bytes, sizes: list[int]) -> None:
    dialect, request = endpoint.dialect, request_of(endpoint)
    reader = dialect.reader(endpoint.name, request)
    for piece in cut(body, sizes):
        assert reader.feed(piece) is piece
    rest, reading = reader.close(), reader.reading()
    assert rest == b""
    assert_sound(endpoint, reading)
    assert all(dialect.stream_texts(body))
    whole = dialect.read_answer(endpoint.name, body)
    assert_sound(endpoint, whole)
    if endpoint.answer_headers is not None:
        names = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")
        assert_sound(endpoint, with_headers(whole, dict.fromkeys(names, body[:20].decode("latin-1"))))


def stripped_alike(endpoint: Endpoint, body: bytes, sizes: list[int]) -> None:
    """What is taken out does not depend on where the chunks end, and nothing is made up."""
    found = []
    for pieces in (cut(body, sizes), cut(body, [])):
        reader = endpoint.dialect.reader(endpoint.name, request_of(endpoint), True)
        forwarded = b"".join(map(reader.feed, pieces))
        rest, reading = reader.close(), reader.reading()
        found.append((forwarded + rest, reading))
        assert_sound(endpoint, reading)
    assert found[0] == found[1]
    left = iter(body)
    assert all(byte in left for byte in found[0][0])  # in their order, some left out


def assert_sound(endpoint: Endpoint, reading: Reading) -> None:
    if reading.reported_cost_nano_usd is not None:
        assert reading.reported_cost_nano_usd >= 0
    assert 0 <= reading.output_seen_share <= 1
    for name in (reading.response_model, reading.service_tier, reading.error, reading.object_id, reading.status):
        assert len(name) <= 200
        assert name.isprintable()
    if reading.usage is not None:
        assert_countable(reading.usage)
        again = endpoint.dialect.read_usage(endpoint.name, reading.raw_usage)
        assert again is not None
        assert_countable(again)
        if endpoint.dialect.name in ("cohere", "ollama", "bedrock"):  # all of it stands in the usage object
            assert again == reading.usage


def assert_countable(usage: Usage) -> None:
    assert min(usage) >= 0
    assert max(usage) <= 5 * COUNT_MAX  # totals are sums of up to five figures
    assert usage.input_tokens >= usage.cache_read_tokens + usage.cache_write_tokens
    assert usage.cache_write_tokens >= usage.cache_write_1h_tokens
    assert usage.input_tokens >= usage.input_image_tokens
    assert usage.output_tokens >= usage.reasoning_tokens


EVERY_DIALECT = pytest.mark.parametrize("dialect", DIALECTS)
HARDNESS = pytest.mark.parametrize(
    "examples", [pytest.param(GENTLE, id="gently"), pytest.param(HARD, id="hard", marks=pytest.mark.soak)]
)


def of(dialect: str, *, forms: bool = False) -> st.SearchStrategy[Endpoint]:
    """One of the endpoints of a dialect that take JSON, or forms."""
    return st.sampled_from(
        [one for one in ENDPOINTS if one.dialect.name == dialect and (one.read_form if forms else not one.form_only)]
    )


@EVERY_DIALECT
@HARDNESS
def test_any_json_is_a_request_or_refused(dialect: str, examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(of(dialect), REQUESTS, st.sampled_from(MODELS), st.booleans())
    def holds(endpoint: Endpoint, body: dict[str, Any], model: str, named: bool) -> None:
        refused_or_read(endpoint, encoded({"model": "m", **body} if named else body), model)

    holds()


@EVERY_DIALECT
@HARDNESS
def test_any_bytes_are_a_request_or_refused(dialect: str, examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(of(dialect), bodies())
    def holds(endpoint: Endpoint, body: bytes) -> None:
        refused_or_read(endpoint, body, "m")

    holds()


@pytest.mark.parametrize("dialect", sorted({one.dialect.name for one in ENDPOINTS if one.read_form}))
@HARDNESS
def test_any_form_is_a_request_or_refused(dialect: str, examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(of(dialect, forms=True), FORM_PARTS, SIZES, st.booleans())
    def holds(endpoint: Endpoint, parts: list[bytes], sizes: list[int], whole: bool) -> None:
        body = b"".join([*parts, b"--b--\r\n"] if whole else parts)
        assert endpoint.read_form is not None
        try:
            reader = FormReader("multipart/form-data; boundary=b")
            for piece in cut(body, sizes):
                reader.feed(piece)
            request = endpoint.read_form(endpoint.name, reader.close(), "m")
        except Refused as error:
            assert error.code in ("bad_request", "not_supported")
            return
        request.form_edits("x")
        assert_asked(request)

    holds()


@EVERY_DIALECT
@HARDNESS
def test_any_answer_passes_as_it_came_and_is_read_without_harm(dialect: str, examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(of(dialect) | of(dialect, forms=True) if dialect in ("openai", "azure") else of(dialect), bodies(), SIZES)
    def holds(endpoint: Endpoint, body: bytes, sizes: list[int]) -> None:
        answers_pass(endpoint, body, sizes)

    holds()


@EVERY_DIALECT
@HARDNESS
def test_what_is_taken_out_of_a_stream_is_the_same_wherever_chunks_end(dialect: str, examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(of(dialect), bodies(), SIZES)
    def holds(endpoint: Endpoint, body: bytes, sizes: list[int]) -> None:
        stripped_alike(endpoint, body, sizes)

    holds()


@pytest.mark.parametrize(
    "depth", [600, pytest.param(150, marks=pytest.mark.soak), pytest.param(900, marks=pytest.mark.soak)]
)
def test_what_is_nested_deeply_is_a_request_or_refused(depth: int) -> None:
    deep = [b"[" * depth + b"1" + b"]" * depth, b'{"content":' * depth + b'"x"' + b"}" * depth]
    deep += [b'[{"role":"user","content":%b}]' % one for one in deep]
    usual = {
        "messages": b"[]",
        "input": b'"x"',
        "prompt": b'"x"',
        "max_tokens": b"5",
        "query": b'"q"',
        "documents": b"[]",
    }
    for endpoint in ENDPOINTS:
        if endpoint.kind == "object" or endpoint.form_only:
            continue
        for name, value in itertools.product("messages input prompt contents texts tools system".split(), deep):
            body = b",".join(b'"%b":%b' % (one.encode(), text) for one, text in {**usual, name: value}.items())
            refused_or_read(endpoint, b'{"model":"m","max_tokens":5,%b}' % body, "m")
