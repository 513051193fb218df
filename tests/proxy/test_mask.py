"""A provider that repeats our credential does not give it away."""

from __future__ import annotations

import gzip
import json

import pytest

from llmctl.proxy.relay import Mask
from tests.support.daemon import Daemon

from .recorder import Recorder
from .test_bytes import CHAT, EVENTS

SECRET = "sk-proj-0123456789abcdef/ghi+jkl="
TEXT = f'data: {{"echo": "Bearer {SECRET}"}}\n\ndata: [DONE]\n\n'.encode()


def passed(mask: Mask, *chunks: bytes) -> bytes:
    return b"".join([*(mask.feed(chunk) for chunk in chunks), mask.close(b"")])


def test_each_part_of_a_credential_is_masked_by_itself() -> None:
    mask = Mask("AKIAIOSFODNN7EXAMPLE", SECRET, "short")
    text = f"Credential=AKIAIOSFODNN7EXAMPLE/20261126 {SECRET} short".encode()
    assert mask.whole(text) == b"Credential=***/20261126 *** short"


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
def test_wherever_it_is_cut(cut: int) -> None:
    assert passed(Mask(SECRET), TEXT[:cut], TEXT[cut:]) == TEXT.replace(SECRET.encode(), b"***")


def test_letter_by_letter() -> None:
    assert passed(Mask(SECRET), *(bytes([byte]) for byte in TEXT)) == TEXT.replace(SECRET.encode(), b"***")


@pytest.mark.parametrize(
    "spelled",
    [
        {"/": "\\/"},  # PHP
        {"+": "\\u002B"},  # .NET
        {"+": "\\u002B", "/": "\\u002F"},
        {"=": "\\u003d"},  # Gson
    ],
)
def test_as_json_may_spell_it(spelled: dict[str, str]) -> None:
    text = json.dumps({"echo": SECRET})
    for char, escape in spelled.items():
        text = text.replace(char, escape)
    assert json.loads(text) == {"echo": SECRET}
    assert json.loads(passed(Mask(SECRET), text.encode())) == {"echo": "***"}


def test_what_only_begins_like_it_is_whole_at_the_end() -> None:
    for chunks in ([b"the prefix is sk-proj-", b"", b"0123 and no more"], [b"it ends in sk-pro"], [b"s"], [b"sk-sk-"]):
        assert passed(Mask(SECRET), *chunks) == b"".join(chunks)


def test_nothing_is_held_back_at_the_end_of_an_event() -> None:
    mask = Mask(SECRET)
    for event in (b'data: {"delta": "sk-"}\n\n', b"event: ping\r\n\r\n"):
        assert mask.feed(event) == event


@pytest.mark.parametrize("secret", ["", "x", "EMPTY", "sk-1234", "ollama"])
def test_a_placeholder_is_no_secret(secret: str) -> None:
    text = b"ollama: an EMPTY box, xylophones and sk-1234"
    assert Mask(secret).feed(text) == Mask(secret).whole(text) == text


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_repeats_it(gateway: Daemon, key: str, recorder: Recorder, stream: bool) -> None:
    secret = recorder.api_key
    text = json.dumps({"choices": [{"delta": {"content": f"you sent {secret}."}}]})
    cut = text.index(secret) + 5
    if stream:
        pieces, content_type = (f"data: {text[:cut]}".encode(), f"{text[cut:]}\n\ndata: [DONE]\n\n".encode()), EVENTS
    else:
        pieces, content_type = (text[:cut].encode(), text[cut:].encode()), "application/json"
    recorder.reply(*pieces, content_type=content_type)
    answer = gateway.send(CHAT, {"model": "echo-1", "messages": [], "stream": stream}, key=key)
    assert answer.body == b"".join(pieces).replace(secret.encode(), b"***")


def test_a_refusal_that_nobody_here_can_read_does_not_pass(gateway: Daemon, key: str, recorder: Recorder) -> None:
    packed = gzip.compress(gzip.compress(recorder.api_key.encode()))
    recorder.reply(packed, status=400, Content_Type="application/json", Content_Encoding="gzip, gzip")
    answer = gateway.send(CHAT, {"model": "echo-1", "messages": []}, key=key)
    assert (answer.status, answer.headers["content-encoding"]) == (400, None)
    assert answer.json["error"]["message"].endswith("HTTP 400, and the rest cannot be read")
