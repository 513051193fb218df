"""Forms: read alike however they come in pieces, and refused where two readers may read them differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.dialects.wire.multipart import BEGINNING_BYTES, FIELD_BYTES_MAX, PARTS_MAX, Form, FormFields, FormReader
from llmctl.domain.errors import Refused

TYPE = "multipart/form-data; boundary=XyZ"
KNOWN = frozenset({"model", "n"})


def part(disposition: str, value: bytes, *headers: str) -> bytes:
    head = "\r\n".join((f"Content-Disposition: form-data; {disposition}", *headers))
    return b"--XyZ\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XyZ--\r\n"


MODEL = part('name="model"', b"whisper-1")
FILE = part('name="file"; filename="a b.wav"', b"RIFF\r\n--XyY\r\n" * 100, "Content-Type: audio/wav")


def read(body: bytes, *, content_type: str = TYPE, size: int = 1 << 20) -> Form:
    reader = FormReader(content_type)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.close()


def refused(body: bytes, content_type: str = TYPE) -> str:
    with pytest.raises(Refused) as caught:
        FormFields(read(body, content_type=content_type), KNOWN)
    assert caught.value.code == "bad_request"
    return caught.value.message


@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1))
def test_any_form_is_read_alike_in_pieces_of_any_size(values: list[bytes], content: bytes, sizes: list[int]) -> None:
    body = form(*(part(f'name="f{i}"', value) for i, value in enumerate(values)), part("name=x; filename=y", content))
    try:
        whole = read(body)
    except Refused:
        assert b"--XyZ" in b"\r\n".join((*values, content))
        return
    reader, position, turn = FormReader(TYPE), 0, 0
    while position < len(body):
        size = sizes[turn % len(sizes)]
        reader.feed(body[position : position + size])
        position, turn = position + size, turn + 1
    assert reader.close() == whole
    assert [body[field.start : field.end] for field in whole.fields] == values
    assert [(file.size, file.beginning) for file in whole.files] == [(len(content), content[:BEGINNING_BYTES])]


def test_fields_and_files_are_told_apart() -> None:
    found = read(form(MODEL, FILE, part('name="include[]"', b"logprobs"), part('name="include[]"', b"more")))
    assert [(field.name, field.value) for field in found.fields] == [
        ("model", b"whisper-1"),
        ("include[]", b"logprobs"),
        ("include[]", b"more"),
    ]
    assert [(file.name, file.filename, file.size) for file in found.files] == [("file", "a b.wav", 1_300)]


@pytest.mark.parametrize("disposition", ["name=model", 'name="model"', 'name="model" ', "name = model"])
def test_names_may_be_written_as_http_allows(disposition: str) -> None:
    fields = FormFields(read(form(part(disposition, b"m", "Content-Type: text/plain; charset=utf-8"))), KNOWN)
    assert fields.string("model") == "m"


def test_a_boundary_may_be_quoted_and_the_last_line_unended() -> None:
    assert read(form(MODEL)[:-2], content_type='multipart/form-data; boundary="XyZ"').fields[0].value == b"whisper-1"


def test_values_are_read_strictly() -> None:
    parts = [part(f'name="{name}"', value.encode()) for name, value in {"n": "3", "stream": "true", "e": ""}.items()]
    fields = FormFields(read(form(*parts)), KNOWN)
    assert (fields.integer("n"), fields.boolean("stream"), fields.string("e"), "e" in fields) == (3, True, None, False)
    for value in (b"3.0", b"-1", b" 3", b"\xff", "\u0663".encode()):
        with pytest.raises(Refused):
            FormFields(read(form(part('name="n"', value))), KNOWN).integer("n")
    with pytest.raises(Refused):
        FormFields(read(form(part('name="stream"', b"yes"))), KNOWN).boolean("stream")


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, MODEL),
        form(part('name="MODEL"', b"m")),
        form(part('name="model[]"', b"m")),
        form(part('name="model[0]"', b"m")),
        form(part('name="model"; filename="m"', b"m")),
        form(part('name="model"; filename=""', b"m")),
        form(part('name="model"; name="file"', b"m")),
        form(part("name*=utf-8''model", b"m")),
        form(part('name="mo\\del"', b"m")),
        form(part('name="file"; filename="a\\"; name=\\"model"', b"m")),
        form(part('name="model', b"m")),
        form(part('name=""', b"m")),
        form(part("", b"m")),
        form(part('name="model"; x=y', b"m")),
        form(part('name="_charset_"', b"utf-16")),
        form(part('name="model"', b"m", "Content-Type: text/plain; charset=utf-16")),
        form(part('name="model"', b"bQ==", "Content-Transfer-Encoding: base64")),
        form(part('name="model"', b"m", 'Content-Disposition: form-data; name="file"')),
        form(part('name="model"', b"m", " folded")),
        form(MODEL).replace(b"form-data", b"attachment"),
        form(MODEL).replace(b"\r\n", b"\n"),
        form(MODEL)[:-4],
        form(MODEL)[:-20],
        form(MODEL) + b"--XyZ--",
        form(MODEL) + form(part('name="model"', b"n")),
        b"preamble\r\n" + form(MODEL),
        form(MODEL).replace(b"--XyZ\r\n", b"--XyZ \r\n"),
        form(part('name="x"', b"a\r\n--XyZevil")),
        form(part('name="x"', b"a" * (FIELD_BYTES_MAX + 1))),
        form(*[part(f'name="x{i}"', b"a" * FIELD_BYTES_MAX) for i in range(5)]),
        form(*[part(f'name="x{i}"', b"") for i in range(PARTS_MAX + 1)]),
        b"--XyZ\r\nContent-Disposition: " + b"x" * 5_000,
        b"",
    ],
)
def test_what_two_readers_may_read_differently_is_refused(body: bytes) -> None:
    assert refused(body).startswith("the form ")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/mixed; boundary=XyZ",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=XyZ; boundary=Abc",
        f"multipart/form-data; boundary={'x' * 71}",
        'multipart/form-data; boundary="Xy"Z"',
    ],
)
def test_a_form_needs_one_boundary(content_type: str) -> None:
    assert "boundary" in refused(form(MODEL), content_type)
