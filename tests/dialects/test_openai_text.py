"""What an offline count needs of a request."""

import json
from typing import Any

from llmctl.dialects.base import InputText
from llmctl.dialects.openai.dialect import OPENAI


def text(endpoint: str, **body: Any) -> InputText:
    return OPENAI.input_text(OPENAI.read_request(endpoint, json.dumps({"model": "m", **body}).encode()))


def test_each_message_gives_its_role_and_its_text() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "42"},
        "rubbish",
    ]
    read = text("chat.completions", messages=messages, tools=[{"type": "function"}])
    assert read.messages == (
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "f{}"),
        ("tool", "42"),
        ("user", "rubbish"),
    )
    assert json.loads(read.tools) == [{"type": "function"}]
    assert read.framed


def test_a_response_gives_its_instructions_and_items() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "encrypted_content": "gAAA"},
        {"type": "function_call_output", "output": "42"},
    ]
    read = text("responses", instructions="Be brief.", input=items)
    assert read.messages == (("system", "Be brief."), ("user", "a"), ("user", "42"))


def test_prompts_and_token_numbers_have_no_frame() -> None:
    assert text("completions", prompt=["a", "b"]) == InputText((("user", "a"), ("user", "b")), framed=False)
    assert text("embeddings", input=[[1, 2], [3]]) == InputText((), framed=False, tokens=3)
