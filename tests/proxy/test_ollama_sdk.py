"""Ollama's SDK through the gateway: what it is told is what is booked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ollama
import pytest

from tests.support.daemon import Daemon

from .recorder import Recorder

COUNTS = {"done": True, "done_reason": "stop", "total_duration": 9, "prompt_eval_count": 30, "eval_count": 12}


def piece(**more: Any) -> bytes:
    return json.dumps({"model": "llama-o", "created_at": "2026-01-01T00:00:00Z", **more}).encode() + b"\n"


def says(text: str, **more: Any) -> bytes:
    return piece(message={"role": "assistant", "content": text}, **{"done": False, **more})


@pytest.fixture(scope="module")
def user(native: Daemon) -> Iterator[ollama.Client]:
    with client(native, native.add_user("olga")) as user:
        yield user


def client(native: Daemon, key: str) -> ollama.Client:
    return ollama.Client(host=native.url, headers={"Authorization": f"Bearer {key}"})


def last(native: Daemon) -> dict[str, Any]:
    return native.calls("--user", "olga", "-n", "1", count=1)[0]


def chat(user: ollama.Client, **more: Any) -> Any:
    return user.chat(model="llama-o", messages=[{"role": "user", "content": "Hi"}], **more)


def test_a_stream_of_lines_reaches_the_sdk_and_is_booked(
    native: Daemon, user: ollama.Client, recorder: Recorder
) -> None:
    recorder.reply(
        says("na"), says("ïve")[:20], says("ïve")[20:] + says("", **COUNTS), Content_Type="application/x-ndjson"
    )
    told = list(chat(user, stream=True))
    assert "".join(part.message.content for part in told) == "naïve"
    assert (told[-1].prompt_eval_count, told[-1].eval_count) == (30, 12)
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (30, 12, "reported")
    assert (row["dialect"], row["endpoint"], row["stream"]) == ("ollama", "ollama.chat", True)
    assert Decimal(row["cost_usd"]) == Decimal(30 + 2 * 12) / 1_000_000
    assert recorder.last.path == "/api/chat"
    assert recorder.last.headers["Authorization"] == f"Bearer {recorder.api_key}"


def test_whole_answers_generated_text_and_embeddings(native: Daemon, user: ollama.Client, recorder: Recorder) -> None:
    recorder.reply(says("Hello", **COUNTS), Content_Type="application/json; charset=utf-8")
    assert chat(user).message.content == "Hello"
    assert last(native)["output_tokens"] == 12
    recorder.reply(piece(response="Hello", context=[1], **COUNTS), Content_Type="application/json")
    assert user.generate(model="llama-o", prompt="Hi").response == "Hello"
    assert last(native)["endpoint"] == "ollama.generate"
    recorder.reply(piece(embeddings=[[0.5]], prompt_eval_count=4), Content_Type="application/json")
    assert user.embed(model="llama-o", input=["a"]).embeddings == [[0.5]]
    row = last(native)
    assert (row["endpoint"], row["input_tokens"], row["output_tokens"]) == ("ollama.embed", 4, 0)


def test_loading_a_model_costs_nothing(native: Daemon, user: ollama.Client, recorder: Recorder) -> None:
    recorder.reply(says("", done=True, done_reason="load"), Content_Type="application/json")
    assert user.chat(model="llama-o", messages=[], keep_alive=60).done_reason == "load"
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], Decimal(row["cost_usd"])) == (0, 0, 0)


def test_near_the_end_of_a_limit_num_predict_is_lowered(native: Daemon, recorder: Recorder) -> None:
    secret = native.add_user("olga-capped")
    native.here("limit", "set", "--user", "olga-capped", "--cost", "0.01", "--per", "month")
    recorder.reply(says("Hello", **COUNTS), Content_Type="application/json")
    with client(native, secret) as user:
        chat(user, options={"num_predict": -1, "seed": 7})
    assert 256 <= recorder.last.json["options"]["num_predict"] < 5_000
    assert recorder.last.json["options"]["seed"] == 7


def test_refusals_and_errors_are_what_the_sdk_reads(native: Daemon, user: ollama.Client, recorder: Recorder) -> None:
    secret = native.add_user("olga-spent")
    native.here("limit", "set", "--user", "olga-spent", "--requests", "1", "--per", "total")
    recorder.reply(says("Hello", **COUNTS), Content_Type="application/json")
    with client(native, secret) as spender:
        chat(spender)
        with pytest.raises(ollama.ResponseError) as refused:
            chat(spender)
    assert (refused.value.status_code, "olga-spent" in refused.value.error) == (429, True)
    recorder.reply(b'{"error":"model \'llama-o\' not found"}', status=404, Content_Type="application/json")
    with pytest.raises(ollama.ResponseError, match="not found"):
        chat(user)
    recorder.reply(says("He"), b'{"error":"out of memory"}\n', Content_Type="application/x-ndjson")
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        list(chat(user, stream=True))
    assert last(native)["error"] == "error"


def test_models_are_listed_and_shown_but_not_managed(native: Daemon, user: ollama.Client, recorder: Recorder) -> None:
    assert [model.model for model in user.list().models] == ["ollama/echo-1", "ollama/echo-2", "ollama/other-1"]
    recorder.reply(b'{"template":"x","model_info":{},"capabilities":["completion"]}', Content_Type="application/json")
    assert user.show("llama-o").capabilities == ["completion"]
    row = last(native)
    assert (row["endpoint"], Decimal(row["cost_usd"])) == ("ollama.show", 0)
    for manage in (user.pull, user.push, user.delete):
        with pytest.raises(ollama.ResponseError) as refused:
            manage("llama-o")
        assert (refused.value.status_code, "admin" in refused.value.error) == (404, True)
    with pytest.raises(ollama.ResponseError):
        user.ps()
    key = native.add_user("olga-version")
    assert native.send("/api/version", key=key, method="GET").json["version"]
    assert native.send("/api/blobs/sha256:0a1b", key=key, method="HEAD").status == 404
