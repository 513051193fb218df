"""Offline counts against what OpenAI billed, where there is a recording (LLMCTL_CORPUS)."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmctl import tokenizer
from llmctl.dialects.openai.dialect import OPENAI

CORPUS = os.environ.get("LLMCTL_CORPUS", "")
ENDPOINTS = ("chat.completions", "completions", "responses")
NOT_TEXT_ALONE = ("tools", "functions", "response_format", "text", "prompt_cache_key")


@pytest.mark.skipif(not CORPUS, reason="LLMCTL_CORPUS names no recording")
def test_text_prompts_are_counted_within_one_token_of_what_was_billed(tmp_path: Path) -> None:
    tokenizer.configure(tmp_path)
    off = [difference(exchange) for exchange in exchanges()]
    near = sum(abs(tokens) <= 1 for tokens in off)
    assert len(off) > 250
    assert near >= 0.95 * len(off), f"{near} of {len(off)}"


def exchanges() -> list[dict[str, Any]]:
    with gzip.open(CORPUS) as lines:
        return [one for one in map(json.loads, lines) if is_text_alone(one)]


def is_text_alone(exchange: dict[str, Any]) -> bool:
    if exchange["provider"] != "openai" or exchange["endpoint"] not in ENDPOINTS or exchange["status"] != 200:
        return False
    if not exchange.get("truth"):
        return False
    body = json.loads(exchange["request_body"])
    if not body.get("model") or any(name in body for name in NOT_TEXT_ALONE):
        return False
    items = body.get("messages") or body.get("input") or []
    if not isinstance(items, str) and any(is_of_a_tool(item) for item in items):
        return False
    ask = OPENAI.read_request(exchange["endpoint"], exchange["request_body"].encode()).ask
    return not ask.unbounded_input and not ask.server_tool_turns


def is_of_a_tool(item: Any) -> bool:
    return not isinstance(item, dict) or "tool_calls" in item or item.get("type", "message") != "message"


def difference(exchange: dict[str, Any]) -> int:
    request = OPENAI.read_request(exchange["endpoint"], exchange["request_body"].encode())
    text, model = OPENAI.input_text(request), request.ask.model
    if text.framed:
        counted = tokenizer.count_chat([tokenizer.ChatText(role, said) for role, said in text.messages], model)
    else:
        counted = text.tokens + sum(tokenizer.count(said, model) for _, said in text.messages)
    usage = exchange["truth"]["usage_raw"]
    return counted - int(usage.get("prompt_tokens", usage.get("input_tokens")))
