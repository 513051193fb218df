"""How OpenAI's responses look, whole and as events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .brain import Answer, Prompt
from .wire import new_id


def unfinished(shell: dict[str, Any], status: str) -> dict[str, Any]:
    """Before its end, or cut off before it: OpenAI reports no usage of those."""
    return {**shell, "status": status}


def finished(shell: dict[str, Any], prompt: Prompt, answer: Answer, item_id: str) -> dict[str, Any]:
    cut = answer.finish == "length"
    return {
        **shell,
        "status": _status(answer),
        "completed_at": None if cut else int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_item(item_id, _status(answer), [_part(answer.text)])],
        "usage": usage(prompt.input_tokens, answer.tokens),
    }


def compacted(items: list[dict[str, Any]], prompt: Prompt, secret: str, tokens: int) -> dict[str, Any]:
    item = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": secret}
    return {
        "id": new_id("resp_"),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [*(item for item in items if item.get("role") == "user"), item],
        "usage": usage(prompt.input_tokens, tokens),
    }


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def events(shell: dict[str, Any], prompt: Prompt, answer: Answer, item_id: str) -> Iterator[dict[str, Any]]:
    """The terminal event carries the status as its name, and there is no [DONE]."""
    for number, event in enumerate(_events(shell, prompt, answer, item_id)):
        yield {**event, "sequence_number": number}


def _events(shell: dict[str, Any], prompt: Prompt, answer: Answer, item_id: str) -> Iterator[dict[str, Any]]:
    of_item = {"output_index": 0}
    of_part = {"item_id": item_id, "output_index": 0, "content_index": 0}
    part = _part(answer.text)
    yield {"type": "response.created", "response": shell}
    yield {"type": "response.in_progress", "response": unfinished(shell, "in_progress")}
    yield {"type": "response.output_item.added", **of_item, "item": _item(item_id, "in_progress", [])}
    yield {"type": "response.content_part.added", **of_part, "part": _part("")}
    for piece in answer.pieces:
        yield {"type": "response.output_text.delta", **of_part, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **of_part, "text": answer.text, "logprobs": []}
    yield {"type": "response.content_part.done", **of_part, "part": part}
    yield {"type": "response.output_item.done", **of_item, "item": _item(item_id, _status(answer), [part])}
    yield {
        "type": f"response.{_status(answer)}",
        "response": finished(shell, prompt, answer, item_id),
    }


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish == "length" else "completed"


def _item(item_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
